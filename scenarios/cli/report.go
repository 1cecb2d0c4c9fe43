package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ds4/reports"
	"ds4/reports/csv"
	"ds4/reports/junit"
	"ds4/reports/stat"
	"ds4/reports/table"
)

func newReport() *cobra.Command {
	var format, out string
	cmd := &cobra.Command{
		Use:   "report FILE ...",
		Short: "Render results files again",
		Long: `Renders results files, as ds4bench run and ds4bench speed write them, as a table,
CSV or JUnit XML. Several files are rendered as one. The exit code is that of
the results: 1 if one of them failed, 3 if nothing failed but something was
inconclusive, so that a stored file can gate a pipeline.

Files of a run that was killed are fine: what it had written is shown.`,
		Example: `  ds4bench report results/20260304T050607Z.jsonl
  ds4bench report --format junit --out junit.xml results/*.jsonl`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef(cmd, "which results file?")
			}
			render, err := renderer(cmd, format)
			if err != nil {
				return err
			}
			runs, err := readAll(cmd, args)
			if err != nil {
				return err
			}
			write := func(w io.Writer) error { return render(w, runs) }
			if out != "" {
				err = writeFile(out, write)
			} else {
				buf := bufio.NewWriter(cmd.OutOrStdout())
				err = errors.Join(write(buf), buf.Flush())
			}
			if err != nil {
				return infrastructure(err)
			}
			var all []reports.Result
			for _, r := range runs {
				all = append(all, r.Results...)
			}
			return verdictExit(all)
		},
	}
	cmd.Flags().StringVar(&format, "format", formatText, "text, markdown, csv or junit")
	cmd.Flags().StringVar(&out, "out", "", "write to this `file` and not to standard output")
	return cmd
}

// readAll reads every file before anything is written.
func readAll(cmd *cobra.Command, paths []string) ([]reports.Log, error) {
	var runs []reports.Log
	for _, path := range paths {
		f, err := reports.ReadFile(path)
		if err != nil {
			return nil, badFile(err)
		}
		last := f.Runs[len(f.Runs)-1]
		if f.Cut || last.End == nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "ds4bench: warning: %s: the run was killed after %d results\n", path, len(last.Results))
		}
		runs = append(runs, f.Runs...)
	}
	return runs, nil
}

// renderer returns the writer of a format.
func renderer(cmd *cobra.Command, format string) (func(io.Writer, []reports.Log) error, error) {
	switch format {
	case formatText, formatMarkdown:
		style, err := tableStyle(cmd, format)
		return func(w io.Writer, runs []reports.Log) error { return renderTables(w, style, runs) }, err
	case formatCSV:
		return func(w io.Writer, runs []reports.Log) error { return csv.Write(w, joined(runs)) }, nil
	case formatJUnit:
		return junit.Write, nil
	}
	return nil, usagef(cmd, "--format %q is not one of: %s, %s, %s, %s", format, formatText, formatMarkdown, formatCSV, formatJUnit)
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

// renderTurns compares the two servers of each run that measured two in turns.
func renderTurns(w io.Writer, style table.Style, runs []reports.Log) error {
	for _, r := range runs {
		a, b := bySide(stat.Measurement{Run: r.Run, Results: r.Results})
		if len(b.Results) == 0 {
			continue
		}
		c, err := stat.Compare(a, b, stat.CompareOptions{
			MarginPercent: stat.DefaultMarginPercent, MaxRegressionPercent: stat.DefaultMaxRegressionPercent, Paired: true,
		})
		if err != nil {
			return err
		}
		if err := table.Comparison(w, style, c); err != nil {
			return err
		}
	}
	return nil
}
