package scheduler

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"ds4/runtime/chat"
)

// TestHopelessPrompt: a prompt that cannot fit whatever its tokens is refused
// without looking for them, and never one that could.
func TestHopelessPrompt(t *testing.T) {
	r := newRig(t, rigOptions{})
	most := r.long.longest * testContext
	var e *ContextLengthError
	for _, unit := range []string{"a", " ", "\x00", "\u65e5", "1"} {
		text := strings.Repeat(unit, 2*most/len(unit))
		start := time.Now()
		if _, err := r.Submit(t.Context(), ask(chat.None, text)); !errors.As(err, &e) || !e.AtLeast ||
			!strings.Contains(err.Error(), "at least ") || e.PromptTokens < testContext {
			t.Errorf("%q: %v after %s", unit, err, time.Since(start))
		}
	}
	l, err := random()
	if err != nil {
		t.Fatal(err)
	}
	// The longest token again and again is as little as a text can have.
	longest := ""
	for id := range int32(l.tok.Vocab()) {
		if b := l.tok.Bytes(id); !l.tok.Control(id) && len(b) > len(longest) && l.tok.Encode(string(b))[0] == id {
			longest = string(b)
		}
	}
	if _, err := r.Submit(t.Context(), ask(chat.None, strings.Repeat(longest+"\n", testContext*2))); !errors.As(err, &e) || e.PromptTokens < testContext {
		t.Errorf("%v", err)
	}
	r.good(ask(chat.None, strings.Repeat(longest, testContext/8)))
}

// TestLongPromptsTakeTurns: who waits for the turn and leaves does not get it.
func TestLongPromptsTakeTurns(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.long.longest = longText // so that the length alone tells nothing
	q := ask(chat.None, strings.Repeat("a ", longText))
	r.long.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	refused := make(chan error, 1)
	go func() {
		_, err := r.Submit(ctx, q)
		refused <- err
	}()
	r.good(ask(chat.None, "A short one does not wait."))
	select {
	case err := <-refused:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	cancel()
	if err := <-refused; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-r.long.turn
	var e *ContextLengthError
	if _, err := r.Submit(t.Context(), q); !errors.As(err, &e) || e.AtLeast {
		t.Errorf("got %v", err)
	}
}

// TestTokenisingEnds: nobody goes on tokenising for a client that has left.
func TestTokenisingEnds(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.long.longest = longText
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q := ask(chat.None, strings.Repeat("a ", longText/4)) // it waits for no turn
	if n, err := r.CountTokens(ctx, q.Prompt); !errors.Is(err, context.Canceled) {
		t.Errorf("counted %d: %v", n, err)
	}
	if _, err := r.Submit(ctx, q); !errors.Is(err, context.Canceled) {
		t.Errorf("submitted: %v", err)
	}
}
