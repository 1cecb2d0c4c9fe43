package scheduler

import (
	"time"

	"ds4/runtime/failpoint"
	"ds4/runtime/kvstore"
)

// admit gives waiting requests the slots that are free, and reports whether any got one.
func (s *Scheduler) admit() (any bool) {
	if s.breaker.open {
		s.refuseQueue() // what came between the breaker and the gate
		return false
	}
	for s.freeSlot() && !s.breaker.open {
		j := s.queue.take(s.waitsForRoom())
		if j == nil {
			return any
		}
		if j.cancelled() {
			s.cancel(j)
			continue
		}
		j.started = time.Now()
		s.newAnswer(j)
		s.active = append(s.active, j)
		s.begin(j)
		any = true
	}
	return any
}

func (s *Scheduler) freeSlot() bool {
	for _, sl := range s.slots {
		if sl.idle() {
			return true
		}
	}
	return false
}

// dropCancelled ends the requests whose clients have gone. Their sessions stay
// at the last chunk or token that was evaluated.
func (s *Scheduler) dropCancelled() {
	for _, j := range append([]*job(nil), s.active...) {
		if j.cancelled() && j.phase != phaseRestoring { // a restore ends by itself
			s.drop(j)
		}
	}
}

func (s *Scheduler) drop(j *job) {
	if s.disk.unproven(j) {
		// Nothing has proven the restored state; it is on disk anyway.
		s.resetSlot(j.slot)
	}
	if s.cfg.Unsafe.DeleteOnCancel {
		s.disk.convict(j.attempt.chain, "cancelled")
	}
	s.detach(j)
	s.cancel(j)
}

// begin chooses where an attempt starts from: a live session, the disk, or
// nothing.
func (s *Scheduler) begin(j *job) {
	j.plan = s.ladder.plan(j.rangeKey, s.cfg.Now())
	s.setTokens(j, j.prompt.tokens, 0, SourceCold)
	j.attempt.chain, j.attempt.restored = nil, 0
	if j.plan.cold {
		s.beginCold(j)
		return
	}
	live := s.bestLive(j)
	if chain := s.lookup(j); s.worthRestoring(chain.Tokens, live.reach) {
		s.beginRestore(j, chain)
		return
	}
	if live.reach == 0 {
		s.logMiss(live.longest, len(j.prompt.tokens), live.common)
		s.beginCold(j)
		return
	}
	s.saveTurnedFrom(live.slot, live.reach)
	if s.cfg.Unsafe.NoRewind {
		live.slot.forgetAfter(live.reach)
	} else if err := live.slot.rewind(live.reach); err != nil {
		s.cfg.Log("live kv cache rewind failed: %v", err)
		s.resetSlot(live.slot)
		s.beginCold(j)
		return
	}
	s.bind(j, live.slot)
	live.slot.continued++
	s.setTokens(j, live.tokens, live.reach, live.source)
	s.beginPrefill(j)
}

// lookup finds the longest stored prefix that leaves the last token to evaluate.
func (s *Scheduler) lookup(j *job) kvstore.Chain {
	if j.noDisk {
		return kvstore.Chain{}
	}
	last := j.prompt.tokens[len(j.prompt.tokens)-1]
	return s.disk.lookup(j.prompt.text[:len(j.prompt.text)-len(s.tok.CacheText(nil, last))])
}

// worthRestoring reports whether a chain on disk is better than what is live: by
// so much that reading it pays.
func (s *Scheduler) worthRestoring(chain, live int) bool {
	return chain > 2*live || chain >= live+s.cfg.MinCacheTokens
}

// retry lets a request try once more after its session was emptied.
func (s *Scheduler) retry(j *job) {
	if j.slot != nil && j.slot.job == j {
		j.slot.job = nil
	}
	s.newAnswer(j)
	s.begin(j)
}

func (s *Scheduler) setTokens(j *job, tokens []int32, cached int, source string) {
	j.attempt.tokens, j.attempt.cached, j.attempt.source = tokens, cached, source
	// The last token of a prompt opens the answer. Before it is where the next
	// turn will part from this one, whether or not it thinks.
	j.attempt.mark = len(tokens) - 1
}

// liveMatch is the best live session for a prompt.
type liveMatch struct {
	slot    *slot
	tokens  []int32 // to be evaluated in all
	reach   int     // of them, already there; 0: no session is of use
	source  string
	longest int // of the sessions compared, for the log
	common  int
}

