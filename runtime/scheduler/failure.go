package scheduler

import (
	"errors"
	"fmt"

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
func (s *Scheduler) stepFailed(b *batch, err error) {
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
	case s.cfg.Unsafe.BlameAll:
		s.blameAll(b, err)
	case b.shared():
		s.shareFailed(b, err)
	case b.prefill != nil:
		s.jobFailed(b.prefill, stagePrefill, err)
	default:
		if s.trial != nil {
			s.trial.failed++
		}
		s.jobFailed(b.decodes[0], stageDecode, err)
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
	if s.cfg.Unsafe.RecoveryOff {
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
	if s.cfg.Unsafe.DeleteOnOutage {
		s.disk.convict(chain, oneLine(err.Error()))
	}
	s.disk.dismissed(j)
	if s.cfg.Unsafe.DeadSession {
		s.deaden(j.slot)
	} else {
		s.resetSlot(j.slot)
	}
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
		Code: codeOf(v, st), Retryable: !v.clear, Attempt: v.attempt, Limit: s.cfg.PrefillFailureLimit,
		Range: j.shortRange(), Message: message, Cause: err,
	})
}

func codeOf(v verdict, st stage) string {
	switch {
	case v.clear:
		return CodeContextCleared
	case st == stageDecode:
		return CodeDecodeFailed
	}
	return CodePrefillFailed
}

// stage is the part of the work that a request of the worker is at.
func (j *job) stage() stage {
	if j.phase == phaseDecode {
		return stageDecode
	}
	return stagePrefill
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
		what := "prefill"
		if j.stage() == stageDecode {
			what = "decode"
		}
		s.logPrompt(j, what+" failed after stream closed: "+message)
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
		if j.slot != nil {
			j.slot.wipe()
		}
		s.detach(j)
		s.endFailed(j, &FailureError{
			Code: codeOf(verdict{}, j.stage()), Retryable: true, Attempt: 1, Limit: s.cfg.PrefillFailureLimit,
			Range: j.shortRange(), Message: s.failureText(j, j.stage(), err), Cause: err,
		})
	}
}
