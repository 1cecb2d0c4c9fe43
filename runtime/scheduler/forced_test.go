package scheduler

import (
	"bytes"
	"strings"
	"testing"

	"ds4/runtime/chat"
	"ds4/runtime/sample"
)

// required is a request that must call one of two tools.
func required(q *Request) *Request {
	q.Tools, q.ToolUse = true, ToolUse{Required: true, Names: []string{"get_weather", "get_time"}}
	q.MaxTokens, q.Sampling = 40, sample.Params{Temperature: 1, TopP: 1, Seed: 3}
	return q
}

// calls lists the names of the tools that an answer calls.
func calls(events <-chan Event) (names []string, text string, res *Result) {
	for e := range events {
		switch e.Kind {
		case EventCall:
			names = append(names, e.Text)
		case EventText:
			text += e.Text
		case EventDone:
			res = e.Result
		}
	}
	return names, text, res
}

// TestRequiredCall: even a model of random weights calls one of the tools, and cannot get
// out of it by ending its turn; cut by the limit of tokens, the block is unterminated.
func TestRequiredCall(t *testing.T) {
	r := newRig(t, rigOptions{})
	for _, mode := range []chat.Mode{chat.None, chat.High} {
		q := required(ask(mode, "What is the weather?"))
		if mode == chat.High {
			q.MaxTokens = 600 // until it has thought enough
		}
		names, text, res := calls(r.start(t.Context(), q))
		if mode == chat.None && len(names) == 0 || text != "" {
			t.Errorf("%v: calls %q, text %q", mode, names, text)
		}
		for _, name := range names {
			if name != "get_weather" && name != "get_time" {
				t.Errorf("%v: calls %q", mode, name)
			}
		}
		if mode == chat.None && (res.Finish != FinishError || res.Problem != ProblemUnterminated || !res.Short || !res.Block.Open) {
			t.Errorf("%v: %+v", mode, res)
		}
	}
	r.log.wait(`finish=error error="unterminated tool call"`, 1)
}

// TestRetryStartsTheAnswerAnew: a decode that fails on restored state before the client
// has seen anything is tried again cold. What was parsed of the first attempt is gone.
func TestRetryStartsTheAnswerAnew(t *testing.T) {
	q := func() *Request { return required(ask(chat.None, strings.Repeat("one two three ", 60))) }
	w := newWorld(t)
	r := w.serve(rigOptions{})
	want, _, right := calls(r.start(t.Context(), q()))
	r.down()
	r = w.serve(rigOptions{faults: "at=wait,phase=decode,source=disk,n=6"})
	got, _, res := calls(r.start(t.Context(), q()))
	if r.fired(0) != 1 || res == nil || res.Attempts != 2 {
		t.Fatalf("fired %d, %+v", r.fired(0), res)
	}
	if len(want) == 0 || strings.Join(got, " ") != strings.Join(want, " ") || !bytes.Equal(res.Block.Cache, right.Block.Cache) {
		t.Errorf("after a retry calls %q in %q, without %q in %q", got, res.Block.Cache, want, right.Block.Cache)
	}
}
