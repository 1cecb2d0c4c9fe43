package scheduler

import (
	"context"
	"fmt"
)

// Shutdown ends all requests with ErrShuttingDown, those that run at their next
// chunk or token, then saves the live sessions. When ctx ends it gives up
// whatever is not done and returns its error. Closing the store, which finishes
// the writing, is left to the caller, and so is draining the channels of Submit.
// Calls after the first wait for it.
func (s *Scheduler) Shutdown(ctx context.Context) error {
	s.stopOnce.Do(func() {
		s.stopCtx = ctx
		close(s.stop)
	})
	for _, j := range s.queue.close(ErrShuttingDown) {
		s.endForShutdown(j)
	}
	stopAfter := context.AfterFunc(ctx, s.abandon)
	defer stopAfter()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("scheduler: shutdown: %w", ctx.Err())
	}
}

// finish ends everything at shutdown.
func (s *Scheduler) finish() {
	for _, j := range s.queue.close(ErrShuttingDown) {
		s.endForShutdown(j)
	}
	s.awaitRestores()
	for _, j := range append([]*job(nil), s.active...) {
		if j.phase == phaseRestoring { // it stands still, and has the session
			s.endForShutdown(j)
			continue
		}
		s.breakOff(j)
		s.endForShutdown(j)
	}
	s.saveAll(s.stopCtx)
	for _, sl := range s.slots {
		if sl.sess != nil && sl.idle() {
			sl.sess.Release()
			sl.sess = nil
		}
	}
}

// awaitRestores waits for the restores that were told to end, within the time of
// the shutdown.
func (s *Scheduler) awaitRestores() {
	for _, j := range append([]*job(nil), s.active...) {
		if j.phase != phaseRestoring {
			continue
		}
		select {
		case r := <-s.restores:
			s.endRestore(r)
		case <-s.stopCtx.Done():
			return
		}
	}
}

// endForShutdown tells a client that no answer will come.
func (s *Scheduler) endForShutdown(j *job) {
	if j.phase != phaseQueued {
		s.logFinish(j, FinishError, "shutdown requested")
	}
	s.end(j, Event{Kind: EventError, Err: ErrShuttingDown}, "shutdown")
}
