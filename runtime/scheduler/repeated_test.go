package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"ds4/metal/cpu"
	"ds4/runtime/chat"
	"ds4/runtime/engine"
	"ds4/runtime/model"
)

// What later prompts repeat of an answer, and what not.

// addTool is one that the embedded model knows.
var addTool = chat.Tool{
	Name: "add", Description: "Add two integers",
	Parameters: `{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"required":["a","b"]}`,
}

// converse renders messages with tools.
func converse(t *testing.T, opt chat.Options, list ...chat.Message) *Request {
	t.Helper()
	opt.ContextTokens = testContext
	p, err := chat.Render(list, opt)
	if err != nil {
		t.Fatal(err)
	}
	return &Request{Prompt: p, MaxTokens: 12, Thinking: opt.Thinking != chat.None, Tools: len(opt.Tools) > 0}
}

func says(role, text string) chat.Message { return chat.Message{Role: role, Content: text} }

// sensibleWorld is a cache folder for the embedded model.
func sensibleWorld(t *testing.T) *world {
	t.Helper()
	l, err := embedded()
	if err != nil {
		t.Fatal(err)
	}
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	eng, err := engine.New(l.model, dev, engine.Options{ContextTokens: testContext, ChunkTokens: testChunk, Numerics: model.Production})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	return &world{t: t, dir: t.TempDir(), lay: eng.Layout()}
}

// TestTagsAsTextAreRepeated: a call that is written where no tools are offered is text.
// The next turn brings it back as text, and finds the tokens that were sampled: in
// memory, and on disk after a restart.
func TestTagsAsTextAreRepeated(t *testing.T) {
	w := newWorld(t)
	r := w.serve(rigOptions{})
	question := words(1, 60)
	q := ask(chat.None, question)
	q.ToolUse = ToolUse{Required: true, Names: []string{"read_file"}} // prescribes the call, offers nothing
	q.MaxTokens = len(r.tok.EncodeCacheText(q.ToolUse.begin()))
	first := r.good(q)
	if !strings.Contains(first.text, "DSML") || first.result.Block.Open {
		t.Fatalf("got %q %+v", first.text, first.result)
	}
	known := first.result.PromptTokens + first.result.CompletionTokens - 1
	check := func(what, source string, a reply) {
		t.Helper()
		if res := a.result; res.EvaluatedTokens != res.PromptTokens-known || res.Source != source {
			t.Errorf("%s: %d tokens were known, got %+v", what, known, res)
		}
	}
	next := ask(chat.None, question, first.text, "and then?")
	r.down()
	heir := w.killed()
	r = w.serve(rigOptions{})
	fromDisk := r.good(next)
	check("disk", SourceDisk, fromDisk)
	r.down()
	r = heir.serve(rigOptions{})
	r.good(q)
	live := r.good(next)
	check("memory", SourceMemoryText, live)
	if fromDisk.text != live.text {
		t.Errorf("got %q from disk, %q from memory", fromDisk.text, live.text)
	}
	// Somebody who writes the same himself gets ordinary text.
	own := r.good(ask(chat.None, question+first.text))
	if res := own.result; res.CachedTokens > first.result.PromptTokens || res.PromptTokens <= known {
		t.Errorf("text of a user: %+v", res)
	}
}

