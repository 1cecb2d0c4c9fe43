package scheduler

import (
	"context"
	"sync"
)

// outbox carries a request's events from the worker, which never waits, to the
// reader, who may be slow. What the reader has not taken is merged: newer
// progress replaces older, text joins text of the same kind. So its size is
// bounded by the answer itself.
type outbox struct {
	mu      sync.Mutex
	pending []Event
	wake    chan struct{} // of size 1: pending has something
	ch      chan Event
}

func newOutbox() *outbox {
	return &outbox{wake: make(chan struct{}, 1), ch: make(chan Event, 1)}
}

// terminal reports whether e is the last event of a stream.
func (e Event) terminal() bool { return e.Kind == EventDone || e.Kind == EventError }

// put appends an event. After a terminal event nothing must follow.
func (o *outbox) put(e Event) {
	o.mu.Lock()
	if n := len(o.pending); n == 0 || !o.pending[n-1].merge(e) {
		o.pending = append(o.pending, e)
	}
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// merge joins e, which follows, to last if one event can stand for both.
func (last *Event) merge(e Event) bool {
	if last.Kind != e.Kind || last.Index != e.Index {
		return false
	}
	switch e.Kind {
	case EventPrefill:
		*last = e
	case EventText, EventReasoning, EventArguments:
		last.Text += e.Text
		last.Logprobs = append(last.Logprobs, e.Logprobs...)
	default:
		return false
	}
	return true
}

func (o *outbox) takeAll() []Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.pending
	o.pending = nil
	return list
}

// run passes events on until the terminal one, then closes the channel. After
// ctx ends it delivers only the terminal event, without waiting for a reader.
func (o *outbox) run(ctx context.Context) {
	defer close(o.ch)
	for range o.wake {
		for _, e := range o.takeAll() {
			select {
			case <-ctx.Done():
			default:
				select {
				case o.ch <- e:
					if e.terminal() {
						return
					}
					continue
				case <-ctx.Done():
				}
			}
			if e.terminal() {
				o.replace(e)
				return
			}
		}
	}
}

// replace leaves e as the only event in the channel's buffer.
func (o *outbox) replace(e Event) {
	for {
		select {
		case o.ch <- e:
			return
		default:
		}
		select {
		case <-o.ch: // an event that nobody took
		default:
		}
	}
}
