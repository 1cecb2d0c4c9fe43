package failpoint

import (
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"time"
)

// plan is one armed set of rules.
type plan struct {
	rules []*armedRule
	log   func(format string, args ...any)
	gone  chan struct{} // closed by Disarm; wakes what hangs or waits
	skew  atomic.Int64  // nanoseconds by which the clock is wrong
}

// armedRule is a rule and its counters.
type armedRule struct {
	Rule
	*Counter
}

// RuleStatus reports on one armed rule.
type RuleStatus struct {
	Rule  Rule
	Hits  int // hits that passed match, n and after
	Fired int
}

// kill ends the process the hard way. A variable, because a test of the package
// wants to survive it.
var kill = func() {
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way
}

// Arm installs the rules for the whole process, in place of any earlier ones,
// and writes one line for each. It refuses all of them if one cannot be armed
// here: points that this program lacks, points that metal/fault executes.
func Arm(rules []Rule, log func(format string, args ...any)) error {
	if len(rules) > maxRules {
		return fmt.Errorf("%w: %d rules, the limit is %d", ErrSyntax, len(rules), maxRules)
	}
	pl := &plan{log: log, gone: make(chan struct{})}
	for _, r := range rules {
		if _, err := Parse(r.String()); err != nil {
			return err
		}
		if err := armable(r); err != nil {
			return err
		}
		t := r.Trigger
		if r.Action.Kind == KindSkew {
			t.Times = 1 // the clock is wrong from then on
		}
		pl.rules = append(pl.rules, &armedRule{r, NewCounter(t)})
	}
	for _, r := range pl.rules {
		log("%s", r.ArmedLine())
	}
	registry.Lock()
	defer registry.Unlock()
	disarmLocked()
	registry.armed = pl
	for _, r := range pl.rules {
		registry.points[r.Point].plan.Store(pl)
	}
	return nil
}

func armable(r Rule) error {
	in, ok := Lookup(r.Point)
	if !ok {
		return fmt.Errorf("%w: unknown point %q; known: %v", ErrSyntax, r.Point, knownPoints())
	}
	if in.Device {
		return fmt.Errorf("%w: %s is executed by %s", ErrNotHere, r.Point, in.Owner)
	}
	registry.Lock()
	defer registry.Unlock()
	if registry.points[r.Point] == nil {
		return fmt.Errorf("%w: %s is not part of this program", ErrNotHere, r.Point)
	}
	return nil
}

// Disarm removes all rules and wakes everything that hangs in one.
func Disarm() {
	registry.Lock()
	defer registry.Unlock()
	disarmLocked()
}

func disarmLocked() {
	if registry.armed == nil {
		return
	}
	for _, p := range registry.points {
		p.plan.Store(nil)
	}
	close(registry.armed.gone)
	registry.armed = nil
}

// Status reports on the armed rules, in their order.
func Status() []RuleStatus {
	registry.Lock()
	pl := registry.armed
	registry.Unlock()
	if pl == nil {
		return nil
	}
	var list []RuleStatus
	for _, r := range pl.rules {
		hits, fired := r.Count()
		list = append(list, RuleStatus{Rule: r.Rule, Hits: hits, Fired: fired})
	}
	return list
}

// eval runs the first rule of the point that fires.
func (pl *plan) eval(point string, s Scope, data []byte) ([]byte, error) {
	for _, r := range pl.rules {
		if r.Point != point || !r.matches(s) || !r.Action.Touches(s.N, len(data)) {
			continue
		}
		if n := r.Hit(); n > 0 {
			pl.log("%s", r.FiredLine(n))
			return pl.act(r, s, data)
		}
	}
	return data, nil
}

func (pl *plan) act(r *armedRule, s Scope, data []byte) ([]byte, error) {
	fail := &Error{Point: r.Point, Rule: r.String()}
	a := r.Action
	switch a.Kind {
	case KindErr:
		if fail.Text = a.Text; a.Text == "" {
			fail.Text = r.Point + ": injected error"
		}
	case KindENOSPC:
		fail.Cause = syscall.ENOSPC
	case KindEIO:
		fail.Cause = syscall.EIO
	case KindEACCES:
		fail.Cause = syscall.EACCES
	case KindShort:
		fail.Cause = io.ErrUnexpectedEOF
		return data[:a.Keep(len(data))], fail
	case KindFlip, KindZero:
		a.Damage(s.N, data)
		return data, nil
	case KindDelay, KindHang:
		pl.wait(a.Delay)
		return data, nil
	case KindKill9:
		kill()
		return data, nil
	case KindSkew:
		pl.skew.Add(int64(a.Delay))
		return data, nil
	case KindPanic:
		panic("failpoint: " + r.String())
	}
	return data, fail
}

// wait sleeps for d, or without end for 0; Disarm ends it early.
func (pl *plan) wait(d time.Duration) {
	if d == 0 {
		<-pl.gone
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-pl.gone:
	}
}
