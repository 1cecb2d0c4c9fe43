package scheduler

import (
	"errors"
	"fmt"
	"time"

	"ds4/metal"
	"ds4/runtime/engine"
	"ds4/runtime/failpoint"
)

// Classes of failures, as metrics name them.
const (
	classDevice   = "device"
	classResource = "resource"
	classRestore  = "restore"
	classInternal = "internal"
)

// classify names the class of a failed pass.
func classify(err error) string {
	var ce *metal.CommandError
	var fp *failpoint.Error
	switch {
	case errors.Is(err, errPanic):
		return classInternal
	case errors.As(err, &ce) && ce.Code == metal.CodeOutOfMemory, errors.Is(err, metal.ErrOutOfMemory):
		return classResource
	case errors.As(err, &ce), errors.As(err, &fp), errors.Is(err, metal.ErrPoisoned),
		errors.Is(err, errHang), errors.Is(err, errGarbage), errors.Is(err, engine.ErrBusy):
		return classDevice
	}
	return classInternal
}

// stepFailed decides who is to blame for a failed pass, after it made the device
// usable again. The engine has left every session as it was.
func (s *Scheduler) stepFailed(b batch, err error) {
	if s.ctx.Err() != nil {
		return // the shutdown could wait no longer
	}
	again, wait := s.repair(err)
	if again {
		if b.prefill != nil {
			b.prefill.attempt.chunks--
		}
		s.pause(wait)
		return
	}
	switch {
	case b.prefill != nil:
		// The decoding requests of the pass go on: had they caused it, their next
		// pass, which is theirs alone, fails.
		s.jobFailed(b.prefill, stagePrefill, err)
	case len(b.decodes) == 1:
		s.jobFailed(b.decodes[0], stageDecode, err)
	default:
		for _, j := range b.decodes {
			j.alone = true
		}
	}
	if s.down {
		s.failActive()
	}
}

// pause leaves the device alone for a while; a shutdown ends it.
func (s *Scheduler) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.stop:
	}
}

// repair carries out the recovery policy's decision about a failed pass. again
// says that the same pass should be tried once more, after wait.
func (s *Scheduler) repair(err error) (again bool, wait time.Duration) {
	ce := commandError(err)
	if ce == nil {
		// Not the device's: encode from a clean state all the same.
		s.rebuild(metal.RebuildQueue)
		return false, 0
	}
	s.cfg.ErrLine("ds4: " + ce.Error())
	if s.cfg.RecoveryOff {
		s.rebuild(metal.RebuildQueue)
		return false, 0
	}
	d, h := s.policy.Next(ce, s.cfg.Now())
	s.policy = h
	s.cfg.Log("device error %s action=%s reason=%q", ce.Detail(), d.Action, d.Reason)
	if d.HalveWork {
		s.chunk = max(s.chunk/2, min(minChunk, s.chunk))
	}
	if d.FreeMemory {
		s.freeMemory()
	}
	switch level := d.Level(); {
	case level == 0:
		s.down = true
		s.trip(d.Reason)
		if d.Action&metal.ActExit != 0 && s.cfg.DeviceFailureExit > 0 {
			s.die(err)
		}
		return false, 0
	case !s.rebuild(level):
		return false, 0
	}
	if d.RefuseAdmissions {
		s.trip(d.Reason)
	}
	// The engine has kept every session as it was before the pass, so encoding it
	// again needs no other state, whatever else the policy would allow to drop.
	return d.Action&metal.ActReencode != 0, d.Wait
}

// minChunk is as far as halving the work per pass goes.
const minChunk = 32

// commandError finds the device's error in err; a hang counts as a timeout. nil
// if it is something else.
func commandError(err error) *metal.CommandError {
	var ce *metal.CommandError
	switch {
	case errors.As(err, &ce):
		return ce
	case errors.Is(err, errHang), errors.Is(err, engine.ErrBusy):
		return metal.NewCommandError("prefill", metal.CodeTimeout, metal.CodeTimeout.Message())
	case errors.Is(err, metal.ErrOutOfMemory):
		return metal.NewCommandError("prefill", metal.CodeOutOfMemory, metal.CodeOutOfMemory.Message())
	}
	return nil
}

// rebuild makes the device usable again; if that fails only a canary may try.
func (s *Scheduler) rebuild(level metal.Level) bool {
	s.count.add(func(st *Stats) { st.DeviceRebuilds++ })
	if err := s.eng.Rebuild(level); err != nil {
		s.down = true
		s.trip(oneLine(err.Error()))
		return false
	}
	s.down = false
	return true
}

// freeMemory releases idle sessions, saved before as at any eviction.
func (s *Scheduler) freeMemory() {
	for _, sl := range s.slots {
		if sl.idle() && sl.sess != nil {
			s.evict(sl)
			sl.sess.Release()
			sl.sess = nil
		}
	}
}

