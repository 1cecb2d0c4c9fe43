package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ds4/faults/explore"
	"ds4/faults/syscalls"
	"ds4/reports"
	"ds4/reports/table"
	"ds4/scenarios"
)

// exploreID is the scenario of the results of explore.
const exploreID = "explore"

// exploration is one invocation that has begun.
type exploration struct {
	*exploreFlags
	cmd  *cobra.Command
	work string
	each func() (explorable, error) // makes what is explored, for the present seed
}

// runs explores the runs, each with the next seed, and appends a result for each.
func (x *exploration) runs(ctx context.Context, out *results) error {
	for n := 1; n <= x.count && ctx.Err() == nil; n++ {
		if x.count > 1 {
			fmt.Fprintf(x.cmd.OutOrStdout(), "run %d of %d, seed %d\n", n, x.count, x.seed)
		}
		res := reports.Result{
			Scenario: exploreID, Title: "No directory that a power cut may leave makes the server fail",
			Lane: string(scenarios.LaneSyscalls), Repetition: n, Seed: x.seed,
			Start: time.Now().UTC().Truncate(time.Millisecond), Verdict: reports.Pass, Rerun: x.rerun(),
		}
		x.run(ctx, &res)
		if ctx.Err() != nil && res.Verdict == reports.Inconclusive && n > 1 {
			return nil // it was cut short before it said anything; finish says so
		}
		res.DurationMS = reports.Milliseconds(time.Since(res.Start))
		if err := out.add(&res); err != nil {
			return err
		}
		x.seed++
	}
	return nil
}

// run explores one run.
func (x *exploration) run(ctx context.Context, res *reports.Result) {
	nothing := func(err error) {
		res.Verdict, res.Reason = reports.Inconclusive, err.Error()
		fmt.Fprintf(x.cmd.ErrOrStderr(), "ds4bench: %v\n", err)
	}
	what, err := x.each()
	if err != nil {
		nothing(err)
		return
	}
	start := time.Now()
	work, err := os.MkdirTemp(x.work, "run-")
	if err != nil {
		nothing(err)
		return
	}
	defer os.RemoveAll(work)
	history, err := record(ctx, what, filepath.Join(work, "recorded"))
	var wrong *wrongRun
	switch {
	case errors.As(err, &wrong):
		res.AddFailure("%v", err)
		fmt.Fprintf(x.cmd.OutOrStdout(), "bad: %v\n", err)
		return
	case err != nil:
		nothing(err)
		return
	}
	describe(x.cmd.OutOrStdout(), history, time.Since(start))
	set, err := history.States(ctx, explore.Options{Max: x.max, Random: x.random, Seed: x.seed, NoSync: x.lying})
	if err != nil {
		nothing(err)
		return
	}
	tried, err := x.try(ctx, x.cmd.ErrOrStderr(), what, set, work)
	x.report(x.cmd.OutOrStdout(), set, tried, time.Since(start))
	measureStates(res, history, set, tried)
	for _, one := range tried.Findings {
		res.AddFailure("%v\n%s\nkept: %s", one.Err, one.State, one.Dir)
		res.WorkDir = x.keep
	}
	switch {
	case errors.As(err, &wrong):
		res.AddFailure("%v", err)
		fmt.Fprintf(x.cmd.OutOrStdout(), "bad: %v\n", err)
	case res.Verdict == reports.Fail && err != nil:
		res.Warnings = append(res.Warnings, err.Error())
	case res.Verdict == reports.Fail:
	case err != nil:
		nothing(err)
	case tried.States < 2:
		nothing(errors.New("no directory but the last one was tried"))
	}
}

// measureStates notes how much was tried.
func measureStates(res *reports.Result, h *explore.History, set *explore.Set, tried explore.Tried) {
	for name, n := range map[string]int{
		"recorded_operations": len(h.Ops), "built_directories": set.Found, "tried_directories": tried.States,
		"bad_directories": len(tried.Findings), "moments": set.Moments, "exhausted_moments": set.Exhausted,
	} {
		res.AddMetric(name, float64(n))
	}
}

// rerun is the command line that explores the present run alone.
func (x *exploration) rerun() string {
	line := selfCommand() + " explore"
	if x.server.path != "" {
		line += " --server " + shellWord(x.server.path)
	}
	for _, f := range []struct{ name, value, usual string }{
		{"requests", fmt.Sprint(x.requests), "1"}, {"tokens", fmt.Sprint(x.tokens), fmt.Sprint(defaultQuestion)},
		{"max-states", fmt.Sprint(x.max), fmt.Sprint(defaultStates)}, {"random", fmt.Sprint(x.random), fmt.Sprint(defaultRandom)},
		{"forbid-log", x.forbid, damageWords}, {"stored-log", x.stored, storedWords}, {"ready", x.ready, ""}, {"check", x.check, ""},
	} {
		if f.value != f.usual {
			line += " --" + f.name + " " + shellWord(f.value)
		}
	}
	if x.lying {
		line += " --lying-disk"
	}
	if x.noReuse {
		line += " --no-reuse"
	}
	return fmt.Sprintf("%s --seed %d%s", line, x.seed, dashed(x.command))
}

