package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"ds4/runtime/scheduler"
)

// Comments that keep a connection alive. Clients skip them; they say what the server
// is busy with.
const (
	commentPrefill = ": prefill\n\n"
	commentDecode  = ": decode\n\n"
)

// writePiece is how much is handed to a connection at once. Each piece must leave
// within the stall limit: a client that takes less counts as gone.
const writePiece = 4 << 10

// errClientGone: the connection is closed, or took nothing for the stall limit.
var errClientGone = errors.New("server: the client is gone")

// chatStream sends one chat completion as server-sent events. It is used by one
// goroutine: the scheduler merges what the client is too slow for, so a write that
// waits holds up nobody else.
type chatStream struct {
	*answer
	w     http.ResponseWriter
	rc    *http.ResponseController
	stall time.Duration
	begun bool // the role chunk was sent
	ended bool
	buf   []byte
}

// stream answers a chat request with server-sent events. The headers leave at once.
// Whenever nothing was sent for the keepalive interval a comment is, by the clock and
// whatever the scheduler is busy with: waiting, restoring, a long chunk. It returns
// when the answer is complete or the client is gone.
func (s *Server) stream(ctx context.Context, w http.ResponseWriter, a *answer, events <-chan scheduler.Event) error {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // proxies must not collect
	w.WriteHeader(http.StatusOK)
	st := &chatStream{answer: a, w: w, rc: http.NewResponseController(w), stall: s.cfg.WriteStall}
	err := st.write(nil)
	idle := time.NewTimer(s.cfg.Keepalive)
	defer idle.Stop()
	for err == nil && !st.ended {
		select {
		case ev, open := <-events:
			if !open {
				ev = scheduler.Event{Kind: scheduler.EventError, Err: errNoEnd}
			}
			if ev.Kind == scheduler.EventPrefill {
				continue // the clock goes on: progress sends nothing
			}
			err = st.event(ev)
			idle.Reset(s.cfg.Keepalive)
		case <-idle.C:
			err = st.comment()
			idle.Reset(s.cfg.Keepalive)
		case <-ctx.Done():
			err = fmt.Errorf("%w: %w", errClientGone, context.Cause(ctx))
		}
	}
	return err
}

// event sends what ev is to the client.
func (c *chatStream) event(ev scheduler.Event) error {
	switch ev.Kind {
	case scheduler.EventText:
		return c.delta(chunkDelta{Content: ev.Text})
	case scheduler.EventReasoning:
		return c.delta(chunkDelta{Reasoning: ev.Text})
	case scheduler.EventDone:
		c.ended = true
		return c.finish(ev.Result)
	case scheduler.EventError:
		c.ended = true
		return c.fail(ev.Err)
	}
	return nil
}

// delta sends one piece of the answer.
func (c *chatStream) delta(d chunkDelta) error {
	c.begin()
	c.data(c.chunk(d, nil))
	return c.flush()
}

// begin puts the role chunk before the first piece. It waits until there is one: a
// prefill that fails may only have sent comments.
func (c *chatStream) begin() {
	if !c.begun {
		c.begun = true
		c.data(c.chunk(chunkDelta{Role: "assistant"}, nil))
	}
}

// finish sends the last chunk, the usage if it was asked for, and the end mark.
func (c *chatStream) finish(res *scheduler.Result) error {
	c.begin()
	last := c.chunk(chunkDelta{}, &res.Finish)
	if c.includeUsage {
		c.data(last)
		last = c.chunk(chunkDelta{}, nil)
		last.Choices = []chunkChoice{}
		last.Usage = newUsage(res)
	}
	last.Timings = newTimings(res)
	c.data(last)
	c.buf = append(c.buf, "data: [DONE]\n\n"...)
	return c.flush()
}

// fail sends the one event after which nothing comes. A client that is gone gets
// nothing.
func (c *chatStream) fail(err error) error {
	e := fromScheduler(err)
	if e == nil {
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	c.buf = append(c.buf, "event: error\n"...)
	c.data(errorBody{e})
	return c.flush()
}

func (c *chatStream) comment() error {
	if c.begun {
		return c.write([]byte(commentDecode))
	}
	return c.write([]byte(commentPrefill))
}

// data queues one event; flush sends what is queued.
func (c *chatStream) data(v any) {
	c.buf = append(c.buf, "data: "...)
	c.buf = append(appendJSON(c.buf, v), "\n\n"...)
}

func (c *chatStream) flush() error {
	err := c.write(c.buf)
	c.buf = c.buf[:0]
	return err
}

func (c *chatStream) write(p []byte) error { return writePieces(c.w, c.rc, c.stall, p) }

// writePieces writes p, each piece with a deadline of its own, and flushes. Writers
// without deadlines or flushing (test recorders) are written to all the same.
func writePieces(w http.ResponseWriter, rc *http.ResponseController, stall time.Duration, p []byte) error {
	for {
		piece := p[:min(len(p), writePiece)]
		err := rc.SetWriteDeadline(time.Now().Add(stall))
		if err != nil && !errors.Is(err, http.ErrNotSupported) {
			return gone(err, stall)
		}
		if len(piece) > 0 {
			if _, err := w.Write(piece); err != nil {
				return gone(err, stall)
			}
		}
		if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return gone(err, stall)
		}
		if p = p[len(piece):]; len(p) == 0 {
			return nil
		}
	}
}

func gone(err error, stall time.Duration) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: it took nothing for %v", errClientGone, stall)
	}
	return fmt.Errorf("%w: %w", errClientGone, err)
}
