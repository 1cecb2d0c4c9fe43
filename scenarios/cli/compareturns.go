package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ds4/reports"
	"ds4/reports/stat"
	"ds4/scenarios/load"
	"ds4/scenarios/speed"
	"ds4/scenarios/turns"
)

// measure measures two servers in turns.
func (f *compareFlags) measure(cmd *cobra.Command, judge stat.CompareOptions) error {
	judge.Paired = true
	if f.samples < 1 || f.samples > turns.MaxSamples {
		return usagef(cmd, "--samples %d is not between 1 and %d", f.samples, turns.MaxSamples)
	}
	work, err := f.work()
	if err != nil {
		return usage(cmd, err)
	}
	if f.timeout < 0 {
		return usagef(cmd, "--timeout %v is negative", f.timeout)
	}
	if f.restart < 0 {
		return usagef(cmd, "--restart-every %d is negative", f.restart)
	}
	ctx, cancel := limited(cmd.Context(), f.timeout)
	defer cancel()
	subjects := make(map[string]*subject)
	for side, text := range map[string]string{reports.SideA: f.a, reports.SideB: f.b} {
		s, err := parseSubject(text)
		if err != nil {
			return usagef(cmd, "--%s: %v", side, err)
		}
		subjects[side] = s
	}
	out, err := openResults(f.output.out, f.record(ctx, subjects, work.contextTokens))
	if err != nil {
		return err
	}
	p := newProgress(cmd.ErrOrStderr())
	runErr := f.takeTurns(ctx, subjects, work, out, p)
	p.clear()
	closeErr := out.close(f.output, ctx.Err() != nil)
	if ctx.Err() != nil {
		runErr = fmt.Errorf("stopped early: %w", context.Cause(ctx))
	}
	a, b := bySide(stat.Measurement{Run: out.log.Run, Results: out.log.Results})
	a.Name, b.Name = f.a, f.b
	verdict := error(nil)
	if len(a.Results) > 0 && len(b.Results) > 0 {
		verdict = f.finish(cmd, a, b, judge)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d results; they are in %s\n", len(out.log.Results), 2*f.samples*work.results, out.path)
	if err := errors.Join(runErr, closeErr); err != nil {
		return infrastructure(err)
	}
	return verdict
}

// work is what is done with each server in turn.
type work struct {
	contextTokens int
	results       int // of one measurement
	warmUp        func(ctx context.Context, s *turns.Server) error
	measure       func(ctx context.Context, s *turns.Server, n int) ([]reports.Result, error)
}

// work says what to measure: throughput, or with --workloads what clients see.
func (f *compareFlags) work() (*work, error) {
	if len(f.workloads) > 0 {
		return f.loads()
	}
	opt := speed.Options{Frontiers: f.frontiers, Samples: f.samples, DecodeTokens: f.decode, Seed: f.seed, Rerun: f.rerun()}
	meter, err := speed.NewMeter(opt)
	if err != nil {
		return nil, err
	}
	return &work{
		contextTokens: opt.ContextTokens(), results: 1,
		warmUp: func(ctx context.Context, s *turns.Server) error { return meter.WarmUp(ctx, s.URL) },
		measure: func(ctx context.Context, s *turns.Server, n int) ([]reports.Result, error) {
			r, err := meter.Measure(ctx, s.URL, s.PID, n)
			if err != nil {
				return nil, err
			}
			return []reports.Result{*r}, nil
		},
	}, nil
}

// loads measures as serve-speed does.
func (f *compareFlags) loads() (*work, error) {
	opt := load.Options{
		Concurrency: f.concurrency, Requests: f.requests, Samples: 1, PromptTokens: f.prompt, OutputTokens: f.answer,
		Turns: f.turns, Seed: f.seed, Rerun: f.rerun(),
	}
	for _, w := range f.workloads {
		opt.Workloads = append(opt.Workloads, load.Workload(w))
	}
	if err := opt.Check(); err != nil {
		return nil, err
	}
	measure := func(ctx context.Context, s *turns.Server, n int) (list []reports.Result, err error) {
		opt := opt
		opt.URL, opt.ServerPID, opt.Warm = s.URL, s.PID, n
		opt.OnResult = func(r *reports.Result) error { list = append(list, *r); return nil }
		err = load.Run(ctx, opt)
		return list, err
	}
	return &work{
		contextTokens: opt.ContextTokens(), results: len(opt.Workloads) * len(opt.Concurrency), measure: measure,
		warmUp: func(ctx context.Context, s *turns.Server) error {
			_, err := measure(ctx, s, 1)
			return err
		},
	}, nil
}

func (f *compareFlags) rerun() string { return selfCommand() + " " + quoted(f.invocation) }

func (f *compareFlags) takeTurns(ctx context.Context, subjects map[string]*subject, w *work, out *results, p *progress) error {
	return turns.Run(ctx, turns.Options{
		Samples: f.samples, RestartEvery: f.restart,
		Start: func(ctx context.Context, side string) (*turns.Server, error) {
			p.line(fmt.Sprintf("%s: starting the server", side))
			return subjects[side].start(ctx, w.contextTokens)
		},
		WarmUp: func(ctx context.Context, _ string, s *turns.Server) error { return w.warmUp(ctx, s) },
		Measure: func(ctx context.Context, side string, s *turns.Server, n int) ([]reports.Result, error) {
			p.line(fmt.Sprintf("%d/%d  %s", n, f.samples, side))
			return w.measure(ctx, s, n)
		},
		OnResult: out.add,
	})
}

func (f *compareFlags) record(ctx context.Context, subjects map[string]*subject, contextTokens int) reports.Run {
	b := subjects[reports.SideB].record(ctx, contextTokens)
	return reports.Run{
		Command: "compare", Args: f.invocation, Start: time.Now().UTC().Truncate(time.Millisecond), Seed: f.seed,
		Build: reports.ThisBuild(Version), Host: reports.ThisHost(),
		Server: subjects[reports.SideA].record(ctx, contextTokens), ServerB: &b,
	}
}
