package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ds4/reports"
	"ds4/reports/stat"
	"ds4/reports/table"
	"ds4/scenarios/speed"
	"ds4/scenarios/turns"
)

// compareFlags are those of ds4bench compare.
type compareFlags struct {
	invocation []string

	output outputFlags
	judge  judgeFlags
	a, b   string

	samples   int
	frontiers []int
	decode    int
	seed      uint64
	restart   int
	timeout   time.Duration
}

// judgeFlags say when a difference is one.
type judgeFlags struct {
	margin        float64
	maxRegression float64
	acrossHosts   bool
}

// Defaults of measurements in turns. With 40 pairs the interval of the change lies
// between the 14th and the 27th ratio, whatever the others are.
const (
	defaultPairs   = 40
	defaultRestart = 10
)

func newCompare(invocation []string) *cobra.Command {
	f := compareFlags{invocation: invocation}
	cmd := &cobra.Command{
		Use:   "compare A.jsonl B.jsonl | compare --a SERVER --b SERVER | compare AB.jsonl",
		Short: "Say whether one measurement is faster, slower or the same as another",
		Long: `Compares two results files, or measures two servers in turns and compares those.
A is the baseline. One row for each rate and time, with the change of B against A,
its 95 % interval, the p of the Mann-Whitney U test, and a verdict:

  faster, slower  the interval does not contain "no change" (and, of separate
                  files, the U test rejects it, too)
  same            the interval lies within --margin, either way
  different       a count that must be equal is not
  cannot tell     everything else: more samples, or a quieter machine

A sample is one repetition, and ` + strconv.Itoa(stat.EnoughSamples) + ` are the least of which anything can be told. Counts
(tokens, bytes, retries) must be equal, repetition by repetition.

With --a and --b two servers are measured in turns, A B B A, and neighbours are
compared, so that a machine that gets slower or faster moves neither. Now and then
(--restart-every) both are started anew, because the luck that a process has with
its memory lasts as long as it does. A SERVER is

  a ds4 binary                    ./ds4
  its command line                "./ds4 serve --threads 1"
  any server's command line       "llama-server -m FILE --port $PORT"
  a server that runs already      http://127.0.0.1:8000

Words are split as a shell does, no shell runs, NAME=VALUE words before the
program are for its environment, and $PORT becomes a free port. Throughput is what
the servers' backends report (timings of ds4 and of llama.cpp); a server that
reports none is compared with ds4bench serve-speed and two files.

Exit codes: 0 nothing is worse by more than --max-regression; 1 something is, or a
count differs; 2 wrong usage, a bad file, or different machines; 3 a regression can
neither be shown nor ruled out.`,
		Example: `  ds4bench compare before.jsonl after.jsonl --max-regression 3
  ds4bench compare --a ./ds4-main --b ./ds4-branch
  ds4bench compare --a ./ds4 --b "DS4_CPU=avx2 ./ds4 serve" --frontiers 512,4096`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.execute(cmd, args) },
	}
	f.judge.addFlags(cmd)
	cmd.Flags().StringVar(&f.a, "a", "", "`SERVER` that is the baseline")
	cmd.Flags().StringVar(&f.b, "b", "", "`SERVER` that is judged")
	cmd.Flags().IntVar(&f.samples, "samples", defaultPairs, "measurements of each server")
	cmd.Flags().IntSliceVar(&f.frontiers, "frontiers", []int{512, 2048}, "context `lengths` in tokens, growing")
	cmd.Flags().IntVar(&f.decode, "decode-tokens", 32, "length of the decode probe")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "of the text that is sent")
	cmd.Flags().IntVar(&f.restart, "restart-every", defaultRestart, "start both servers anew after `N` measurements of each; 1: one server at a time, for models that fill the memory; 0: never")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 0, "for everything together, such as 10m (default: none)")
	f.output.addFlags(cmd)
	cmd.Flags().Lookup("format").Usage = "of the comparison: text, markdown or json"
	return cmd
}

