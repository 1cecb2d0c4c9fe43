package scheduler

import (
	"errors"

	"ds4/metal"
	"ds4/runtime/engine"
)

// trip opens the breaker and refuses what waits.
func (s *Scheduler) trip(reason string) {
	now := s.cfg.Now()
	if s.breaker.trip(reason, now) {
		s.cfg.Log("device breaker open reason=%q next canary in %s", reason, seconds(s.breaker.retryAfter(now)))
		s.count.add(func(st *Stats) { st.BreakerOpened++ })
	}
	s.showGate()
	s.refuseQueue()
}

// refuseQueue ends what waits while the breaker is open.
func (s *Scheduler) refuseQueue() {
	for _, j := range s.queue.drain() {
		s.endFailed(j, s.unavailable(s.breaker.reason, s.breaker.retryAfter(s.cfg.Now())))
	}
}

func (s *Scheduler) showGate() {
	if !s.breaker.open {
		s.gate.Store(nil)
		return
	}
	s.gate.Store(&gate{reason: s.breaker.reason, next: s.breaker.next})
}

// failActive ends what runs on a device that takes no work.
func (s *Scheduler) failActive() {
	for _, j := range append([]*job(nil), s.active...) {
		if j.phase == phasePrefill || j.phase == phaseDecode {
			s.detach(j)
			s.logFailure(j, s.breaker.reason)
			s.endFailed(j, s.unavailable(s.breaker.reason, s.breaker.retryAfter(s.cfg.Now())))
		}
	}
}

// canary tries the device with a few tokens in a session of its own.
func (s *Scheduler) canary() {
	err := s.tryDevice()
	if s.ctx.Err() != nil {
		return
	}
	now := s.cfg.Now()
	s.breaker.result(err == nil, now)
	s.showGate()
	if err != nil {
		s.count.add(func(c *Stats) { c.CanaryFailed++ })
		s.cfg.Log("device canary failed next in %s error=%q", seconds(s.breaker.retryAfter(now)), oneLine(err.Error()))
		s.countUncured(err)
		return
	}
	s.uncured = 0
	s.policy = s.policy.Success()
	s.count.add(func(c *Stats) { c.CanaryPassed++ })
	s.cfg.Log("device canary passed, breaker closed")
	s.disk.release(s.ladder.recovered())
}

// tryDevice makes a new device if the old one is unusable, and evaluates
// canaryTokens in a scratch session.
func (s *Scheduler) tryDevice() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = s.panicError(v)
		}
	}()
	if s.down && !s.rebuild(metal.RebuildDevice) {
		return errors.New(s.breaker.reason)
	}
	sess, release, err := s.scratchSession()
	if err != nil {
		return err
	}
	defer release()
	tokens := make([]int32, min(canaryTokens, s.eng.ContextTokens(), s.chunk))
	for i := range tokens {
		tokens[i] = s.tok.BOS()
	}
	metal.SetScope(s.eng.Device(), metal.Scope{Phase: "canary", Source: scopeCold})
	_, err = s.forward([]engine.Sequence{{Session: sess, Tokens: tokens}})
	if err == nil && !anyFinite(sess.Logits()) {
		err = errGarbage
	}
	if err != nil {
		if ce := commandError(err); ce != nil {
			s.cfg.ErrLine("ds4: " + ce.Error())
		}
		// Whatever the error asks for, the next canary starts with a new device.
		s.down = true
	}
	return err
}

// scratchSession returns an empty idle session, or a new one.
func (s *Scheduler) scratchSession() (*engine.Session, func(), error) {
	for _, sl := range s.slots {
		if sl.idle() && sl.empty() && sl.sess != nil {
			return sl.sess, sl.sess.Reset, nil
		}
	}
	sess, err := s.eng.NewSession()
	if err != nil {
		return nil, nil, err
	}
	return sess, sess.Release, nil
}

func anyFinite(logits []float32) bool {
	for _, x := range logits {
		if x-x == 0 {
			return true
		}
	}
	return false
}
