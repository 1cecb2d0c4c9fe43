package scheduler

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"ds4/runtime/kvstore"
)

// Reasons of a save, as the store logs them.
const (
	reasonContinued = "continued" // a full segment
	reasonCold      = "cold"      // the end of a prompt that reused nothing
	reasonEvict     = "evict"
	reasonShutdown  = "shutdown"
)

// What one segment may hold. Long ones arise where the store was off for a while, or
// lost what came before. They cost a copy of all that is missing, so there is one of
// them at a time, and a session whose copy would be greater than the limit stays
// unsaved.
const (
	maxSegments     = 8 // full segments; beyond, a save is a late one
	maxCatchUpBytes = 1 << 30
)

// saveSegment saves a full segment if the request's session stands at its end.
// What follows hidden reasoning is not worth a write: no later prompt goes that
// way, and the next turn passes the place again without it. Inside a block of tool
// calls nothing is saved, since one that is cut or malformed has another text in later
// prompts, or none; complete saves what was passed then.
func (s *Scheduler) saveSegment(j *job) {
	sl := j.slot
	switch {
	case sl.sess.Len()%s.cfg.SegmentTokens != 0 || sl.hidden || s.cfg.Unsafe.ColdOnly && !j.cold():
	case j.phase == phaseDecode && !j.answer.parts.Settled():
		j.unsaved = true
	default:
		_ = s.save(j.ctx, sl, reasonContinued)
	}
}

// saveTail saves what lies beyond the last full segment of a session that is
// long enough.
func (s *Scheduler) saveTail(ctx context.Context, sl *slot, reason string) error {
	if sl.sess.Len() < s.cfg.MinCacheTokens {
		return nil
	}
	return s.save(ctx, sl, reason)
}

// saveLive saves a session that is about to go: its end, or, if something stands there
// that no later prompt will repeat, the place before. If that depends on the client, both.
// The session may have gone back to that place then. id is of the last segment.
func (s *Scheduler) saveLive(ctx context.Context, sl *slot, reason string) (id string, err error) {
	end, err := s.stepBack(sl, reason)
	if err != nil {
		return "", err
	}
	return s.saveWith(ctx, sl, end, reason)
}

// stepBack takes a session back to the end of its last prompt if no later prompt will
// repeat what follows it. If that depends on the client, it takes a copy of it before.
func (s *Scheduler) stepBack(sl *slot, reason string) (end *kvstore.Segment, err error) {
	n := len(sl.points)
	if !sl.genuine() || n == 0 || !sl.hidden && !sl.thought {
		return nil, nil
	}
	at := sl.points[n-1].Len()
	if !sl.hidden && at >= s.cfg.MinCacheTokens {
		end = s.endAfter(sl, at, reason)
	}
	if sl.hidden || end != nil {
		err = sl.rewind(at)
	}
	return end, err
}

// saveWith saves a session, and behind it what stepBack has copied, if anything.
func (s *Scheduler) saveWith(ctx context.Context, sl *slot, end *kvstore.Segment, reason string) (id string, err error) {
	if !sl.genuine() {
		return sl.lastSaved(), nil
	}
	if err := s.saveTail(ctx, sl, reason); err != nil || end == nil {
		return sl.lastSaved(), err
	}
	return s.saveAfter(ctx, sl, end)
}

// endAfter copies the end of a session that follows position at, the end of its last
// prompt, or a full segment behind that; nil if nothing follows or it cannot be had.
func (s *Scheduler) endAfter(sl *slot, at int, reason string) *kvstore.Segment {
	to := sl.sess.Len()
	if !s.disk.writable() || to == at {
		return nil
	}
	base := savedEnd{at: at}
	if b := s.saveBase(sl, to); b.at > at {
		base = b
	}
	if to-base.at > maxSegments*s.cfg.SegmentTokens {
		return nil
	}
	defer s.countStall(time.Now())
	seg, err := s.segment(sl, base, reason)
	if err != nil {
		return nil
	}
	return seg
}