func (s *Scheduler) bestLive(j *job) liveMatch {
	var best liveMatch
	for _, sl := range s.slots {
		if !sl.idle() || sl.empty() {
			continue
		}
		tokens, common := s.match(&sl.past, j.prompt)
		if best.reach == 0 && common >= best.common {
			best.longest, best.common = len(sl.past.tokens), common
		}
		reach := sl.reach(s.reachable(common, len(tokens)))
		if reach <= best.reach || len(tokens) >= s.eng.ContextTokens() {
			continue
		}
		best.slot, best.tokens, best.reach, best.source = sl, tokens, reach, SourceMemoryText
		if reach <= commonTokens(sl.past.tokens, j.prompt.tokens) {
			// None of what was sampled is reused.
			best.tokens, best.source = j.prompt.tokens, SourceMemoryToken
		}
	}
	return best
}

func (s *Scheduler) bind(j *job, sl *slot) {
	j.slot, sl.job = sl, j
	s.uses++
	sl.used = s.uses
}

// claim gives j an empty session: one that is free, a new one, or that of the
// conversation unused for longest, whose end is saved before.
func (s *Scheduler) claim(j *job) error {
	sl := s.victim(s.slots)
	if sl.sess == nil {
		if err := s.allocate(sl); err != nil {
			if sl = s.pickAllocated(); sl == nil {
				return err
			}
		}
	}
	s.evict(sl)
	if j.plan.fresh {
		s.renew(sl)
	}
	if sl.sess == nil {
		if err := s.allocate(sl); err != nil {
			return err
		}
	}
	s.bind(j, sl)
	return nil
}

func (s *Scheduler) allocate(sl *slot) error {
	sess, err := s.eng.NewSession()
	if err != nil {
		s.cfg.Log("live session not allocated: %v", err)
		return err
	}
	sl.sess = sess
	return nil
}

// pickAllocated is pickSlot among the slots that have memory.
func (s *Scheduler) pickAllocated() *slot {
	var list []*slot
	for _, sl := range s.slots {
		if sl.sess != nil {
			list = append(list, sl)
		}
	}
	return s.victim(list)
}

// evict saves what a slot holds and empties it.
func (s *Scheduler) evict(sl *slot) {
	if sl.empty() {
		return
	}
	_, _ = s.saveLive(s.ctx, sl, reasonEvict)
	s.resetSlot(sl)
}

// saveTurnedFrom saves what a session holds beyond a place that it is about to be
// taken back to, if that is much: a side request that parts from a conversation
// before its end should not cost the conversation its end.
func (s *Scheduler) saveTurnedFrom(sl *slot, at int) {
	if lost := len(sl.past.tokens) - at; lost >= s.cfg.MinCacheTokens && !sl.hidden {
		_, _ = s.saveLive(s.ctx, sl, reasonEvict)
		sl.forgetAfter(sl.sess.Len()) // what it saved last may lie behind where it left the session
	}
}

// renew gives the slot a new session object.
func (s *Scheduler) renew(sl *slot) {
	if sl.sess != nil {
		sl.sess.Release()
		sl.sess = nil
	}
	sl.clear()
}

// resetSlot empties a session and everything that is known of it, together.
func (s *Scheduler) resetSlot(sl *slot) {
	if sl == nil {
		return
	}
	if err := pointReset.Hit(failpoint.Scope{}); err != nil {
		s.cfg.Log("session reset failed, session dropped: %v", err)
		s.renew(sl)
		return
	}
	sl.wipe()
}

func (s *Scheduler) beginCold(j *job) {
	if err := s.claim(j); err != nil {
		s.refuse(j, err)
		return
	}
	s.beginPrefill(j)
}

// refuse ends a request for which there is no memory.
func (s *Scheduler) refuse(j *job, err error) {
	s.count.add(func(c *Stats) { c.Failures[classResource]++ })
	s.detach(j)
	s.logFailure(j, err.Error())
	s.trip(oneLine(err.Error()))
	s.endFailed(j, s.unavailable(s.breaker.reason, s.breaker.retryAfter(s.cfg.Now())))
}

// beginPrefill starts the evaluation of what the prompt still lacks.
func (s *Scheduler) beginPrefill(j *job) {
	j.phase = phasePrefill
	j.attempts++
	j.attempt.chunks, j.attempt.prefill = 0, 0
	j.alone = j.plan.attempt > 1 // what failed before shall not be blamed for others, nor they for it
	if len(j.slot.past.tokens) == j.attempt.mark {
		s.keep(j.slot)
	}
	s.count.add(func(c *Stats) { c.PrefillAttempts++ })
	s.logStart(j)
	sc := failpoint.Scope{Source: j.scopeSource(), Range: j.rangeKey, N: int64(j.attempts)}
	if n := len(j.attempt.chain); n > 0 {
		sc.Entry = j.attempt.chain[n-1]
	}
	if err := s.hitBegin(sc); err != nil {
		s.jobFailed(j, stagePrefill, err)
	}
}

// hitBegin is the fault point before a prompt; a panic there is one of the pass.
func (s *Scheduler) hitBegin(sc failpoint.Scope) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = s.panicError(v)
		}
	}()
	return pointBegin.Hit(sc)
}
