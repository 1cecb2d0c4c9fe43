package scheduler

import (
	"context"
	"testing"
	"time"

	"ds4/metal"
	"ds4/runtime/chat"
)

// until polls the sessions until they are as a test wants.
func (r *rig) until(what string, ok func([]Session) bool) {
	r.t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(r.Stats().Sessions); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("waited for %s: %+v", what, r.Stats().Sessions)
		}
		r.signal()
	}
}

// observed is a device that calls a function when a pass over it begins.
type observed struct {
	metal.Device
	pass func()
}

func (d observed) SetScope(s metal.Scope) { metal.SetScope(d.Device, s) }

func (d observed) NewCommandBuffer(label string) (metal.CommandBuffer, error) {
	d.pass()
	return d.Device.NewCommandBuffer(label)
}

// TestFirstChunkIsTold: a prompt is seen at work while its first chunk is evaluated,
// which may take long.
func TestFirstChunkIsTold(t *testing.T) {
	var first *Stats
	var r *rig
	r = newRig(t, rigOptions{byHand: true, device: func(d metal.Device) metal.Device {
		return observed{d, func() {
			if r != nil && first == nil {
				st := r.Stats()
				first = &st
			}
		}}
	}})
	r.start(t.Context(), ask(chat.None, words(1, 40)))
	r.turn()
	if first == nil || first.ActiveRequests != 1 || len(first.Sessions) != 2 || first.Sessions[0].State != SessionPrefill || first.Sessions[0].PromptTokens <= 40 {
		t.Errorf("during the first chunk: %+v", first)
	}
	r.turnUntil(func() bool { return len(r.active) == 0 })
}

// TestSessionsAreTold: who watches sees what each session holds and does.
func TestSessionsAreTold(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.until("two empty sessions", func(s []Session) bool {
		return len(s) == 2 && s[0] == Session{State: SessionEmpty} && s[1] == s[0]
	})
	q := ask(chat.None, words(1, 40))
	res := r.good(q).result
	r.until("a conversation", func(s []Session) bool {
		one := Session{State: SessionIdle, Tokens: s[0].Tokens}
		return s[0] == one && s[0].Tokens >= res.PromptTokens && s[1].State == SessionEmpty
	})

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	long := ask(chat.None, words(1, 40), "x", words(2, 40))
	long.MaxTokens, long.IgnoreEOS = 500, true
	events, err := r.Submit(ctx, long)
	if err != nil {
		t.Fatal(err)
	}
	r.until("an answer on its way", func(s []Session) bool {
		for _, v := range s {
			if v.State == SessionDecode && v.PromptTokens > 80 && v.CompletionTokens > 0 && v.Tokens >= v.PromptTokens {
				return true
			}
		}
		return false
	})
	cancel()
	for range events { // until it is told
	}
	r.until("nobody at work", func(s []Session) bool {
		for _, v := range s {
			if v.State != SessionIdle && v.State != SessionEmpty {
				return false
			}
		}
		return true
	})
	if err := r.ClearKV(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.until("two empty sessions again", func(s []Session) bool { return s[0].State == SessionEmpty && s[1].State == SessionEmpty })
}
