package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"ds4/reports"
	"ds4/reports/stat"
	"ds4/reports/table"
)

func newReport() *cobra.Command {
	var format, out, against string
	var acrossHosts bool
	cmd := &cobra.Command{
		Use:   "report FILE ...",
		Short: "Render results files again",
		Long: `Renders results files, as run, speed, serve-speed, compare and explore write them:

  text      a table for a terminal
  markdown  the summary of a CI job
  html      one page with recovery timelines, throughput curves and latencies; it
            needs nothing but itself, and compares with --baseline
  csv       every sample, for spreadsheets
  junit     test cases, for CI systems
  prom      Prometheus text, for the textfile collector
  benchfmt  the Go benchmark format, for benchstat

Several files are rendered as one. The exit code is that of the results: 1 if one
of them failed, 3 if nothing failed but something was inconclusive, or a run did
not come to its end, so that a stored file can gate a pipeline.

Files of a run that was killed are fine: what it had written is shown.`,
		Example: `  ds4bench report results/20260304T050607Z.jsonl
  ds4bench report --format html --baseline main.jsonl -o report.html results/*.jsonl
  ds4bench report --format junit --out junit.xml results/*.jsonl`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef(cmd, "which results file?")
			}
			render, known := writerOf(format)
			if !known {
				return usagef(cmd, "--format %q is not one of: %s", format, formats())
			}
			if against != "" && format != formatHTML {
				return usagef(cmd, "--baseline is for --format html; ds4bench compare says it in words")
			}
			runs, err := readAll(cmd, args)
			if err != nil {
				return err
			}
			base, err := compared(cmd, against, args, runs, acrossHosts)
			if err != nil {
				return err
			}
			write := func(w io.Writer) error { return render(w, runs, base) }
			if out != "" {
				err = writeFile(out, write)
			} else {
				buf := bufio.NewWriter(cmd.OutOrStdout())
				err = errors.Join(write(buf), buf.Flush())
			}
			if err != nil {
				return infrastructure(err)
			}
			return runsExit(runs)
		},
	}
	cmd.Flags().StringVar(&format, "format", formatText, formats())
	cmd.Flags().StringVar(&against, "baseline", "", "results `file` that the page compares with")
	cmd.Flags().BoolVar(&acrossHosts, "across-hosts", false, "compare with a baseline of another machine")
	cmd.Flags().StringVarP(&out, "out", "o", "", "write to this `file` and not to standard output")
	return cmd
}

// compared reads the baseline, if one is named, and sets the runs beside it.
func compared(cmd *cobra.Command, against string, names []string, runs []reports.Log, acrossHosts bool) (baseline, error) {
	opt := stat.CompareOptions{
		MarginPercent: stat.DefaultMarginPercent, MaxRegressionPercent: stat.DefaultMaxRegressionPercent, AcrossHosts: acrossHosts,
	}
	if against == "" {
		return baseline{}, nil
	}
	old, err := readAll(cmd, []string{against})
	if err != nil {
		return baseline{}, err
	}
	a := stat.Measurement{Name: against, Run: old[0].Run, Results: joined(old)}
	b := stat.Measurement{Name: strings.Join(names, ", "), Run: runs[0].Run, Results: joined(runs)}
	c, err := stat.Compare(a, b, opt)
	if errors.Is(err, stat.ErrDifferentHosts) {
		return baseline{}, badFile(fmt.Errorf("%w; --across-hosts compares them all the same", err))
	}
	if err != nil {
		return baseline{}, badFile(err)
	}
	return baseline{runs: old, comparison: c}, nil
}

// readAll reads every file before anything is written.
func readAll(cmd *cobra.Command, paths []string) ([]reports.Log, error) {
	var runs []reports.Log
	for _, path := range paths {
		f, err := reports.ReadFile(path)
		if err != nil {
			return nil, badFile(err)
		}
		for i := range f.Runs {
			if why := f.Runs[i].Unfinished(); why != "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "ds4bench: warning: %s: the run %s\n", path, why)
			}
		}
		runs = append(runs, f.Runs...)
	}
	return runs, nil
}

// runsExit is verdictExit of runs, of which each must have come to its end.
func runsExit(runs []reports.Log) error {
	if err := verdictExit(joined(runs)); err != nil {
		return err
	}
	for i := range runs {
		if runs[i].Unfinished() != "" {
			return &exitError{code: ExitInconclusive}
		}
	}
	return nil
}

func joined(runs []reports.Log) []reports.Result {
	var all []reports.Result
	for _, r := range runs {
		all = append(all, r.Results...)
	}
	return all
}

// renderTables writes what each run was, then one table of all scenarios and one
// of speed, as far as there is something for them.
func renderTables(w io.Writer, style table.Style, runs []reports.Log) error {
	for _, r := range runs {
		if err := table.About(w, r.Run); err != nil {
			return err
		}
	}
	var verdicts, speed, served []reports.Result
	for _, r := range joined(runs) {
		switch {
		case r.Side != "": // compared below
		case len(r.Frontiers) > 0:
			speed = append(speed, r)
		case r.Load != nil:
			served = append(served, r)
		default:
			verdicts = append(verdicts, r)
		}
	}
	if len(verdicts) > 0 {
		if err := errors.Join(table.Results(w, style, verdicts), table.Details(w, verdicts)); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w, counts(verdicts)); err != nil {
			return err
		}
	}
	for _, part := range []struct {
		results []reports.Result
		write   func(io.Writer, table.Style, []reports.Result) error
	}{{speed, table.Speed}, {served, table.ServeSpeed}} {
		if len(part.results) == 0 {
			continue
		}
		if len(part.results) < len(joined(runs)) { // there is something above
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		if err := errors.Join(part.write(w, style, part.results), table.Details(w, part.results)); err != nil {
			return err
		}
	}
	return renderTurns(w, style, runs)
}

// renderTurns writes what each run that measured two servers in turns found.
func renderTurns(w io.Writer, style table.Style, runs []reports.Log) error {
	list, err := turnComparisons(runs)
	if err != nil {
		return err
	}
	for _, c := range list {
		if err := table.Comparison(w, style, c); err != nil {
			return err
		}
	}
	return nil
}

// turnComparisons compares the two servers of each run that measured two in turns.
func turnComparisons(runs []reports.Log) ([]*reports.Comparison, error) {
	var list []*reports.Comparison
	for _, r := range runs {
		a, b := bySide(stat.Measurement{Run: r.Run, Results: r.Results})
		if len(b.Results) == 0 {
			continue
		}
		c, err := stat.Compare(a, b, stat.CompareOptions{
			MarginPercent: stat.DefaultMarginPercent, MaxRegressionPercent: stat.DefaultMaxRegressionPercent, Paired: true,
		})
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}
