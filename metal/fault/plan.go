package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"ds4/metal"
)

// Plan is a set of armed rules and their counters. One Plan may serve several
// devices; it is safe for concurrent use.
type Plan struct {
	log  func(format string, args ...any)
	kill func()

	mu      sync.Mutex
	rules   []*armed
	process *fired // the StickyProcess condition, once it holds
}

// armed is a rule with its compiled expressions and counters.
type armed struct {
	Rule
	label, op *regexp.Regexp // nil for any
	rng       *rand.Rand
	matched   int
	fired     int
}

// fired is one firing of a rule.
type fired struct {
	rule *Rule
	n    int    // how many times the rule has fired
	op   string // the marker that Rule.Op matched, or the last one
	opAt int    // number of dispatches before that marker; -1 without Rule.Op
}

// Count is the state of one rule.
type Count struct {
	Rule    string // as log lines show it
	Matched int
	Fired   int
}

// Option changes a Plan.
type Option func(*Plan)

// WithKill replaces what Rule.Kill does, for tests. When f returns the operation
// fails as the rule says.
func WithKill(f func()) Option { return func(p *Plan) { p.kill = f } }

// NewPlan arms rules. log receives one line per rule now, and one per firing; it
// must have written the line when it returns, because the process may end right
// after. It may be nil.
func NewPlan(rules []Rule, log func(format string, args ...any), opts ...Option) (*Plan, error) {
	if len(rules) > MaxRules {
		return nil, fmt.Errorf("%w: %d rules, the limit is %d", ErrRule, len(rules), MaxRules)
	}
	p := &Plan{log: log, kill: killSelf}
	if log == nil {
		p.log = func(string, ...any) {}
	}
	for _, opt := range opts {
		opt(p)
	}
	for _, r := range rules {
		if err := r.Validate(); err != nil {
			return nil, err
		}
		a := &armed{Rule: r}
		if r.Label != "" {
			a.label = regexp.MustCompile(r.Label) // Validate compiled it
		}
		if r.Op != "" {
			a.op = regexp.MustCompile(r.Op)
		}
		if r.Prob > 0 {
			a.rng = rand.New(rand.NewPCG(r.Seed, 0))
		}
		p.rules = append(p.rules, a)
	}
	for _, a := range p.rules {
		p.log("fault armed rule=%q", a.origin())
	}
	return p, nil
}

// killSelf ends the process as kill -9 does.
func killSelf() {
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {} // the signal is on its way
}

// Counts reports on every rule, in the order of NewPlan.
func (p *Plan) Counts() []Count {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Count, len(p.rules))
	for i, a := range p.rules {
		list[i] = Count{Rule: a.origin(), Matched: a.matched, Fired: a.fired}
	}
	return list
}

// marker is a Marker of a command buffer and the number of dispatches before it.
type marker struct {
	op string
	at int
}

// event is an operation that rules are asked about.
type event struct {
	at      []At
	label   string
	markers []marker
	scope   metal.Scope
}

// ask counts the event for the rules that match it, in their order, up to the
// first one that fires; that one is returned, or nil. Its log line is out then.
func (p *Plan) ask(e event) *fired {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.rules {
		op, opAt, ok := a.match(e)
		if !ok {
			continue
		}
		a.matched++
		if a.due() {
			a.fired++
			p.log("fault fired rule=%q n=%d", a.origin(), a.fired)
			return &fired{rule: &a.Rule, n: a.fired, op: op, opAt: opAt}
		}
	}
	return nil
}

// match reports whether the rule is about the event, and which marker it means.
func (a *armed) match(e event) (op string, opAt int, ok bool) {
	opAt = -1
	if n := len(e.markers); n > 0 {
		op = e.markers[n-1].op
	}
	if !slices.Contains(e.at, a.At) || a.label != nil && !a.label.MatchString(e.label) {
		return "", -1, false
	}
	if a.op != nil {
		i := slices.IndexFunc(e.markers, func(m marker) bool { return a.op.MatchString(m.op) })
		if i < 0 {
			return "", -1, false
		}
		op, opAt = e.markers[i].op, e.markers[i].at
	}
	s := e.scope
	ok = (a.Phase == "" || slices.Contains(strings.Split(a.Phase, "|"), s.Phase)) &&
		(a.Source == "" || a.Source == s.Source) &&
		(a.Chunk == 0 || a.Chunk == s.Chunk) &&
		prefix(a.Range, s.Range) && prefix(a.Entry, s.Entry)
	return op, opAt, ok
}

// prefix matches an identifier against a rule's prefix.
func prefix(want, got string) bool {
	switch want {
	case "":
		return true
	case "*":
		return got != ""
	}
	return strings.HasPrefix(got, want)
}

// due decides whether the match just counted makes the rule fire.
func (a *armed) due() bool {
	switch {
	case a.Times > 0 && a.fired >= a.Times,
		a.N > 0 && a.matched != a.N,
		a.Every > 0 && a.matched%a.Every != 0,
		a.rng != nil && a.rng.Float64() >= a.Prob:
		return false
	}
	return true
}

// holds logs that a sticky condition fails one more operation.
func (p *Plan) holds(f *fired, label string) {
	p.log("fault holds rule=%q n=%d label=%q", f.rule.origin(), f.n, label)
}

// stick makes a StickyProcess condition hold for all devices of the plan.
func (p *Plan) stick(f *fired) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		p.process = f
	}
}

// stuck returns the StickyProcess condition, or nil.
func (p *Plan) stuck() *fired {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.process
}

// act does what comes before the failure: delay, panic, kill, hang. Its error is
// that of ctx.
func (p *Plan) act(ctx context.Context, r *Rule) error {
	if r.Delay > 0 {
		t := time.NewTimer(r.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	switch {
	case r.Panic:
		panic("fault: " + r.origin())
	case r.Kill:
		p.kill()
	case r.Hang:
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// commandError is the error that a firing gives to a command buffer.
func (f *fired) commandError(label string) *metal.CommandError {
	code := f.rule.Code
	switch code {
	case 0:
		code = metal.CodeInternal
	case CodeZero:
		code = metal.CodeNone
	}
	text := f.rule.Text
	if text == "" {
		text = code.Message()
	}
	return metal.NewCommandError(label, code, text)
}

// resourceError is the error of an allocation, a mapping or a pipeline.
func (f *fired) resourceError(what, label string) error {
	text := f.rule.Text
	if text == "" {
		text = "no reason given"
	}
	if f.rule.At == AtPipeline {
		return fmt.Errorf("%s %q: %w: %s", what, label, ErrInjected, text)
	}
	return fmt.Errorf("%s %q: %w: %w: %s", what, label, metal.ErrOutOfMemory, ErrInjected, text)
}