// TestReasoningIsRepeated: in a conversation with tools the next turn after a restart
// evaluates what is new, if the client sends the reasoning back; if it does not, what
// follows the last prompt.
func TestReasoningIsRepeated(t *testing.T) {
	opt := chat.Options{Thinking: chat.High, Tools: []chat.Tool{addTool}}
	turn := func(a reply) chat.Message {
		return chat.Message{Role: chat.RoleAssistant, Reasoning: a.reasoning, Content: a.text}
	}
	list := []chat.Message{says(chat.RoleUser, "Who are you?")}
	w := sensibleWorld(t)
	r := w.serve(rigOptions{sense: true})
	list = append(list, turn(r.good(converse(t, opt, list...))), says(chat.RoleUser, "What does strings.Cut do?"))
	last := r.good(converse(t, opt, list...))
	r.down()
	if last.reasoning == "" || last.result.Source != SourceMemoryToken && last.result.Source != SourceMemoryText {
		t.Fatalf("got %+v %+v", last, last.result)
	}
	for _, kept := range []bool{true, false} {
		answer := says(chat.RoleAssistant, last.text)
		known := last.result.PromptTokens - 1 // up to the think marker
		if kept {
			answer.Reasoning = last.reasoning
			known += last.result.CompletionTokens
		}
		q := converse(t, opt, append(slices.Clip(list), answer, says(chat.RoleUser, "What is 2 plus 3?"))...)
		heir := w.killed()
		r := heir.serve(rigOptions{sense: true})
		a := r.good(q)
		r.down()
		if res := a.result; res.Source != SourceDisk || res.EvaluatedTokens > res.PromptTokens-known {
			t.Errorf("reasoning sent back %v: %d tokens were known, got %+v", kept, known, res)
		}
		fresh := newRig(t, rigOptions{sense: true})
		if want := fresh.good(q); want.text != a.text || want.reasoning != a.reasoning {
			t.Errorf("reasoning sent back %v: got %q %q, cold %q %q", kept, a.reasoning, a.text, want.reasoning, want.text)
		}
		fresh.down()
	}
}

// TestNothingIsSavedInsideACall: a full segment that ends inside a block of calls is not
// saved. One that is cut never is; one that ends well is, as a whole.
func TestNothingIsSavedInsideACall(t *testing.T) {
	opt := chat.Options{Tools: []chat.Tool{addTool}}
	for _, cut := range []bool{true, false} {
		t.Run(fmt.Sprintf("cut=%v", cut), func(t *testing.T) {
			w := sensibleWorld(t)
			r := w.serve(rigOptions{sense: true})
			filler := ""
			var q *Request
			for {
				q = converse(t, opt, says(chat.RoleSystem, filler), says(chat.RoleUser, "What is 12 plus 30?"))
				if n := len(chat.Tokens(r.tok, q.Prompt)) % testSegment; n > testSegment-10 && n < testSegment-4 {
					break
				}
				filler += "of "
			}
			q.ToolUse = ToolUse{Required: true, Names: []string{addTool.Name}}
			q.MaxTokens = 200
			if cut {
				q.MaxTokens = 16
			}
			a := r.good(q)
			boundary := (a.result.PromptTokens/testSegment + 1) * testSegment
			if end := a.result.PromptTokens + a.result.CompletionTokens - 1; end <= boundary || a.result.Block.Open != cut || a.result.Block.Good == cut {
				t.Fatalf("no block over %d: %+v", boundary, a.result)
			}
			if !cut { // behind the full segments of the prompt; the client does not wait for it
				r.log.wait("kv cache stored .*reason=continued", boundary/testSegment)
			}
			r.flush()
			want := a.result.PromptTokens - 1 // the end of the cold prompt
			if !cut {
				want = a.result.PromptTokens + a.result.CompletionTokens - 1
			}
			ends := func() (last int, inside bool) {
				for _, e := range r.store.List() {
					last = max(last, e.To)
					inside = inside || e.To == boundary
				}
				return last, inside
			}
			if last, inside := ends(); last != want || inside {
				t.Errorf("saved up to %d, inside the block %v, want %d", last, inside, want)
			}
			r.down()
			r = w.serve(rigOptions{sense: true})
			if last, inside := ends(); last != want || inside {
				t.Errorf("after the shutdown: saved up to %d, inside the block %v, want %d", last, inside, want)
			}
		})
	}
}

