package scheduler

// Unsafe takes safeguards away, one each. It is for the recovery suite alone,
// which has to show that its scenarios fail without them; only a hidden switch of
// the harness reaches it.
type Unsafe struct {
	// RecoveryOff: no failure handling at all. A failed session stays on offer
	// although its state is gone, a prefix that fails is restored again and again,
	// and no in-flight marker is written.
	RecoveryOff    bool
	DeadSession    bool // a session stays on offer after a failure has emptied it
	DeleteOnCancel bool // a client that hangs up costs the entry that it started from
	DeleteOnOutage bool // an entry is guilty of the first failure on it, whatever the device does
	RestoreLive    bool // a restore takes a live session where there is one, and a failed one leaves it on offer
	NoRewind       bool // a session is said to be taken back, and is not
	NoShutdownSave bool // live sessions are not saved at shutdown
	HideTrouble    bool // health does not mention the disk cache
	StrictTokens   bool // only what has the prompt's own tokens is continued, so nothing that was sampled
	LooseRewind    bool // a live session is continued at a kept place beyond what the prompt shares with it
	ColdOnly       bool // full segments of prompts that reused something are not stored
	BlameAll       bool // who shares a failed pass is guilty of it
	OldestSession  bool // the session unused for longest makes room, whatever it holds
	ObeyCutCalls   bool // a block of tool calls that was cut is handed out as if it were whole
	LeakGoroutines bool // that of a request whose client has gone stays
	LeakMemory     bool // places to come back to are never dropped
}

// reachable is how many of its positions a prompt may take from a live session.
// At least the last token is evaluated, and one position stays free.
func (s *Scheduler) reachable(common, prompt int) int {
	if s.cfg.Unsafe.LooseRewind && common > 0 {
		return prompt - 1
	}
	return min(common, prompt-1)
}

// match is the function of the same name, unless it is to be too strict.
func (s *Scheduler) match(h *history, p target) (tokens []int32, common int) {
	if s.cfg.Unsafe.StrictTokens {
		return p.tokens, commonTokens(h.tokens, p.tokens)
	}
	return match(h, p, s.tok)
}

// UnsafeOf returns the switches whose words are set.
func UnsafeOf(set func(word string) bool) Unsafe {
	return Unsafe{
		RecoveryOff: set("recovery-off"), DeadSession: set("dead-session"), DeleteOnCancel: set("delete-on-cancel"),
		DeleteOnOutage: set("delete-on-outage"), RestoreLive: set("restore-live"), NoRewind: set("no-rewind"),
		NoShutdownSave: set("no-shutdown-save"), HideTrouble: set("hide-trouble"), StrictTokens: set("strict-tokens"),
		LooseRewind: set("loose-rewind"), ColdOnly: set("cold-only"),
		ObeyCutCalls: set("obey-cut-calls"),
		BlameAll:     set("blame-all"), OldestSession: set("oldest-session"), LeakGoroutines: set("leak-goroutines"), LeakMemory: set("leak-memory"),
	}
}

// jobFailedOff is jobFailed with the recovery switched off.
func (s *Scheduler) jobFailedOff(j *job, message string, err error) {
	s.deaden(j.slot)
	if len(j.attempt.chain) > 0 {
		j.slot.clear()
	}
	s.detach(j)
	s.logFailure(j, message)
	s.endFailed(j, &FailureError{
		Code: codeOf(verdict{}, j.stage()), Retryable: true, Attempt: 1, Limit: s.cfg.PrefillFailureLimit,
		Range: j.shortRange(), Message: message, Cause: err,
	})
}

// deaden empties a session and leaves what is known of it.
func (s *Scheduler) deaden(sl *slot) {
	sl.sess.Reset()
	sl.points = nil
}

// passEvents carries a request's events to its reader, and ends with it.
func (s *Scheduler) passEvents(j *job) {
	j.out.run(j.ctx)
	if s.cfg.Unsafe.LeakGoroutines && j.cancelled() {
		<-s.done
	}
}

// keep remembers where a session stands.
func (s *Scheduler) keep(sl *slot) {
	sl.keep()
	if s.cfg.Unsafe.LeakMemory {
		s.leaked = append(s.leaked, sl.points[len(sl.points)-1])
	}
}

// blameAll fails every request of a pass.
func (s *Scheduler) blameAll(b *batch, err error) {
	for _, j := range b.decodes {
		s.jobFailed(j, stageDecode, err)
	}
	if b.prefill != nil {
		s.jobFailed(b.prefill, stagePrefill, err)
	}
}

// victim is pickSlot, unless it is to look at nothing but age.
func (s *Scheduler) victim(slots []*slot) *slot {
	if s.cfg.Unsafe.OldestSession {
		return oldestSlot(slots)
	}
	return pickSlot(slots, s.uses)
}

func oldestSlot(slots []*slot) *slot {
	var best *slot
	for _, sl := range slots {
		if sl.idle() && (best == nil || sl.cost() < best.cost() || sl.cost() == best.cost() && sl.used < best.used) {
			best = sl
		}
	}
	return best
}

// claimLive gives j a session that holds a conversation, as it is.
func (s *Scheduler) claimLive(j *job) bool {
	for _, sl := range s.slots {
		if sl.idle() && !sl.empty() {
			s.bind(j, sl)
			return true
		}
	}
	return false
}
