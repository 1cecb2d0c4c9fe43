package server

import (
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"ds4/runtime/chat"
	"ds4/runtime/scheduler"
)

// begins, adds and ends are the events of a tool call.
func begins(i int, name string) scheduler.Event {
	return scheduler.Event{Kind: scheduler.EventCall, Index: i, Text: name}
}

func adds(i int, arguments string) scheduler.Event {
	return scheduler.Event{Kind: scheduler.EventArguments, Index: i, Text: arguments}
}

func ends(i int) scheduler.Event { return scheduler.Event{Kind: scheduler.EventCallEnd, Index: i} }

// ended is done with a change to the result.
func ended(finish string, change func(*scheduler.Result)) scheduler.Event {
	e := done(finish)
	change(e.Result)
	return e
}

// malformed ends an answer with a block of calls that is none.
func malformed(block string) scheduler.Event {
	return ended(scheduler.FinishStop, func(r *scheduler.Result) {
		r.Problem, r.Block = scheduler.ProblemMalformed, chat.Block{Closed: true, Cache: []byte(block)}
	})
}

func init() {
	maps.Copy(scripts, map[string]*fakeScheduler{
		"calls": {submit: play(reasoning("h"), reasoning("m"), text("Look"), text("ing."),
			begins(0, "get_weather"), adds(0, `{"city":`), adds(0, `"<Paris>"}`), ends(0),
			begins(1, "patch"), adds(1, `{"input":"`), adds(1, `*** \"x\"`), adds(1, `\n"}`), ends(1), done(scheduler.FinishToolCalls))},
		"bad-block":      {submit: play(text("Hm."), malformed("\n\n<TAG>"))},
		"bad-block-late": {submit: play(begins(0, "f"), adds(0, `{"a":[`), malformed("<TAG>"))},
		"search":         {submit: play(begins(0, "tool_search"), adds(0, `{"query":"q"}`), ends(0), done(scheduler.FinishToolCalls))},
		"cut-call": {submit: play(begins(0, "get_weather"), adds(0, `{"city":"Par`),
			ended(scheduler.FinishError, func(r *scheduler.Result) { r.Short, r.Problem = true, scheduler.ProblemUnterminated }))},
		"cut-block": {submit: play(begins(0, "get_weather"), adds(0, `{"city":"Paris"}`), ends(0), begins(1, "get_weather"), adds(1, `{}`), ends(1),
			ended(scheduler.FinishError, func(r *scheduler.Result) { r.Short, r.Problem = true, scheduler.ProblemUnterminated }))},
		"open-call": {submit: play(begins(0, "get_weather"), adds(0, `{"city":"Par`),
			ended(scheduler.FinishError, func(r *scheduler.Result) { r.Problem = scheduler.ProblemUnterminated }))},
		"stop-string": {submit: play(text("one "),
			ended(scheduler.FinishStop, func(r *scheduler.Result) { r.StopString = "two" }))},
	})
}

var (
	randomID = regexp.MustCompile(`\b(call_|toolu_|msg_|resp_|rs_|fc_|ctc_|tsc_)[0-9a-f]{24,32}\b`)
	timing   = regexp.MustCompile(`"(queue|restore|prefill|decode)_ms":[0-9.e-]+`)
	length   = regexp.MustCompile(`(?m)^Content-Length: \d+$`)
)

// masked numbers the random ids of an answer in the order in which they appear, so that
// it can be compared and still shows which of them are the same.
func masked(answer string) string {
	seen := map[string]string{}
	return randomID.ReplaceAllStringFunc(answer, func(id string) string {
		if seen[id] == "" {
			seen[id] = fmt.Sprintf("%s%d", randomID.FindStringSubmatch(id)[1], len(seen)+1)
		}
		return seen[id]
	})
}

var (
	deltaEvent = regexp.MustCompile(`"type":"[a-z_.]+[_.]delta"|"object":"(chat.completion.chunk|text_completion)"`)
	growing    = regexp.MustCompile(`"(text|thinking|partial_json|delta|arguments|content)":"((?:[^"\\]|\\.)*)"`)
	numbered   = regexp.MustCompile(`"sequence_number":\d+`)
)

// joined puts pieces of a stream together that follow each other and grow the same
// thing: how many of them there are depends on how fast the client takes them. Events
// are numbered anew.
func joined(answer string) string {
	var events []string
	last, frame := "", "" // what grows in the last event, and the event without it
	number := 0
	for _, e := range strings.Split(answer, "\n\n") {
		text, rest := "", ""
		if at := growing.FindStringSubmatchIndex(e); at != nil && deltaEvent.MatchString(e) {
			text, rest = e[at[4]:at[5]], numbered.ReplaceAllString(e[:at[4]]+"\x00"+e[at[5]:], "")
		}
		if rest != "" && rest == frame {
			last += text
			events = events[:len(events)-1]
			number--
			at := growing.FindStringSubmatchIndex(e)
			e = e[:at[4]] + last + e[at[5]:]
		} else {
			last, frame = text, rest
		}
		if numbered.MatchString(e) {
			e = numbered.ReplaceAllString(e, fmt.Sprintf(`"sequence_number":%d`, number))
			number++
		}
		events = append(events, e)
	}
	return strings.Join(events, "\n\n")
}

// TestProtocolTranscripts replays raw requests of each protocol against a scheduler
// that follows a script:
//
//	http script=answer
func TestProtocolTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/protocols", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var name string
			d.ScanArgs(t, "script", &name)
			script, ok := scripts[name]
			if !ok {
				d.Fatalf(t, "unknown script %s", name)
			}
			return masked(exchange(t, listen(t, newTestServer(t, script, nil)), d.Input))
		})
	})
}

// TestWholeTranscripts replays raw requests against the embedded model, all of a file
// against one server, so that later requests find what earlier ones left:
//
//	http
func TestWholeTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/whole", func(t *testing.T, path string) {
		w := newWhole(t, "", nil)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			answer := masked(joined(exchange(t, w.url, d.Input)))
			answer = timing.ReplaceAllString(answer, `"${1}_ms":0`)
			return length.ReplaceAllString(answer, "Content-Length: N")
		})
	})
}