// trip opens the breaker and refuses what waits.
func (s *Scheduler) trip(reason string) {
	now := s.cfg.Now()
	if s.breaker.trip(reason, now) {
		s.cfg.Log("device breaker open reason=%q next canary in %s", reason, seconds(s.breaker.retryAfter(now)))
		s.count.add(func(st *Stats) { st.BreakerOpened++ })
	}
	s.showGate()
	for _, j := range s.queue.drain() {
		s.endFailed(j, s.unavailable(reason, s.breaker.retryAfter(now)))
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

func (s *Scheduler) die(err error) {
	if !s.fatal {
		s.fatal = true
		s.cfg.Log("device is beyond repair in this process error=%q", oneLine(err.Error()))
		go s.cfg.OnFatal(err)
	}
}

// jobFailed handles the failure of one request's share of the work: its session
// is emptied, the ladder decides what the range may do next, and the request
// tries again cold or ends.
func (s *Scheduler) jobFailed(j *job, st stage, err error) {
	class := classify(err)
	s.count.add(func(c *Stats) { c.Failures[class]++ })
	message := s.failureText(j, st, err)
	chain := j.attempt.chain
	if s.cfg.RecoveryOff {
		s.jobFailedOff(j, message, err)
		return
	}
	if len(chain) == 0 {
		s.countUncured(err)
	}
	var v verdict
	var evicted []string
	if class != classResource { // too little memory says nothing about the range
		v, evicted = s.ladder.fail(failure{
			rangeKey: j.rangeKey, stage: st, chain: chain, cold: j.cold(),
		}, s.cfg.Now())
	}
	s.disk.release(evicted)
	s.disk.withhold(v.withhold, oneLine(err.Error()))
	s.disk.dismissed(j)
	s.resetSlot(j.slot)
	if v.clear {
		s.cfg.Log("prefill failure limit reached range=%s failures=%d action=cleared withheld=%d error=%q",
			j.shortRange(), v.attempt, v.withheld, oneLine(err.Error()))
		s.count.add(func(c *Stats) { c.LimitReached++ })
	}
	if v.outage {
		s.trip(oneLine(err.Error()))
	}
	if v.retryCold && s.cfg.InlineRetry && !j.sent && !j.cancelled() && !s.breaker.open && !s.down {
		s.cfg.Log("prefill retry range=%s attempt=%d reason=%q", j.shortRange(), v.attempt+1, oneLine(err.Error()))
		s.count.add(func(c *Stats) { c.InlineRetries++ })
		s.retry(j)
		return
	}
	s.detach(j)
	s.logFailure(j, message)
	s.endFailed(j, &FailureError{
		Code: codeOf(v), Retryable: !v.clear, Attempt: v.attempt, Limit: s.cfg.PrefillFailureLimit,
		Range: j.shortRange(), Message: message, Cause: err,
	})
}

func codeOf(v verdict) string {
	if v.clear {
		return CodeContextCleared
	}
	return CodePrefillFailed
}

// jobFailedOff is jobFailed with the recovery switched off, as broken as it says
// in Config: the device's session is invalid, but what is known of it stays and
// will be offered again; a chain from disk is offered again too.
func (s *Scheduler) jobFailedOff(j *job, message string, err error) {
	sl := j.slot
	sl.sess.Reset()
	sl.points = nil
	if len(j.attempt.chain) > 0 {
		sl.clear()
	}
	s.detach(j)
	s.logFailure(j, message)
	s.endFailed(j, &FailureError{
		Code: CodePrefillFailed, Retryable: true, Attempt: 1, Limit: s.cfg.PrefillFailureLimit,
		Range: j.shortRange(), Message: message, Cause: err,
	})
}

// failureText is the message for the client.
func (s *Scheduler) failureText(j *job, st stage, err error) string {
	what := "prefill failed"
	switch {
	case st == stageDecode:
		what = "decode failed while extending checkpoint"
	case !j.cold():
		what = "resumed prefill failed while extending checkpoint"
	}
	return fmt.Sprintf("%s %s: %s", s.backend(), what, oneLine(err.Error()))
}

// countUncured counts the failures in a row that a state from scratch, or at
// least not from disk, had too.
func (s *Scheduler) countUncured(err error) {
	s.uncured++
	if limit := s.cfg.DeviceFailureExit; limit > 0 && s.uncured >= limit {
		s.die(err)
	}
}

func (s *Scheduler) logFailure(j *job, message string) {
	if j.cancelled() {
		s.logPrompt(j, "prefill failed after stream closed: "+message)
		return
	}
	s.logFinish(j, FinishError, message)
}

func (s *Scheduler) endFailed(j *job, err error) {
	s.end(j, Event{Kind: EventError, Err: err}, FinishError)
}

// settle carries out what the ladder concludes from a success. The store logs it.
func (s *Scheduler) settle(a acquittal) {
	if len(a.convict) > 0 {
		s.count.add(func(c *Stats) { c.Convicted++ })
		s.disk.convict(a.convict, "work on it failed, a cold prefill of the same prompt succeeded")
	}
	s.disk.release(a.release)
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

// panicked ends all running requests after a panic outside of a pass: nothing
// that they stand on can be trusted.
func (s *Scheduler) panicked(v any) {
	err := s.panicError(v)
	s.rebuild(metal.RebuildQueue)
	for _, j := range append([]*job(nil), s.active...) {
		if j.phase == phaseRestoring {
			continue // the restore still owns the session; its end is handled later
		}
		s.count.add(func(c *Stats) { c.Failures[classInternal]++ })
		s.disk.dismissed(j)
		s.resetSlot(j.slot)
		s.detach(j)
		s.endFailed(j, &FailureError{
			Code: CodePrefillFailed, Retryable: true, Attempt: 1, Limit: s.cfg.PrefillFailureLimit,
			Range: j.shortRange(), Message: s.failureText(j, stagePrefill, err), Cause: err,
		})
	}
}
