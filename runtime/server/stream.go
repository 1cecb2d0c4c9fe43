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

// writePiece is how much is handed to a connection at once. Each piece must leave
// within the stall limit: a client that takes less counts as gone.
const writePiece = 4 << 10

// errClientGone: the connection is closed, or took nothing for the stall limit.
var errClientGone = errors.New("server: the client is gone")

func clientGone(ctx context.Context) error {
	return fmt.Errorf("%w: %w", errClientGone, context.Cause(ctx))
}

// protocol writes one streamed answer in the form of one API. Its methods append to b
// what is to be sent; one goroutine calls them, and nothing after EventDone or fail.
type protocol interface {
	event(b []byte, e turnEvent) []byte
	// fail is for an error after the headers.
	fail(b []byte, e *apiError) []byte
	// idle keeps a connection alive that got nothing for the keepalive interval.
	idle(b []byte) []byte
}

// stream answers a request with server-sent events. The headers leave at once.
// Whenever nothing was sent for the keepalive interval something is, by the clock and
// whatever the scheduler is busy with: waiting, restoring, a long chunk, a tool call that
// is held back. It returns when the answer is complete or the client is gone.
//
// The scheduler merges what the client is too slow for, so a write that waits holds up
// nobody else.
func (s *Server) stream(ctx context.Context, w http.ResponseWriter, r *run, p protocol) error {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // proxies must not collect
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	send := func(b []byte) error { return writePieces(w, rc, s.cfg.WriteStall, b) }
	err := send(nil)
	idle := time.NewTimer(s.cfg.Keepalive)
	defer idle.Stop()
	var buf []byte
	for ended := false; err == nil && !ended; {
		buf = buf[:0]
		select {
		case ev, open := <-r.events:
			if !open {
				ev = scheduler.Event{Kind: scheduler.EventError, Err: errNoEnd}
			}
			if ev.Kind == scheduler.EventError {
				e := fromScheduler(ev.Err)
				if e == nil {
					return fmt.Errorf("%w: %w", errClientGone, ev.Err)
				}
				return send(s.cfg.Unsafe.fail(buf, p, e))
			}
			for _, e := range r.take(ev) {
				buf = p.event(buf, e)
			}
			ended = ev.Kind == scheduler.EventDone
			if len(buf) == 0 {
				continue
			}
		case <-idle.C:
			buf = p.idle(buf)
		case <-ctx.Done():
			return clientGone(ctx)
		}
		err = send(buf)
		idle.Reset(s.cfg.Keepalive)
	}
	return err
}

// appendData appends one event without a name.
func appendData(b []byte, v any) []byte {
	b = append(b, "data: "...)
	return append(appendJSON(b, v), "\n\n"...)
}

// appendEvent appends one event with a name.
func appendEvent(b []byte, name string, v any) []byte {
	b = append(append(append(b, "event: "...), name...), '\n')
	return appendData(b, v)
}

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