func (j *judgeFlags) addFlags(cmd *cobra.Command) {
	cmd.Flags().Float64Var(&j.maxRegression, "max-regression", stat.DefaultMaxRegressionPercent, "`percent` for the worse that are accepted")
	cmd.Flags().Float64Var(&j.margin, "margin", 0, "`percent` of change up to which two figures are the same (default: "+
		strconv.Itoa(stat.DefaultMarginPercent)+", or --max-regression if that is less)")
	cmd.Flags().BoolVar(&j.acrossHosts, "across-hosts", false, "compare measurements of different machines")
}

// options checks the flags.
func (j *judgeFlags) options(cmd *cobra.Command) (stat.CompareOptions, error) {
	opt := stat.CompareOptions{MarginPercent: j.margin, MaxRegressionPercent: j.maxRegression, AcrossHosts: j.acrossHosts}
	if !cmd.Flags().Changed("margin") {
		opt.MarginPercent = min(stat.DefaultMarginPercent, opt.MaxRegressionPercent)
	}
	switch {
	case !(opt.MaxRegressionPercent >= 0 && opt.MaxRegressionPercent <= 100):
		return opt, usagef(cmd, "--max-regression %v is not between 0 and 100 percent", opt.MaxRegressionPercent)
	case !(opt.MarginPercent >= 0 && opt.MarginPercent <= opt.MaxRegressionPercent):
		return opt, usagef(cmd, "--margin %v is not between 0 and --max-regression, which is %v percent", opt.MarginPercent, opt.MaxRegressionPercent)
	}
	return opt, nil
}

func (f *compareFlags) execute(cmd *cobra.Command, args []string) error {
	opt, err := f.judge.options(cmd)
	if err != nil {
		return err
	}
	if f.output.format != formatJSON {
		if _, err := tableStyle(cmd, f.output.format); err != nil {
			return err
		}
	}
	servers := f.a != "" || f.b != ""
	switch {
	case servers && (f.a == "" || f.b == ""):
		return usagef(cmd, "--a and --b go together")
	case servers && len(args) > 0:
		return usagef(cmd, "files and --a, --b exclude each other")
	case servers:
		return f.measure(cmd, opt)
	case len(args) < 1 || len(args) > 2:
		return usagef(cmd, "which two results files?")
	}
	a, b, err := measurements(cmd, args)
	if err != nil {
		return err
	}
	opt.Paired = len(args) == 1
	return f.finish(cmd, a, b, opt)
}

// measurements reads the sides of a comparison: two files, or one with both.
func measurements(cmd *cobra.Command, paths []string) (a, b stat.Measurement, err error) {
	var sides []stat.Measurement
	for _, path := range paths {
		runs, err := readAll(cmd, []string{path})
		if err != nil {
			return a, b, err
		}
		m := stat.Measurement{Name: path, Run: runs[0].Run, Results: joined(runs)}
		for _, r := range runs[1:] {
			if r.Run.Host.Name != m.Run.Host.Name {
				return a, b, badFile(fmt.Errorf("%s: its runs are from different machines", path))
			}
		}
		sides = append(sides, m)
	}
	if len(sides) == 2 {
		return sides[0], sides[1], nil
	}
	a, b = bySide(sides[0])
	if len(b.Results) == 0 {
		return a, b, badFile(fmt.Errorf("%s holds no two servers measured in turns; name a second file", paths[0]))
	}
	return a, b, nil
}

// bySide takes a run of two servers in turns apart.
func bySide(m stat.Measurement) (a, b stat.Measurement) {
	a, b = stat.Measurement{Name: sideName(m.Run.Server, "A"), Run: m.Run}, stat.Measurement{Name: "B", Run: m.Run}
	if m.Run.ServerB != nil {
		b.Run.Server = *m.Run.ServerB
		b.Name = sideName(b.Run.Server, "B")
	}
	for _, r := range m.Results {
		switch r.Side {
		case reports.SideA:
			a.Results = append(a.Results, r)
		case reports.SideB:
			b.Results = append(b.Results, r)
		}
	}
	return a, b
}

func sideName(s reports.Server, other string) string {
	switch {
	case s.Target != "":
		return s.Target
	case s.Path != "":
		return strings.Join(append([]string{s.Path}, s.Args...), " ")
	}
	return other
}

