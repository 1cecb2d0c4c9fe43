package cli

import (
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

	workloads   []string // none: throughput by the backend's clock
	concurrency []int
	requests    int
	prompt      int
	answer      int
	turns       int

	timeout time.Duration
}

// judgeFlags say when a difference is one.
type judgeFlags struct {
	margin        float64
	maxRegression float64
	acrossHosts   bool
}

// Defaults of measurements in turns: with 60 pairs recorded runs of equal servers
// come out the same (docs/benchmarks.md).
const (
	defaultPairs   = 60
	defaultRestart = 20
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
the servers' backends report (timings of ds4 and of llama.cpp). With --workloads it
is what clients see instead, of any server: see ds4bench serve-speed.

Exit codes: 0 nothing is worse by more than --max-regression; 1 something is, or a
count differs; 2 wrong usage, a bad file, or different machines; 3 a regression can
neither be shown nor ruled out.`,
		Example: `  ds4bench compare before.jsonl after.jsonl --max-regression 3
  ds4bench compare --a ./ds4-main --b ./ds4-branch
  ds4bench compare --a ./ds4 --b "DS4_CPU=avx2 ./ds4 serve" --frontiers 512,4096
  ds4bench compare --a ./ds4 --b http://127.0.0.1:8080 --workloads independent --samples 12`,
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
	cmd.Flags().StringSliceVar(&f.workloads, "workloads", nil, "measure latencies and goodput of these `names`, as serve-speed does, in place of throughput")
	cmd.Flags().IntSliceVar(&f.concurrency, "concurrency", []int{1, 4}, "with --workloads: `numbers` of requests in flight")
	cmd.Flags().IntVar(&f.requests, "requests", 8, "with --workloads: requests of a repetition")
	cmd.Flags().IntVar(&f.prompt, "prompt-tokens", 512, "with --workloads: length of a prompt")
	cmd.Flags().IntVar(&f.answer, "output-tokens", 32, "with --workloads: length of an answer")
	cmd.Flags().IntVar(&f.turns, "turns", 4, "with --workloads: turns of a conversation")
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
	if name := measuringFlag(cmd); name != "" {
		return usagef(cmd, "--%s goes with --a and --b: files are compared as they are, and nothing is recorded", name)
	}
	a, b, err := measurements(cmd, args)
	if err != nil {
		return err
	}
	opt.Paired = len(args) == 1
	return f.finish(cmd, a, b, opt)
}

// measuringFlag is a flag of the command line that would do nothing where files are
// compared, "" if there is none.
func measuringFlag(cmd *cobra.Command) string {
	for _, name := range []string{
		"out", "report", "junit", "csv", "samples", "frontiers", "decode-tokens", "seed", "restart-every", "timeout",
		"workloads", "concurrency", "requests", "prompt-tokens", "output-tokens", "turns",
	} {
		if cmd.Flags().Changed(name) {
			return name
		}
	}
	return ""
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
