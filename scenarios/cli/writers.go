package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ds4/reports"
	"ds4/reports/benchfmt"
	"ds4/reports/csv"
	"ds4/reports/html"
	"ds4/reports/junit"
	"ds4/reports/markdown"
	"ds4/reports/prom"
	"ds4/reports/table"
)

// Names of formats on the command line.
const (
	formatText     = "text"
	formatMarkdown = "markdown"
	formatCSV      = "csv"
	formatJUnit    = "junit"
	formatHTML     = "html"
	formatProm     = "prom"
	formatBenchfmt = "benchfmt"
)

// baseline is what a report compares with, if its format has room for it.
type baseline struct {
	runs       []reports.Log
	comparison *reports.Comparison
}

// writer writes runs in one format.
type writer func(w io.Writer, runs []reports.Log, base baseline) error

// writers are the formats of reports. All of them are made from the records of a
// results file and nothing else.
var writers = []struct {
	name  string
	write writer
}{
	{formatText, func(w io.Writer, runs []reports.Log, _ baseline) error { return renderTables(w, table.Text, runs) }},
	{formatMarkdown, func(w io.Writer, runs []reports.Log, _ baseline) error {
		turns, err := turnComparisons(runs)
		if err != nil {
			return err
		}
		return markdown.Write(w, runs, turns)
	}},
	{formatHTML, writePage},
	{formatCSV, func(w io.Writer, runs []reports.Log, _ baseline) error { return csv.Write(w, joined(runs)) }},
	{formatJUnit, func(w io.Writer, runs []reports.Log, _ baseline) error { return junit.Write(w, runs) }},
	{formatProm, func(w io.Writer, runs []reports.Log, _ baseline) error { return prom.Write(w, runs) }},
	{formatBenchfmt, func(w io.Writer, runs []reports.Log, _ baseline) error { return benchfmt.Write(w, runs) }},
}

// writePage writes the HTML page. A run that measured two servers in turns needs no
// baseline: one of them is the other's.
func writePage(w io.Writer, runs []reports.Log, base baseline) error {
	opt := html.Options{Baseline: base.runs, Comparison: base.comparison}
	if opt.Comparison == nil {
		turns, err := turnComparisons(runs)
		if err != nil {
			return err
		}
		if len(turns) > 0 {
			opt.Comparison = turns[0]
		}
	}
	return html.Write(w, runs, opt)
}

// formats lists the names, for help and errors.
func formats() string {
	var names []string
	for _, f := range writers {
		names = append(names, f.name)
	}
	return strings.Join(names, ", ")
}

// writerOf returns the writer of a format. The table for a terminal is called
// text where formats of tables are chosen, and may be called table here.
func writerOf(name string) (writer, bool) {
	if name == "table" {
		name = formatText
	}
	for _, f := range writers {
		if f.name == name {
			return f.write, true
		}
	}
	return nil, false
}

// reportFile is a report that a command writes at its end.
type reportFile struct {
	write writer
	path  string
}

// reportFiles reads the values of --report: FORMAT=FILE.
func reportFiles(values []string) ([]reportFile, error) {
	var list []reportFile
	for _, v := range values {
		name, path, found := strings.Cut(v, "=")
		write, known := writerOf(name)
		switch {
		case !found || path == "":
			return nil, fmt.Errorf("--report %q is not FORMAT=FILE, such as html=report.html", v)
		case !known:
			return nil, fmt.Errorf("--report %q: %q is not one of: %s", v, name, formats())
		case slices.ContainsFunc(list, func(f reportFile) bool { return f.path == path }):
			return nil, fmt.Errorf("--report names %s twice", path)
		}
		list = append(list, reportFile{write, path})
	}
	return list, nil
}

// errNoFile: a file that is to be written cannot be made. The command line is wrong then,
// while one that cannot be written to its end is a fault of the machine.
var errNoFile = errors.New("cannot be written")

// notWritten is the exit code of a file that was not written.
func notWritten(err error) error {
	if errors.Is(err, errNoFile) {
		return badFile(err)
	}
	return infrastructure(err)
}

// writeFile creates or replaces a file with what write writes. The old one stays
// until the new one is whole: a collector or a browser never sees half of it.
func writeFile(path string, write func(io.Writer) error) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return writeInPlace(path, write) // a pipe, /dev/stdout
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return writeInPlace(path, write) // a file in a directory that takes no other
	}
	buf := bufio.NewWriter(f)
	const mode = 0o644
	err = errors.Join(write(buf), buf.Flush(), f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func writeInPlace(path string, write func(io.Writer) error) error {
	const mode = 0o644
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoFile, err)
	}
	buf := bufio.NewWriter(f)
	if err := errors.Join(write(buf), buf.Flush(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