// measure measures two servers in turns.
func (f *compareFlags) measure(cmd *cobra.Command, judge stat.CompareOptions) error {
	judge.Paired = true
	opt := speed.Options{Frontiers: f.frontiers, Samples: f.samples, DecodeTokens: f.decode, Seed: f.seed, Rerun: selfCommand() + " " + quoted(f.invocation)}
	if err := opt.Check(); err != nil {
		return usage(cmd, err)
	}
	if f.timeout < 0 {
		return usagef(cmd, "--timeout %v is negative", f.timeout)
	}
	if f.restart < 0 {
		return usagef(cmd, "--restart-every %d is negative", f.restart)
	}
	ctx := cmd.Context()
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("--timeout of %v passed", f.timeout))
		defer cancel()
	}
	subjects := make(map[string]*subject)
	for side, text := range map[string]string{reports.SideA: f.a, reports.SideB: f.b} {
		s, err := parseSubject(text)
		if err != nil {
			return usagef(cmd, "--%s: %v", side, err)
		}
		subjects[side] = s
	}
	out, err := openResults(f.output.out, f.record(ctx, subjects, opt.ContextTokens()))
	if err != nil {
		return err
	}
	p := newProgress(cmd.ErrOrStderr())
	runErr := f.takeTurns(ctx, subjects, opt, out, p)
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
	fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d measurements; results in %s\n", len(out.log.Results), 2*f.samples, out.path)
	if err := errors.Join(runErr, closeErr); err != nil {
		return infrastructure(err)
	}
	return verdict
}

func (f *compareFlags) takeTurns(ctx context.Context, subjects map[string]*subject, opt speed.Options, out *results, p *progress) error {
	at := ""
	opt.Progress = func(_, frontier int) { p.line(fmt.Sprintf("%s  %d tokens", at, frontier)) }
	meter, err := speed.NewMeter(opt)
	if err != nil {
		return err
	}
	defer meter.Close()
	contextTokens := opt.ContextTokens()
	return turns.Run(ctx, turns.Options{
		Samples: f.samples, RestartEvery: f.restart,
		Start: func(ctx context.Context, side string) (*turns.Server, error) {
			return subjects[side].start(ctx, contextTokens)
		},
		WarmUp: func(ctx context.Context, side string, s *turns.Server) error {
			at = fmt.Sprintf("%s %d/%d warm-up", side, len(out.log.Results)/2+1, f.samples)
			return meter.WarmUp(ctx, s.URL)
		},
		Measure: func(ctx context.Context, side string, s *turns.Server, n int) ([]reports.Result, error) {
			at = fmt.Sprintf("%s %d/%d", side, n, f.samples)
			r, err := meter.Measure(ctx, s.URL, s.PID, n)
			if err != nil {
				return nil, err
			}
			return []reports.Result{*r}, nil
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

// finish compares, prints, and decides the exit code.
func (f *compareFlags) finish(cmd *cobra.Command, a, b stat.Measurement, opt stat.CompareOptions) error {
	c, err := stat.Compare(a, b, opt)
	switch {
	case errors.Is(err, stat.ErrDifferentHosts):
		return badFile(fmt.Errorf("%w; --across-hosts compares them all the same", err))
	case err != nil:
		return infrastructure(err)
	}
	if err := writeComparison(cmd.OutOrStdout(), cmd, f.output.format, c); err != nil {
		return infrastructure(err)
	}
	return regressionExit(c)
}

func writeComparison(w io.Writer, cmd *cobra.Command, format string, c *reports.Comparison) error {
	if format == formatJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(c)
	}
	style, err := tableStyle(cmd, format)
	if err != nil {
		return err
	}
	return table.Comparison(w, style, c)
}

// regressionExit turns a comparison into the error that ends the command.
func regressionExit(c *reports.Comparison) error {
	has := func(r reports.Regression) bool {
		return slices.ContainsFunc(c.Rows, func(row reports.ComparisonRow) bool { return row.Regression == r })
	}
	switch {
	case has(reports.ProvenRegression):
		return &exitError{code: ExitFail}
	case len(c.Rows) == 0:
		return infrastructure(errors.New("nothing to compare: no metric in A"))
	case has(reports.PossibleRegression):
		return &exitError{code: ExitInconclusive}
	}
	return nil
}

// quoted joins words so that a shell takes them apart again.
func quoted(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = shellWord(w)
	}
	return strings.Join(out, " ")
}
