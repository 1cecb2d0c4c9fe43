package scheduler

import (
	"math"
	"time"
)

// Which session makes room. An agent holds one long conversation, and beside it
// asks for titles, checks and summaries, each with a system prompt of its own, and
// sends subagents that talk for a while and are never heard of again. Taking the
// session that was unused for longest would take the main conversation as soon as
// a few of these have passed while it waits for them.

const (
	// keepHalfLife is how many requests of others halve what a session is worth.
	keepHalfLife = 32
	// maxContinued bounds what a long past counts for, so that a conversation that
	// has ended goes some time.
	maxContinued = 15
	// roomFactor times its own length is what a request does not take the place of,
	// if it can wait.
	roomFactor = 2
	// maxRoomWait bounds how long it waits.
	maxRoomWait = 30 * time.Second
)

// worth is what taking a slot would cost: the tokens to be evaluated again, times
// how often somebody came back for them, less the longer nobody did. now is the
// count of uses, two for each request.
func (sl *slot) worth(now uint64) float64 {
	age := float64(now-sl.used) / 2
	return float64(len(sl.past.tokens)) * float64(1+min(sl.continued, maxContinued)) * math.Exp2(-age/keepHalfLife)
}

// waitsForRoom says which requests wait although a slot is idle: where it is the
// last one, and holds a conversation that is much longer than the request, which
// does not continue it. Several side requests at once would take every slot else,
// and one of those that are at work is free soon. What the conversation costs to
// evaluate again bounds how long that is worth. nil: none has to wait.
func (s *Scheduler) waitsForRoom() func(*job) bool {
	last := s.lastIdle()
	if last == nil || s.cfg.Unsafe.OldestSession {
		return nil
	}
	held := len(last.past.tokens)
	patience := s.pace.estimate(held)
	if held >= s.cfg.MinCacheTokens { // what is shorter is soon evaluated again
		patience = max(patience, s.cfg.RoomMin)
	}
	patience = min(patience, maxRoomWait)
	return func(j *job) bool {
		if j.cancelled() || roomFactor*len(j.prompt.tokens) > held || time.Since(j.submitted) >= patience {
			return false
		}
		live := s.bestLive(j)
		return live.slot != last || roomFactor*live.reach < held
	}
}

// lastIdle returns the only idle slot, if it holds a conversation and others are
// at work.
func (s *Scheduler) lastIdle() *slot {
	var last *slot
	for _, sl := range s.slots {
		switch {
		case !sl.idle():
		case last != nil || sl.empty():
			return nil
		default:
			last = sl
		}
	}
	if len(s.slots) == 1 {
		return nil
	}
	return last
}

// pickSlot chooses the idle slot that a request without a live prefix gets: one
// that holds nothing, else one that does not exist yet, else the one that is worth
// least. nil if all are busy.
func pickSlot(slots []*slot, now uint64) *slot {
	var best *slot
	for _, sl := range slots {
		if sl.idle() && (best == nil || sl.cheaper(best, now)) {
			best = sl
		}
	}
	return best
}

func (sl *slot) cheaper(than *slot, now uint64) bool {
	if a, b := sl.cost(), than.cost(); a != b {
		return a < b
	}
	if a, b := sl.worth(now), than.worth(now); a != b {
		return a < b
	}
	return sl.used < than.used
}

// cost orders slots by the kind of thing that taking them loses.
func (sl *slot) cost() int {
	switch {
	case !sl.empty():
		return 2 // a conversation
	case sl.sess == nil:
		return 1 // memory
	}
	return 0
}
