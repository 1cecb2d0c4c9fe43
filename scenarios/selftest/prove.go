package selftest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"ds4/reports"
	"ds4/runtime/kvstore"
	"ds4/scenarios"
	"ds4/scenarios/run"
)

// ErrMissed is returned by Prove for a broken server that a scenario let pass.
var ErrMissed = errors.New("selftest: a scenario did not notice that the server is broken")

// Proof is one scenario run against one broken server.
type Proof struct {
	Scenario string
	Switch   string
	Caught   bool
	Result   reports.Result
}

// Options say what to prove, and how.
type Options struct {
	// Run is used as for run.Run; its Scenarios may contain some that name no
	// switch.
	Run run.Options
	// Switches are those to prove; none means all that the scenarios name.
	Switches []string
	// Parallel is how many broken servers are tested at a time, at least one.
	Parallel int
	// Each is called after every proof, by one goroutine at a time.
	Each func(Proof)
}

// Prove runs each scenario that names switches under catches against a server
// that is broken in each of these ways, and requires it to fail. A scenario that
// passes although what it tests is switched off is worthless.
//
// Only a failed assertion of a server that has been ready counts as caught: a run
// that could not be made, a server that cannot start, or a fault that never fired
// proves nothing.
func Prove(ctx context.Context, opt Options) error {
	p := prover{opt: opt}
	if p.opt.Run.Controls == nil {
		p.opt.Run.Controls = run.NewControls()
	}
	bySwitch, err := p.group()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	places := make(chan struct{}, max(opt.Parallel, 1))
	for _, sw := range Switches() {
		if list := bySwitch[sw]; len(list) > 0 && ctx.Err() == nil {
			places <- struct{}{}
			wg.Go(func() {
				defer func() { <-places }()
				p.broken(ctx, sw, list)
			})
		}
	}
	wg.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("selftest: %w", ctx.Err())
	}
	return errors.Join(p.errs...)
}

type prover struct {
	opt  Options
	mu   sync.Mutex
	errs []error
}

// group lists, for every switch that is wanted, the scenarios that name it: those
// of one switch share prompts and filled directories.
func (p *prover) group() (map[string][]*scenarios.Scenario, error) {
	by := map[string][]*scenarios.Scenario{}
	for _, sw := range p.opt.Switches {
		if !slices.Contains(Switches(), sw) {
			return nil, fmt.Errorf("selftest: the switch %q is unknown (known: %v)", sw, Switches())
		}
	}
	for _, s := range p.opt.Run.Scenarios {
		for _, sw := range s.Catches {
			if !slices.Contains(Switches(), sw) {
				return nil, fmt.Errorf("selftest: scenario %s names the unknown switch %q (known: %v)", s.ID, sw, Switches())
			}
			if len(p.opt.Switches) == 0 || slices.Contains(p.opt.Switches, sw) {
				by[sw] = append(by[sw], s)
			}
		}
	}
	return by, nil
}

// broken runs the scenarios of one switch.
func (p *prover) broken(ctx context.Context, sw string, list []*scenarios.Scenario) {
	opt := p.opt.Run
	opt.Scenarios = list
	opt.Repeat, opt.FailFast = 1, true
	opt.ServerArgs = append(slices.Clone(opt.ServerArgs), "--unsafe", sw)
	opt.ServerEnv = append(slices.Clone(opt.ServerEnv), "DS4_ENABLE_FAULTS=1")
	opt.Memory = func(ctx context.Context, s *scenarios.Scenario, seed uint64) reports.Result {
		return memory(ctx, s, seed, kvstore.UnsafeOf(func(word string) bool { return word == sw }))
	}
	ready := false
	opt.OnResult = func(r *reports.Result) error {
		ready = ready || served(r)
		p.conclude(Proof{Scenario: r.Scenario, Switch: sw, Caught: r.Verdict == reports.Fail && ready, Result: *r})
		return nil
	}
	if _, err := run.Run(ctx, opt); err != nil && ctx.Err() == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.errs = append(p.errs, fmt.Errorf("selftest: with %s: %w", sw, err))
	}
}

// served says whether a server was ready at least once. If none ever was, the
// switch has broken more than it is there to break.
func served(r *reports.Result) bool {
	return r.Lane == string(scenarios.LaneMemory) ||
		slices.ContainsFunc(r.Timeline, func(e reports.Event) bool { return e.Kind == reports.EventReady })
}

func (p *prover) conclude(proof Proof) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opt.Each != nil {
		p.opt.Each(proof)
	}
	if !proof.Caught && proof.Result.Verdict != reports.Skipped { // this host does not allow it
		p.errs = append(p.errs, fmt.Errorf("%w: %s under %s is %s %s", ErrMissed, proof.Scenario, proof.Switch,
			proof.Result.Verdict, proof.Result.Reason))
	}
}
