package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ds4/reports"
)

// outputFlags says where results go besides the terminal.
type outputFlags struct {
	out    string
	junit  string
	csv    string
	format string
	report []string
}

func (f *outputFlags) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.out, "out", "", "results `file`, JSON lines, written while running (default results/TIME.jsonl, or a temporary file if that cannot be made)")
	cmd.Flags().StringVar(&f.junit, "junit", "", "write JUnit XML to this `file`")
	cmd.Flags().StringVar(&f.csv, "csv", "", "write every sample as CSV to this `file`")
	cmd.Flags().StringSliceVar(&f.report, "report", nil, "write a report: `FORMAT=FILE`, several separated by commas; formats are "+formats())
	cmd.Flags().StringVar(&f.format, "format", formatText, "of the table at the end: text or markdown")
}

// check refuses reports that cannot be written, before anything runs.
func (f *outputFlags) check(cmd *cobra.Command) error {
	if _, err := reportFiles(f.reports()); err != nil {
		return usage(cmd, err)
	}
	return nil
}

// reports are the values of --report, and those of the flags that are short for it.
func (f *outputFlags) reports() []string {
	list := slices.Clone(f.report)
	if f.junit != "" {
		list = append(list, formatJUnit+"="+f.junit)
	}
	if f.csv != "" {
		list = append(list, formatCSV+"="+f.csv)
	}
	return list
}

// results is the open results file of a command, with a copy of its records.
type results struct {
	path  string
	file  *os.File
	w     *reports.Writer
	log   reports.Log
	start time.Time
	warn  io.Writer // told at once if the file cannot be written any more; may be nil
	moved error     // why results went on in another file
	lost  bool      // and neither is there another one
}

// openResults creates the results file and writes the run record. The file is
// made before anything runs: a run whose results cannot be kept is not worth
// its time.
func openResults(path string, run reports.Run) (*results, error) {
	f, err := createResults(path, run.Start)
	if err != nil {
		return nil, err
	}
	w, err := reports.NewWriter(f, run)
	if err != nil {
		f.Close()
		return nil, infrastructure(err)
	}
	return &results{path: f.Name(), file: f, w: w, log: reports.Log{Run: run}, start: run.Start}, nil
}

// createResults creates the file at path, or a new one under the default name.
func createResults(path string, now time.Time) (*os.File, error) {
	if path != "" {
		if err := replaceable(path); err != nil {
			return nil, badFile(fmt.Errorf("--out: %w", err))
		}
		f, err := os.Create(path)
		if err != nil {
			return nil, badFile(fmt.Errorf("--out: %w", err))
		}
		return f, nil
	}
	const dir = "results"
	name := now.UTC().Format("20060102T150405Z") + ".jsonl"
	if os.MkdirAll(dir, 0o755) == nil {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err == nil {
			return f, nil
		}
	}
	f, err := os.CreateTemp("", "ds4bench-*-"+name) // read-only directory, or two runs in one second
	if err != nil {
		return nil, infrastructure(fmt.Errorf("results file: %w", err))
	}
	return f, nil
}

// replaceable says why the file at path must not be overwritten: it holds
// something other than results. A slip like --out scenario.yaml loses nothing.
func replaceable(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeDevice != 0 || info.Mode()&os.ModeNamedPipe != 0 {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a directory", path)
	}
	head, err := bufio.NewReader(f).Peek(len(runRecordStart))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(head) > 0 && string(head) != runRecordStart {
		return fmt.Errorf("%s exists and is no results file; it is left as it is", path)
	}
	return nil
}

// runRecordStart begins every results file.
const runRecordStart = `{"run":{"format":"ds4bench/`

// add appends one result.
func (r *results) add(res *reports.Result) error {
	r.log.Results = append(r.log.Results, *res)
	if err := r.w.Result(res); err != nil {
		return r.rescue(err)
	}
	return nil
}

// close ends the file and writes the other formats.
func (r *results) close(f outputFlags, interrupted bool) error {
	end := reports.End{Time: time.Now(), DurationMS: reports.Milliseconds(time.Since(r.start)), Interrupted: interrupted}
	r.log.End = &end
	err := r.w.End(end)
	if err != nil && r.moved == nil && r.rescue(err) == nil {
		err = r.w.End(end)
	}
	files, wrong := reportFiles(f.reports())
	err = errors.Join(r.moved, err, r.file.Close(), wrong)
	for _, file := range files {
		err = errors.Join(err, writeFile(file.path, func(w io.Writer) error { return file.write(w, []reports.Log{r.log}, baseline{}) }))
	}
	if err != nil {
		return infrastructure(err)
	}
	return nil
}

// writable finds out early whether a file can be written that is needed at the
// end: nobody wants to learn that after an hour. What is in the file stays.
func (f *outputFlags) writable() error {
	for _, value := range f.reports() {
		_, path, _ := strings.Cut(value, "=")
		_, statErr := os.Stat(path)
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			err = file.Close()
		}
		if err != nil {
			return badFile(fmt.Errorf("report: %w", err))
		}
		if errors.Is(statErr, fs.ErrNotExist) {
			_ = os.Remove(path)
		}
	}
	return nil
}

// counts is "12 repetitions: 10 pass, 1 fail, 1 inconclusive".
func counts(rs []reports.Result) string {
	n := reports.Count(rs)
	var parts []string
	for _, v := range reports.Verdicts() {
		if n[v] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[v], v))
		}
	}
	word := "repetitions"
	if len(rs) == 1 {
		word = "repetition"
	}
	if len(parts) == 0 {
		return "0 " + word
	}
	return fmt.Sprintf("%d %s: %s", len(rs), word, strings.Join(parts, ", "))
}

// verdictExit turns results into the error that ends the command: nil if all that
// ran passed, and something did.
func verdictExit(rs []reports.Result) error {
	switch reports.Worst(rs) {
	case reports.Pass:
		return nil
	case reports.Fail:
		return &exitError{code: ExitFail}
	default: // inconclusive, or nothing ran: nothing was proven
		return &exitError{code: ExitInconclusive}
	}
}