// execute explores.
func (f *exploreFlags) execute(cmd *cobra.Command, args []string) error {
	before, command := splitDash(cmd, args)
	if len(before) > 0 {
		return usagef(cmd, "unexpected argument %q: the command comes after --", before[0])
	}
	f.command = command
	style, err := tableStyle(cmd, f.output.format)
	if err == nil {
		err = f.output.check(cmd)
	}
	if err != nil {
		return err
	}
	each, srv, err := f.validate(cmd)
	if err != nil {
		return err
	}
	defer srv.cleanup()
	for _, a := range syscalls.Abilities() {
		if err := syscalls.Probe(cmd.Context(), a); err != nil {
			return infrastructure(err)
		}
	}
	if err := f.output.writable(); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "ds4bench-explore-")
	if err != nil {
		return infrastructure(err)
	}
	defer os.RemoveAll(work)
	if f.keep == "" {
		f.keep = filepath.Join(os.TempDir(), fmt.Sprintf("ds4bench-states-%d", os.Getpid()))
	}
	ctx, cancel := limited(cmd.Context(), f.timeout)
	defer cancel()
	out, err := openResults(f.output.out, reports.Run{
		Command: "explore", Args: f.invocation, Start: time.Now().UTC().Truncate(time.Millisecond), Seed: f.seed,
		Build: reports.ThisBuild(Version), Host: reports.ThisHost(), Server: f.record(ctx, srv),
	})
	if err != nil {
		return err
	}
	out.warn = cmd.ErrOrStderr()
	x := &exploration{exploreFlags: f, cmd: cmd, work: work, each: each}
	err = x.runs(ctx, out)
	return x.finish(ctx, style, out, err)
}

// record describes what is explored.
func (f *exploreFlags) record(ctx context.Context, srv server) reports.Server {
	if len(f.command) > 0 {
		return reports.Server{Path: f.command[0], Args: f.command[1:]}
	}
	return srv.record(ctx, "", exploredFlags)
}

// finish ends the results and chooses the exit code. A --timeout that cut the work
// short is said per run, and what was tried counts; an interrupt is none of that.
func (x *exploration) finish(ctx context.Context, style table.Style, out *results, runErr error) error {
	rs := out.log.Results
	w := x.cmd.OutOrStdout()
	interrupted := x.cmd.Context().Err() != nil
	err := errors.Join(runErr, out.close(x.output, interrupted))
	if x.count > 1 {
		if err := table.Results(w, style, rs); err != nil {
			return infrastructure(err)
		}
	}
	if ctx.Err() != nil && len(rs) < x.count {
		fmt.Fprintf(w, "%d of %d runs were not explored: %v\n", x.count-len(rs), x.count, context.Cause(ctx))
	}
	fmt.Fprintf(w, "%s; %s\n", strings.ReplaceAll(counts(rs), "repetition", "run"), out.place())
	switch {
	case reports.Worst(rs) == reports.Fail:
		return &exitError{ExitFail, err}
	case err != nil:
		return infrastructure(err)
	case interrupted:
		return infrastructure(errors.New("stopped early"))
	}
	return verdictExit(rs)
}

// record runs a program once.
func record(ctx context.Context, what explorable, dir string) (*explore.History, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	rec, err := explore.NewRecorder(dir)
	if err != nil {
		return nil, err
	}
	sup, err := syscalls.New(syscalls.Config{Dir: dir, Observe: rec.Observe, Log: func(string) {}})
	if err != nil {
		return nil, err
	}
	defer sup.Close()
	if err := what.run(ctx, sup, dir, rec.Len); err != nil {
		return nil, fmt.Errorf("the run to be recorded: %w", err)
	}
	history, err := rec.Finish()
	if unseen := sup.Unseen(); err != nil && len(unseen) > 0 {
		err = fmt.Errorf("%w (%s)", err, strings.Join(unseen, "; "))
	}
	return history, err
}

// try checks the directories: first what the run left in good order, which says
// what the others are compared with.
func (f *exploreFlags) try(ctx context.Context, log io.Writer, what explorable, set *explore.Set, work string) (explore.Tried, error) {
	if err := os.MkdirAll(f.keep, 0o700); err != nil {
		return explore.Tried{}, err
	}
	defer os.Remove(f.keep) // stays if something was kept
	p := newProgress(log)
	defer p.clear()
	total := len(set.States)
	each := func(base int) func(int, *explore.State, error) {
		return func(done int, s *explore.State, err error) {
			p.line(fmt.Sprintf("[%d/%d] after operation %d, %s", base+done, total, s.Point, s.After))
			if err != nil {
				p.say("bad     %s", s)
			}
		}
	}
	first := &explore.Set{States: set.States[:1]}
	tried, err := explore.Check(ctx, first, 1, work, f.keep, what.judge, each(0))
	if err != nil || len(tried.Findings) > 0 {
		return tried, err
	}
	if err := what.settled(ctx, work); err != nil && ctx.Err() == nil {
		return tried, err
	}
	rest := &explore.Set{States: set.States[1:]}
	more, err := explore.Check(ctx, rest, f.parallel, work, f.keep, what.judge, each(1))
	more.States += tried.States
	return more, err
}
