package scheduler

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"ds4/runtime/failpoint"
	"ds4/runtime/kvstore"
)

// lastSave is the save of a live session at shutdown.
type lastSave struct {
	slot   *slot
	tokens int
	end    *kvstore.Segment // what the session held behind its last prompt; nil if it still does
	id     string           // of the segment that is its end; "" if none was queued
	why    error            // why not
}

// saveAll saves the live sessions at shutdown, waits for the disk, and says in
// one line what was not saved.
func (s *Scheduler) saveAll(ctx context.Context) {
	if !s.disk.on() || s.cfg.Unsafe.NoShutdownSave {
		return
	}
	var list []*lastSave
	for _, sl := range s.slots {
		if sl.idle() && !sl.empty() && sl.sess.Len() >= s.cfg.MinCacheTokens {
			l := &lastSave{slot: sl, tokens: sl.sess.Len()}
			s.saveLast(ctx, l)
			list = append(list, l)
		}
	}
	s.awaitSaves(ctx, list)
	if s.disk.trouble() == "" {
		// The store is well. If something was not saved, what it stood on was lost,
		// with the folder for example: then all of it can still be saved.
		for _, l := range list {
			if l.why != nil {
				s.saveLast(ctx, l)
			}
		}
		s.awaitSaves(ctx, list)
	}
	s.reportLost(list)
}

// saveLast queues the save of one session, in spite of failures shortly before:
// there is no later time.
func (s *Scheduler) saveLast(ctx context.Context, l *lastSave) {
	l.id, l.why = "", ctx.Err()
	if l.why == nil {
		l.why = pointShutdownSave.Hit(failpoint.Scope{})
	}
	if l.why != nil {
		return
	}
	end, err := s.stepBack(l.slot, reasonShutdown)
	if end != nil { // else the session went back in an attempt before this one, if at all
		l.end = end
	}
	var id string
	if err == nil {
		id, err = s.saveWith(ctx, l.slot, l.end, reasonShutdown)
	}
	if l.why = err; err == nil {
		l.id = id
	}
}

// awaitSaves waits for the disk and notes what did not get there.
func (s *Scheduler) awaitSaves(ctx context.Context, list []*lastSave) {
	err := s.disk.store.Flush(ctx)
	for _, l := range list {
		switch {
		case l.id == "" && !errors.Is(l.why, kvstore.ErrUnavailable):
		case l.id != "" && s.disk.has(l.id):
			l.why = nil
		case err != nil:
			l.why = err
		case s.disk.trouble() != "":
			l.why = errors.New(s.disk.trouble())
		case l.id != "":
			l.why = errors.New("the store did not take it, see above")
		}
	}
}

// reportLost says which sessions will be prefilled again after the next start.
func (s *Scheduler) reportLost(list []*lastSave) {
	var lost []string
	for _, l := range list {
		if l.why != nil {
			lost = append(lost, fmt.Sprintf("tokens=%d: %v", l.tokens, l.why))
		}
	}
	if len(lost) > 0 {
		s.cfg.Log("kv cache not saved at shutdown: %d of %d sessions (%s)", len(lost), len(list), strings.Join(lost, "; "))
	}
}
