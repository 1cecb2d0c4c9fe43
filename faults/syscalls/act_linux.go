package syscalls

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"ds4/runtime/failpoint"
)

// lookEvery is how often a call that is kept waiting is looked at: its process may
// be gone.
const lookEvery = 100 * time.Millisecond

// concerns says whether rules or the observer may be interested in a call.
func (s *Supervisor) concerns(c *Call) bool {
	if c.Name == "sync" { // every file
		return true
	}
	if s.cfg.Dir != "" {
		return below(c.Path, s.cfg.Dir) || c.From != "" && below(c.From, s.cfg.Dir) || c.Name == "syncfs"
	}
	return isFile(c.Path)
}

// observe shows a call to the observer.
func (s *Supervisor) observe(t *target, c *Call) {
	if s.cfg.Observe == nil || !c.changes() {
		return
	}
	if c.Op == OpWrite {
		if c.Err = t.measure(); c.Err == nil {
			c.Data, c.Err = t.gather(c.Len)
		}
	}
	s.cfg.Observe(c)
}

// choose counts a call and returns the rule that fires, if any.
func (s *Supervisor) choose(t *target, c *Call) *armed {
	for _, r := range s.rules {
		if c.Name == "sync" || !r.Matches(c.Op, c.Path) || !able(c.Op, r.Action.Kind) || !touches(t, r) {
			continue
		}
		if n := r.Counter.Hit(); n > 0 {
			s.cfg.Log(r.FiredLine(n))
			return r
		}
	}
	return nil
}

// touches says whether the action has something to do with the call's bytes.
func touches(t *target, r *armed) bool {
	switch r.Action.Kind {
	case failpoint.KindFlip, failpoint.KindZero:
		return t.measure() == nil && r.Action.Touches(t.about.Offset, int(t.about.Len))
	case failpoint.KindShort:
		return t.measure() == nil && keep(t.about, &r.Action) < t.about.Len
	}
	return true
}

// keep is how many bytes a short action lets through. A write that is asked for
// something writes something.
func keep(c *Call, a *failpoint.Action) int64 {
	n := int64(a.Keep(int(c.Len)))
	if c.Op == OpWrite {
		n = max(n, 1)
	}
	return n
}

// act carries out a rule that fires.
func (l *listener) act(id uint64, t *target, c *Call, r *armed) {
	a := &r.Action
	switch a.Kind {
	case failpoint.KindDelay, failpoint.KindHang:
		l.waiting.Go(func() { l.hold(id, a.Delay) })
		return
	case failpoint.KindShort:
		l.reply(id, t, func() (int64, error) { return t.perform(keep(c, a), nil) })
		return
	case failpoint.KindFlip, failpoint.KindZero:
		l.reply(id, t, func() (int64, error) { return t.perform(c.Len, a) })
		return
	}
	var done int64
	if r.Part > 0 {
		var err error
		if done, err = t.part(r); err != nil {
			l.s.cfg.Log(fmt.Sprintf("syscalls: part of %s of %s was not done: %v", c.Name, c.Path, err))
		}
	}
	switch a.Kind {
	case failpoint.KindKill9:
		if err := t.kill(); err != nil {
			l.s.cfg.Log(fmt.Sprintf("syscalls: kill: %v", err))
			l.answer(id, 0, unix.EIO)
		}
	case failpoint.KindLie:
		l.reply(id, t, func() (int64, error) { return t.lie(done) })
	case failpoint.KindEIO:
		l.answer(id, 0, unix.EIO)
	case failpoint.KindENOSPC:
		l.answer(id, 0, unix.ENOSPC)
	case failpoint.KindEACCES:
		l.answer(id, 0, unix.EACCES)
	case failpoint.KindErr:
		e, _ := errno(a.Text) // it was parsed
		l.answer(id, 0, e)
	}
}

// reply answers with what doing the call for the target gave.
func (l *listener) reply(id uint64, t *target, do func() (int64, error)) {
	n, err := do()
	var e unix.Errno
	switch {
	case err == nil:
		l.answer(id, n, 0)
	case errors.As(err, &e):
		l.s.cfg.Log(fmt.Sprintf("syscalls: %s of %s, done for the target: %v", t.about.Name, t.about.Path, err))
		l.answer(id, 0, e)
	default:
		l.s.cfg.Log(fmt.Sprintf("syscalls: %s of %s, done for the target: %v", t.about.Name, t.about.Path, err))
		l.answer(id, 0, unix.EIO)
	}
}

// hold keeps a call waiting for d, or for as long as its process lives.
func (l *listener) hold(id uint64, d time.Duration) {
	var end <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		end = timer.C
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-end:
			l.goOn(id)
			return
		case <-look.C:
			if !l.valid(id) {
				return
			}
		case <-l.s.done:
			return
		}
	}
}

// part does so much of a call as the rule says, and returns how many bytes that is.
func (t *target) part(r *armed) (int64, error) {
	if t.about.Op != OpWrite {
		if !r.PartPct || r.Part != wholePct {
			return 0, nil // a part of it is nothing
		}
		_, err := t.perform(0, nil)
		return 0, err
	}
	if err := t.measure(); err != nil {
		return 0, err
	}
	n, err := t.perform(int64(r.Done(int(t.about.Len))), nil)
	return max(n, 0), err
}

// lie returns what success would look like, after so many bytes were done. The
// position is behind them all, so that the next write leaves a hole, and what copies
// reads on, or it would copy the same for ever.
func (t *target) lie(done int64) (int64, error) {
	if t.about.Op != OpWrite {
		return 0, nil
	}
	if done == 0 { // else it is known, and the source has moved since
		if err := t.measure(); err != nil {
			return 0, err
		}
	}
	if t.call.copies() {
		if err := t.consume(t.about.Len - done); err != nil {
			return 0, err
		}
	}
	return t.about.Len, t.pass()
}
