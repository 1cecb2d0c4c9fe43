package scheduler

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// TestStopper: however the text is cut into pieces, what comes out is the text
// before the earliest stop string, in whole characters, and nothing is held back
// that no stop string begins with.
func TestStopper(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.SampledFrom([]rune("abé"))
		stops := rapid.SliceOfN(rapid.StringOfN(letters, 0, 4, -1), 0, 3).Draw(t, "stops")
		text := rapid.StringOfN(letters, 0, 30, -1).Draw(t, "text")
		want, found := text, false
		for _, stop := range stops {
			if i := strings.Index(text, stop); stop != "" && i >= 0 && (!found || i < len(want)) {
				want, found = text[:i], true
			}
		}
		s := newStopper(stops)
		out, stopped := "", false
		rest := []rune(text)
		for len(rest) > 0 && !stopped {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			var piece string
			piece, stopped = s.write(string(rest[:n]))
			rest = rest[n:]
			out += piece
			if !utf8.ValidString(piece) {
				t.Fatalf("%q is not UTF-8", piece)
			}
			if !stopped && s.held != "" && !beginsStop(s.held, stops) {
				t.Fatalf("holds %q back for %q", s.held, stops)
			}
		}
		if !stopped {
			out += s.flush()
		}
		// A stop string that is complete earlier in the stream wins over one that
		// begins before it but ends later.
		if out != want && !(found && strings.HasPrefix(out, want) && endsBefore(text, out, stops)) {
			t.Fatalf("got %q, want %q", out, want)
		}
		if stopped != found {
			t.Fatalf("stopped %v, want %v", stopped, found)
		}
	})
}

func beginsStop(held string, stops []string) bool {
	for _, s := range stops {
		if strings.HasPrefix(s, held) {
			return true
		}
	}
	return false
}

// endsBefore reports whether some stop string stands in text right after out.
func endsBefore(text, out string, stops []string) bool {
	for _, s := range stops {
		if s != "" && strings.HasPrefix(text, out+s) {
			return true
		}
	}
	return false
}

func TestOutboxMergesAndEnds(t *testing.T) {
	o := newOutbox()
	for i := range 100 {
		o.put(Event{Kind: EventPrefill, Done: i})
	}
	for _, e := range []Event{
		{Kind: EventReasoning, Text: "a"}, {Kind: EventReasoning, Text: "b"},
		{Kind: EventText, Text: "c"}, {Kind: EventText, Text: "d"}, {Kind: EventDone, Result: &Result{}},
	} {
		o.put(e)
	}
	if n := len(o.pending); n != 4 {
		t.Errorf("%d events wait", n)
	}
	go o.run(t.Context())
	got := collect(o.ch)
	if got.reasoning != "ab" || got.text != "cd" || got.result == nil || len(got.prefills) != 1 || got.prefills[0].Done != 99 {
		t.Errorf("got %+v", got)
	}
}

// TestOutboxWithoutReader: a reader that cancelled and left holds nobody up, and
// would still find how it ended.
func TestOutboxWithoutReader(t *testing.T) {
	o := newOutbox()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { o.run(ctx); close(ended) }()
	for range 3 {
		o.put(Event{Kind: EventText, Text: "x"})
		o.put(Event{Kind: EventReasoning, Text: "y"})
	}
	cancel()
	o.put(Event{Kind: EventError, Err: context.Canceled})
	<-ended
	if e := <-o.ch; e.Kind != EventError {
		t.Errorf("got %+v", e)
	}
	if _, open := <-o.ch; open {
		t.Error("the channel is open")
	}
}

// TestOutboxMergesCalls: pieces of one call's arguments are joined, those of two are not,
// and neither are two calls.
func TestOutboxMergesCalls(t *testing.T) {
	o := newOutbox()
	for _, e := range []Event{
		{Kind: EventText, Text: "a", Logprobs: []TokenLogprob{{Logprob: -1}}}, {Kind: EventText, Text: "b", Logprobs: []TokenLogprob{{Logprob: -2}}},
		{Kind: EventCall, Text: "f"}, {Kind: EventArguments, Text: "{"}, {Kind: EventArguments, Text: "}"}, {Kind: EventCallEnd},
		{Kind: EventCall, Index: 1, Text: "f"}, {Kind: EventCall, Index: 1, Text: "f"}, {Kind: EventArguments, Index: 1, Text: "{"},
		{Kind: EventArguments, Index: 2, Text: "}"},
	} {
		o.put(e)
	}
	var got []string
	for _, e := range o.takeAll() {
		got = append(got, fmt.Sprint(e.Kind-EventPrefill, e.Index, e.Text, len(e.Logprobs)))
	}
	want := []string{"1 0ab2", "3 0f0", "4 0{}0", "5 00", "3 1f0", "3 1f0", "4 1{0", "4 2}0"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestQueueOrderAndLimit(t *testing.T) {
	q := queue{limit: 3}
	a, b, c := &job{}, &job{}, &job{}
	for _, j := range []*job{a, b, c} {
		if err := q.put(j); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.put(&job{}); err != ErrQueueFull {
		t.Errorf("got %v", err)
	}
	if !q.remove(b) || q.remove(b) {
		t.Error("remove takes out once")
	}
	if q.take(nil) != a || q.len() != 1 {
		t.Error("first come, first served")
	}
	if rest := q.close(ErrShuttingDown); len(rest) != 1 || rest[0] != c {
		t.Errorf("drained %v", rest)
	}
	if err := q.put(a); err != ErrShuttingDown || q.take(nil) != nil {
		t.Errorf("a closed queue took something: %v", err)
	}
}

func TestRangeKey(t *testing.T) {
	long := []byte(strings.Repeat("x", rangeBytes+10))
	id := [32]byte{1}
	if rangeKeyOf(id, long, 0) != rangeKeyOf(id, long[:rangeBytes], 0) {
		t.Error("a prompt without turns counts beyond its first 64 KiB")
	}
	if rangeKeyOf(id, []byte("abc"), 2) != rangeKeyOf(id, []byte("abd"), 2) {
		t.Error("what follows the first turn counts")
	}
	if rangeKeyOf(id, []byte("abc"), 2) == rangeKeyOf([32]byte{2}, []byte("abc"), 2) {
		t.Error("the model does not count")
	}
	if k := rangeKeyOf(id, nil, 5); len(k) != 40 {
		t.Errorf("key %q", k)
	}
}
