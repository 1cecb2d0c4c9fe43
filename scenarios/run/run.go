package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ds4/faults"
	"ds4/faults/disk"
	"ds4/faults/root"
	"ds4/faults/syscalls"
	"ds4/reports"
	"ds4/scenarios"
)

// defaultDeadline bounds one repetition of a scenario that names no deadline.
const defaultDeadline = 8 * time.Minute

// runner is the state of one Run: what repetitions share.
type runner struct {
	opt     Options
	tmp     string // root of all working directories
	prompts prompts
	end     time.Time     // of Options.For
	until   time.Time     // of the present scenario's share of it; zero without
	last    time.Duration // of a repetition
	// uncounted are the prompts for servers whose tokenizer cannot be asked.
	uncounted prompts
	controls  foreignControls
	oracle    oracle
	fills     map[string]fillEntry
	host      map[disk.Ability]error // what was probed
	root      map[root.Ability]error // the same, of what needs root
	calls     map[syscalls.Ability]error
}

// Run executes the scenarios one after the other and judges each repetition. The
// error is about the harness itself (no working directory, OnResult failed, ctx
// ended); what the server did wrong is in the results.
func Run(ctx context.Context, opt Options) (sum Summary, err error) {
	if opt.Server == "" && opt.Target == "" && opt.Foreign == nil && !allForeign(opt.Scenarios) {
		return sum, fmt.Errorf("%w: neither a server to start nor a target", ErrOptions)
	}
	if opt.Repeat < 0 {
		return sum, fmt.Errorf("%w: repeat %d", ErrOptions, opt.Repeat)
	}
	r := &runner{opt: opt, fills: map[string]fillEntry{}, host: map[disk.Ability]error{}, root: map[root.Ability]error{},
		calls:    map[syscalls.Ability]error{},
		controls: foreignControls{known: map[string]string{}, exact: map[string]error{}}}
	if r.tmp, err = os.MkdirTemp(opt.WorkDir, "ds4bench-"); err != nil {
		return sum, fmt.Errorf("run: working directory: %w", err)
	}
	r.prompts = prompts{server: opt.Server, dir: r.tmp, texts: map[promptKey]string{}}
	r.uncounted = prompts{texts: map[promptKey]string{}}
	r.oracle = oracle{r: r, known: opt.Controls}
	if r.oracle.known == nil {
		r.oracle.known = NewControls()
	}
	defer r.oracle.close()
	defer func() {
		if keep := r.sweepUp(); keep != nil {
			err = errors.Join(err, keep)
		}
	}()
	for i, s := range opt.Scenarios {
		n := s.Passes()
		if opt.Repeat > 0 {
			n = opt.Repeat
		}
		r.share(i)
		for rep := 1; rep <= n || r.again(s); rep++ {
			if ctx.Err() != nil {
				return sum, fmt.Errorf("run: %w", ctx.Err())
			}
			if opt.Only != nil && !opt.Only(s.ID, rep) {
				continue
			}
			began := time.Now()
			res := r.one(ctx, s, i, rep)
			r.last = time.Since(began)
			if ctx.Err() != nil {
				return sum, fmt.Errorf("run: %w", ctx.Err()) // interrupted: no verdict
			}
			sum.count(&res)
			if opt.OnResult != nil {
				if err := opt.OnResult(&res); err != nil {
					return sum, fmt.Errorf("run: result of %s: %w", s.ID, err)
				}
			}
		}
	}
	return sum, nil
}

func (s *Summary) count(res *reports.Result) {
	s.Results = append(s.Results, *res)
	switch res.Verdict {
	case reports.Pass:
		s.Passed++
	case reports.Fail:
		s.Failed++
	case reports.Inconclusive:
		s.Inconclusive++
	case reports.Skipped:
		s.Skipped++
	}
}

// sweepUp removes what no repetition kept.
func (r *runner) sweepUp() error {
	if r.opt.KeepWork {
		return nil
	}
	for _, shared := range []string{"fills", "control", "prompts", "models"} {
		if err := os.RemoveAll(filepath.Join(r.tmp, shared)); err != nil {
			return fmt.Errorf("run: %w", err)
		}
	}
	_ = os.Remove(r.tmp) // stays if a failed repetition was kept in it
	return nil
}

// one runs one repetition and returns its result, whatever happens.
func (r *runner) one(ctx context.Context, s *scenarios.Scenario, index, n int) reports.Result {
	seed := r.opt.Seed + uint64(n-1)
	if s.Lane == scenarios.LaneMemory && r.opt.Memory != nil && r.subject(s) == scenarios.SubjectDS4 {
		res := r.opt.Memory(ctx, s, seed)
		res.Repetition, res.Seed, res.Rerun = n, seed, r.rerun(s, seed)
		return res
	}
	p := &rep{
		r: r, s: s, seed: seed, n: n, index: index, start: time.Now(),
		answers: map[string]*answer{}, keeps: map[string]string{}, marks: map[string]mark{}, until: r.until, outcome: faults.Recovered,
		res: reports.Result{
			Scenario: s.ID, Title: s.Title, Origin: s.Origin, Lane: string(s.Lane), Tags: s.Tags,
			Repetition: n, Seed: seed, Start: time.Now(), Verdict: reports.Pass, Rerun: r.rerun(s, seed),
		},
	}
	why := r.cannot(s)
	if why == "" && r.opt.Target != "" {
		if err := r.reachTarget(ctx); err != nil {
			p.res.Verdict, p.res.Reason, p.res.Outcome = reports.Inconclusive, err.Error(), string(faults.Inconclusive)
			return p.res
		}
	}
	if why == "" {
		why = r.lacks(ctx, s)
	}
	if why != "" {
		p.res.Verdict, p.res.Reason = reports.Skipped, why
		if r.opt.Explicit {
			p.res.Verdict, p.res.Outcome = reports.Inconclusive, string(faults.Inconclusive)
		}
		return p.res
	}
	deadline := s.Deadline.Or(defaultDeadline) + max(time.Until(r.until), 0)
	rctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	err := p.run(rctx)
	if rctx.Err() != nil && ctx.Err() == nil {
		err = stuck("the deadline of %s passed: %v", deadline, err)
	}
	p.conclude(err)
	return p.res
}

// cannot says why this invocation cannot run a scenario, or "".
func (r *runner) cannot(s *scenarios.Scenario) string {
	if list := s.Unavailable(r.subject(s)); len(list) > 0 {
		return "this server does not offer: " + strings.Join(list, "; ")
	}
	if s.Lane == scenarios.LaneMemory {
		return "this program was built without the store"
	}
	return ""
}

// allForeign says whether every scenario brings its own server.
func allForeign(list []*scenarios.Scenario) bool {
	return len(list) > 0 && !slices.ContainsFunc(list, func(s *scenarios.Scenario) bool {
		return len(s.Server.Command) == 0 && s.Lane != scenarios.LaneMemory
	})
}

// rerun is the command line that repeats one repetition.
func (r *runner) rerun(s *scenarios.Scenario, seed uint64) string {
	prefix := r.opt.RerunPrefix
	if prefix == "" {
		prefix = "ds4bench run"
	}
	line := fmt.Sprintf("%s %s --seed %d --repeat 1", prefix, s.ID, seed)
	if len(r.opt.ServerArgs) > 0 {
		line += " -- " + strings.Join(r.opt.ServerArgs, " ")
	}
	return line
}