// TestAnswersOfOneLengthAreBothSaved: a prompt is answered twice, with the same number of
// tokens, first with reasoning. The second answer takes the session back behind the first
// one, which is saved; that is no reason not to save the second.
func TestAnswersOfOneLengthAreBothSaved(t *testing.T) {
	w := newWorld(t)
	r := w.serve(rigOptions{})
	end := 0
	for _, mode := range []chat.Mode{chat.High, chat.None} {
		q := converse(t, chat.Options{Thinking: mode, Tools: []chat.Tool{addTool}}, says(chat.RoleUser, words(1, 60)))
		q.MaxTokens, q.IgnoreEOS = 60, true
		res := r.good(q).result
		end = res.PromptTokens + res.CompletionTokens - 1
	}
	r.down()
	n := 0
	for _, e := range r.store.List() {
		if e.To == end {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d segments end at %d, want those of both answers", n, end)
	}
}

// TestACutTagIsNotSaved: an answer that ends inside the tag that opens a block of calls is
// saved without it, at the end of its prompt, since the client never sees it.
func TestACutTagIsNotSaved(t *testing.T) {
	w := newWorld(t)
	r := w.serve(rigOptions{})
	q := converse(t, chat.Options{Tools: []chat.Tool{addTool}}, says(chat.RoleUser, words(1, 60)))
	q.ToolUse = ToolUse{Required: true, Names: []string{addTool.Name}}
	begin := r.tok.EncodeCacheText(q.ToolUse.begin())
	tag := slices.IndexFunc(begin, r.tok.Control)
	q.MaxTokens = tag + 3 // the last one is not evaluated
	a := r.good(q)
	if a.result.Block.Open || a.text != "" {
		t.Fatalf("got %q %+v", a.text, a.result)
	}
	r.down()
	for _, e := range r.store.List() {
		if e.To >= a.result.PromptTokens {
			t.Errorf("[%d, %d) is saved, the prompt has %d tokens", e.From, e.To, a.result.PromptTokens)
		}
	}
}

// TestTagsAsTextAreRepeatedAfterAChange: calls as text that are evaluated once more, since
// something else follows them now, are found by the turn after that, too.
func TestTagsAsTextAreRepeatedAfterAChange(t *testing.T) {
	r := newRig(t, rigOptions{})
	var known int // tokens
	answer := func(turns ...string) (string, *Result) {
		q := ask(chat.None, turns...)
		q.ToolUse = ToolUse{Required: true, Names: []string{"read_file"}}
		q.MaxTokens = len(r.tok.EncodeCacheText(q.ToolUse.begin()))
		a := r.good(q)
		known = a.result.PromptTokens + a.result.CompletionTokens - 1
		return a.text, a.result
	}
	turns := []string{words(1, 40)}
	for _, next := range []string{"and then?", "what else?"} {
		text, _ := answer(turns...)
		turns = append(turns, text, next)
	}
	answer(turns...)
	turns[4] = "why?"
	text, _ := answer(turns...)
	want := known
	if _, res := answer(append(turns, text, "when?")...); res.CachedTokens != want {
		t.Errorf("%d tokens were known, got %+v", want, res)
	}
}

// TestEndBehindAStopStringIsNotSaved: an answer is cut where a stop string begins. If tokens
// were evaluated that are part of it, no later prompt has them, and the end of the last
// prompt is saved instead.
func TestEndBehindAStopStringIsNotSaved(t *testing.T) {
	question := words(1, 150)
	turns := func(r *rig, seed int) []string {
		return []string{question, r.good(ask(chat.None, question)).text, words(seed, 30)}
	}
	asks := func(turns []string, stop ...string) *Request {
		q := ask(chat.None, turns...)
		q.MaxTokens, q.Stop = 30, stop
		return q
	}
	seed, text := 1, "\uFFFD" // which no client sends back as the bytes that it stands for
	for r := newRig(t, rigOptions{}); strings.Contains(text, "\uFFFD"); {
		seed++
		text = r.good(asks(turns(r, seed))).text
	}
	half := text[len(text)/2:]
	half = half[strings.IndexFunc(half, func(c rune) bool { return c < utf8.RuneSelf }):]
	for _, stop := range []string{strings.ToValidUTF8(half[:20], ""), half[:1]} {
		w := newWorld(t)
		r := w.serve(rigOptions{})
		list := turns(r, seed)
		last := r.good(asks(list, stop))
		r.down()
		want := last.result.PromptTokens - 1
		if len(stop) == 1 { // it began with the token that is not evaluated
			want += last.result.CompletionTokens
		}
		next := w.serve(rigOptions{}).good(ask(chat.None, append(list, last.text, "and then?")...))
		if last.result.StopString == "" || next.result.CachedTokens != want {
			t.Errorf("after %+v: want %d tokens of it, got %+v", last.result, want, next.result)
		}
	}
}
