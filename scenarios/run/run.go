package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ds4/faults"
	"ds4/faults/disk"
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
	oracle  oracle
	fills   map[string]fillEntry
	host    map[disk.Ability]error // what was probed
}

// Run executes the scenarios one after the other and judges each repetition. The
// error is about the harness itself (no working directory, OnResult failed, ctx
// ended); what the server did wrong is in the results.
func Run(ctx context.Context, opt Options) (sum Summary, err error) {
	if opt.Server == "" && opt.Target == "" {
		return sum, fmt.Errorf("%w: neither a server to start nor a target", ErrOptions)
	}
	if opt.Repeat < 0 {
		return sum, fmt.Errorf("%w: repeat %d", ErrOptions, opt.Repeat)
	}
	r := &runner{opt: opt, fills: map[string]fillEntry{}, host: map[disk.Ability]error{}}
	if r.tmp, err = os.MkdirTemp(opt.WorkDir, "ds4bench-"); err != nil {
		return sum, fmt.Errorf("run: working directory: %w", err)
	}
	r.prompts = prompts{server: opt.Server, dir: r.tmp, texts: map[promptKey]string{}}
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
		for rep := 1; rep <= n; rep++ {
			if ctx.Err() != nil {
				return sum, fmt.Errorf("run: %w", ctx.Err())
			}
			if opt.Only != nil && !opt.Only(s.ID, rep) {
				continue
			}
			res := r.one(ctx, s, i, rep)
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
	if s.Lane == scenarios.LaneMemory && r.opt.Memory != nil {
		res := r.opt.Memory(ctx, s, seed)
		res.Repetition, res.Seed, res.Rerun = n, seed, r.rerun(s, seed)
		return res
	}
	p := &rep{
		r: r, s: s, seed: seed, n: n, index: index, start: time.Now(),
		answers: map[string]*answer{}, keeps: map[string]string{}, outcome: faults.Recovered,
		res: reports.Result{
			Scenario: s.ID, Title: s.Title, Origin: s.Origin, Lane: string(s.Lane), Tags: s.Tags,
			Repetition: n, Seed: seed, Start: time.Now(), Verdict: reports.Pass, Rerun: r.rerun(s, seed),
		},
	}
	if why := r.cannot(s); why != "" {
		p.res.Verdict, p.res.Reason = reports.Skipped, why
		return p.res
	}
	if why := r.lacks(ctx, s); why != "" {
		p.res.Verdict, p.res.Reason = reports.Skipped, why
		if r.opt.Explicit {
			p.res.Verdict, p.res.Outcome = reports.Inconclusive, string(faults.Inconclusive)
		}
		return p.res
	}
	deadline := s.Deadline.Or(defaultDeadline)
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
	if s.Lane == scenarios.LaneMemory {
		return "this program was built without the store"
	}
	if r.opt.Target != "" && (needsProcess(s.Steps) || looksInside(s.Expect)) {
		return "needs a process of its own, not a target"
	}
	return ""
}

// needsProcess says whether steps do what nobody can do to a remote server.
func needsProcess(steps []scenarios.Step) bool {
	for i := range steps {
		s := &steps[i]
		switch {
		case s.Signal != nil, s.Stop != nil, s.Corrupt != nil, s.Fill != nil, s.Keep != nil, s.PutBack != nil,
			s.Fault != nil, s.SwapModel != nil, s.FillDisk != nil, s.FreeDisk != nil, s.Limit != nil, s.Access != nil, s.RemoveDir != nil, s.Wait != nil && !s.Wait.Chats,
			s.Chat != nil && s.Chat.Abandon != nil && s.Chat.Abandon.Log != "", s.Start != nil && (len(s.Start.Faults)+len(s.Start.Args) > 0):
			return true
		case s.Sweep != nil && needsProcess(s.Sweep.Steps), s.Repeat != nil && needsProcess(s.Repeat.Steps), needsProcess(s.Parallel):
			return true
		}
	}
	return false
}

// looksInside says whether assertions need the files, the log or the process of
// the server.
func looksInside(list []scenarios.Expect) bool {
	for i := range list {
		e := &list[i]
		if e.Fired != nil || e.Quarantined != nil || e.Segments != nil || e.Unchanged != "" || e.Temps != nil || e.Markers != nil || e.Deaths != nil || e.Log != nil || e.Exit != nil {
			return true
		}
	}
	return false
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
