package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ds4/reports"
	"ds4/reports/csv"
	"ds4/reports/junit"
)

// outputFlags says where results go besides the terminal.
type outputFlags struct {
	out    string
	junit  string
	csv    string
	format string
}

func (f *outputFlags) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.out, "out", "", "results `file`, JSON lines, written while running (default results/TIME.jsonl, or a temporary file if that cannot be made)")
	cmd.Flags().StringVar(&f.junit, "junit", "", "write JUnit XML to this `file`")
	cmd.Flags().StringVar(&f.csv, "csv", "", "write every sample as CSV to this `file`")
	cmd.Flags().StringVar(&f.format, "format", formatText, "of the table at the end: text or markdown")
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
	err = errors.Join(r.moved, err, r.file.Close())
	if f.junit != "" {
		err = errors.Join(err, writeFile(f.junit, func(w io.Writer) error { return junit.Write(w, []reports.Log{r.log}) }))
	}
	if f.csv != "" {
		err = errors.Join(err, writeFile(f.csv, func(w io.Writer) error { return csv.Write(w, r.log.Results) }))
	}
	if err != nil {
		return infrastructure(err)
	}
	return nil
}

// writable finds out early whether a file can be written that is needed at the
// end: nobody wants to learn that after an hour. What is in the file stays.
func (f outputFlags) writable() error {
	for _, o := range []struct{ flag, path string }{{"--junit", f.junit}, {"--csv", f.csv}} {
		if o.path == "" {
			continue
		}
		_, statErr := os.Stat(o.path)
		file, err := os.OpenFile(o.path, os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			err = file.Close()
		}
		if err != nil {
			return badFile(fmt.Errorf("%s: %w", o.flag, err))
		}
		if errors.Is(statErr, fs.ErrNotExist) {
			_ = os.Remove(o.path)
		}
	}
	return nil
}

// writeFile creates or replaces a file with what write writes.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	buf := bufio.NewWriter(f)
	err = errors.Join(write(buf), buf.Flush(), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
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