// saveAfter saves what endAfter copied, behind what the session has saved up to there,
// unless the segment is there that it was meant for.
func (s *Scheduler) saveAfter(ctx context.Context, sl *slot, end *kvstore.Segment) (id string, err error) {
	if !s.disk.has(end.Parent) {
		n := len(sl.saved)
		if n == 0 || sl.saved[n-1].at != end.From {
			return "", errNoParent
		}
		end.Parent = sl.saved[n-1].id
	}
	defer s.countStall(time.Now())
	return s.disk.save(ctx, end)
}

// Why a late save is put off, or impossible.
var (
	errTooMuch  = fmt.Errorf("what is not stored of it has more than %d MiB", maxCatchUpBytes>>20)
	errNoParent = errors.New("what comes before it is not stored")
	errCatchUp  = errors.New("what is not stored of it is long, and the disk is behind")
)

// mayCatchUp decides about a late save of what lies in [from, to). At shutdown it
// waits for the disk, else the next end of a segment is an occasion.
func (s *Scheduler) mayCatchUp(ctx context.Context, sl *slot, from, to int, reason string) error {
	text := sl.past.textLen(to) - sl.past.textLen(from)
	if s.eng.Layout().FileBytes(from, to, text) > maxCatchUpBytes {
		return errTooMuch
	}
	if reason == reasonShutdown {
		if err := s.disk.store.Flush(ctx); err != nil {
			return err
		}
	}
	if s.disk.store.Queued() > 0 {
		return errCatchUp
	}
	return nil
}

// save hands the store a copy of what the session added since the last segment.
// It waits while the writer is behind. All of that is time that no pass runs; it
// is measured. The error says why nothing was queued; requests do not care.
func (s *Scheduler) save(ctx context.Context, sl *slot, reason string) error {
	if !s.disk.writable() {
		return errors.New(cmp.Or(s.disk.trouble(), "no disk cache"))
	}
	to := sl.sess.Len()
	if n := len(sl.saved); n > 0 && sl.saved[n-1].at == to && s.disk.has(sl.saved[n-1].id) {
		return nil
	}
	base := s.saveBase(sl, to)
	late := to-base.at > maxSegments*s.cfg.SegmentTokens
	if late {
		if err := s.mayCatchUp(ctx, sl, base.at, to, reason); err != nil {
			return err
		}
	}
	defer s.countStall(time.Now())
	seg, err := s.segment(sl, base, reason)
	if err != nil {
		return err
	}
	id, err := s.disk.save(ctx, seg)
	if err == nil {
		sl.saved = append(sl.saved, savedEnd{
			at: to, id: id, prompt: reason == reasonCold,
			parent: late || to%s.cfg.SegmentTokens == 0 || reason == reasonContinued,
		})
	}
	return err
}

// countStall notes how long no pass ran because of a save that began at start.
func (s *Scheduler) countStall(start time.Time) {
	stall := time.Since(start)
	s.count.add(func(c *Stats) { c.SaveStall += stall })
}

// segment copies what a session added since base.
func (s *Scheduler) segment(sl *slot, base savedEnd, reason string) (*kvstore.Segment, error) {
	x, err := sl.sess.Export(base.at)
	if err != nil {
		s.cfg.Log("kv cache store failed (%s): %v", reason, err)
		return nil, err
	}
	return &kvstore.Segment{
		Parent: base.id, From: x.From, To: x.To, Reason: reason, Urgent: reason == reasonShutdown,
		Text:   bytes.Clone(sl.past.text[sl.past.textLen(x.From):sl.past.textLen(x.To)]),
		Tokens: x.Tokens, Raw: x.Raw, Comp: x.Comp, Index: x.Index, Frontier: x.Frontier,
		Sampled: sl.past.sampledEnd == x.To,
	}, nil
}

// saveBase is where the next segment of a session begins: the end of the last
// full segment that the store still has, else the start. A tail may also begin
// where the session's last prompt ended, if that was saved: so both the same
// prompt and the next turn find their place.
func (s *Scheduler) saveBase(sl *slot, to int) savedEnd {
	tail := to%s.cfg.SegmentTokens != 0
	for i := len(sl.saved) - 1; i >= 0; i-- {
		e := sl.saved[i]
		if e.at < to && (e.parent || e.prompt && tail) && s.disk.has(e.id) {
			return e
		}
	}
	return savedEnd{}
}
