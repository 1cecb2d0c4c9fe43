package scheduler

import (
	"errors"
	"time"

	"ds4/metal"
	"ds4/runtime/engine"
)

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
	if s.cfg.Unsafe.RecoveryOff {
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

func (s *Scheduler) die(err error) {
	if !s.fatal {
		s.fatal = true
		s.cfg.Log("device is beyond repair in this process error=%q", oneLine(err.Error()))
		go s.cfg.OnFatal(err)
	}
}
