// Package markdown writes results as a Markdown text that stands on its own: the
// summary of a CI job, a comment, a file.
//
// It promises that nothing in a results file changes the text around it: cells are
// escaped, everything longer is fenced. The whole stays well below the megabyte
// that CI systems take; what was left out is said.
package markdown

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"ds4/reports"
	"ds4/reports/table"
)

// Limits of one text.
const (
	maxBytes     = 900 << 10 // GitHub drops a job summary beyond 1 MiB
	maxScenarios = 1000      // rows
	maxProblems  = 50        // repetitions with all their failures
	maxFailures  = 10        // of one repetition
	maxBlock     = 3000      // bytes of one failure
	maxWarnings  = 50
)

// Write writes one text about all runs, and what was compared in them.
func Write(w io.Writer, runs []reports.Log, comparisons []*reports.Comparison) error {
	var verdicts, speed, loads, all []reports.Result
	for _, run := range runs {
		all = append(all, run.Results...)
	}
	for _, r := range all {
		switch {
		case r.Side != "": // compared
		case len(r.Frontiers) > 0:
			speed = append(speed, r)
		case r.Load != nil:
			loads = append(loads, r)
		default:
			verdicts = append(verdicts, r)
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "## ds4bench: %s\n\n", heading(all))
	for i := range runs {
		if why := runs[i].Unfinished(); why != "" {
			fmt.Fprintf(&b, "**Not complete:** the run %s.\n\n", why)
		}
	}
	if len(runs) > 0 {
		if err := table.About(&b, runs[0].Run); err != nil {
			return fmt.Errorf("markdown: %w", err)
		}
	}
	if len(verdicts) > 0 {
		if err := scenarios(&b, verdicts); err != nil {
			return fmt.Errorf("markdown: %w", err)
		}
	}
	var err error
	add := func(title string, write func(w io.Writer) error) { err = errors.Join(err, section(&b, title, write)) }
	if len(speed) > 0 {
		add("Throughput", func(w io.Writer) error { return table.Speed(w, table.Markdown, speed) })
	}
	if len(loads) > 0 {
		add("Under load", func(w io.Writer) error { return table.ServeSpeed(w, table.Markdown, loads) })
	}
	for _, c := range comparisons {
		add("Comparison", func(w io.Writer) error { return table.Comparison(w, table.Markdown, c) })
	}
	if err != nil {
		return fmt.Errorf("markdown: %w", err)
	}
	problems(&b, all)
	warnings(&b, all)
	if _, err := w.Write(bounded(b.Bytes())); err != nil {
		return fmt.Errorf("markdown: %w", err)
	}
	return nil
}

// section writes tables under a title, and what is said around them below, as it is.
func section(b *bytes.Buffer, title string, write func(w io.Writer) error) error {
	var text, notes strings.Builder
	if err := write(&text); err != nil {
		return err
	}
	fmt.Fprintf(b, "### %s\n\n", title)
	in := false
	for line := range strings.Lines(text.String()) {
		row := strings.HasPrefix(line, "|")
		switch {
		case row:
			b.WriteString(line)
		case in:
			b.WriteByte('\n') // a table ends with a blank line
		}
		if in = row; !row && strings.TrimSpace(line) != "" {
			notes.WriteString(line)
		}
	}
	if in {
		b.WriteByte('\n')
	}
	if notes.Len() > 0 {
		fence(b, notes.String())
	}
	return nil
}

// heading says in one line how it came out.
func heading(results []reports.Result) string {
	n := reports.Count(results)
	var parts []string
	for _, v := range reports.Verdicts() {
		if n[v] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[v], v))
		}
	}
	if len(parts) == 0 {
		return "no results"
	}
	return strings.Join(parts, ", ")
}

// scenarios writes the table of verdicts.
func scenarios(b *bytes.Buffer, results []reports.Result) error {
	groups := reports.GroupByScenario(results)
	left := len(groups) - maxScenarios
	if left > 0 {
		results = nil
		for _, g := range groups[:maxScenarios] {
			results = append(results, g.Results...)
		}
	}
	if err := table.Results(b, table.Markdown, results); err != nil {
		return err
	}
	if left > 0 {
		fmt.Fprintf(b, "\n%d more scenarios are in the results file.\n", left)
	}
	b.WriteByte('\n')
	return nil
}

// problems writes everything that is no pass: what failed first.
func problems(b *bytes.Buffer, results []reports.Result) {
	n := 0
	for _, verdict := range []reports.Verdict{reports.Fail, reports.Inconclusive, reports.Skipped} {
		for _, r := range results {
			if r.Verdict != verdict {
				continue
			}
			if n++; n <= maxProblems {
				problem(b, &r)
			}
		}
	}
	if n > maxProblems {
		fmt.Fprintf(b, "%d more that did not pass are in the results file.\n\n", n-maxProblems)
	}
}

func problem(b *bytes.Buffer, r *reports.Result) {
	if r.Verdict == reports.Skipped {
		fmt.Fprintf(b, "%s: %s, %s\n\n", r.Verdict, table.Cell(r.Scenario), table.Cell(r.Reason))
		return
	}
	fmt.Fprintf(b, "### %s: %s\n\nRepetition %d, seed %d", r.Verdict, table.Cell(r.Scenario), r.Repetition, r.Seed)
	if r.Reason != "" {
		fmt.Fprintf(b, ": %s", table.Cell(r.Reason))
	}
	b.WriteString("\n\n")
	var text strings.Builder
	for i, f := range r.Failures {
		if i == maxFailures {
			fmt.Fprintf(&text, "and %d more\n", len(r.Failures)-i)
			break
		}
		fmt.Fprintln(&text, clip(f))
	}
	for _, f := range r.Faults {
		if f.Armed > 0 && f.Fired == 0 {
			fmt.Fprintf(&text, "armed but never fired: %s\n", clip(f.Rule))
		}
	}
	if text.Len() > 0 {
		fence(b, text.String())
	}
	if r.Rerun != "" {
		b.WriteString("Run it again:\n\n")
		fence(b, clip(r.Rerun))
	}
}

func warnings(b *bytes.Buffer, results []reports.Result) {
	n := 0
	for _, r := range results {
		for _, text := range r.Warnings {
			if n++; n <= maxWarnings {
				fmt.Fprintf(b, "- warning: %s #%d: %s\n", table.Cell(r.Scenario), r.Repetition, table.Cell(text))
			}
		}
	}
	if n > maxWarnings {
		fmt.Fprintf(b, "- %d more warnings\n", n-maxWarnings)
	}
}

// fence shows a text as it is, inside a fence that it cannot close.
func fence(b *bytes.Buffer, text string) {
	longest, run := 0, 0
	for _, c := range text {
		if c == '`' {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	const least = 3
	marks := strings.Repeat("`", max(least, longest+1))
	fmt.Fprintf(b, "%stext\n", marks)
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimRight(table.Printable(line), " ") + "\n")
	}
	fmt.Fprintf(b, "%s\n\n", marks)
}

func clip(s string) string {
	if len(s) <= maxBlock {
		return s
	}
	return strings.ToValidUTF8(s[:maxBlock], "") + " ..."
}

// bounded cuts a text at the end of a line. Limits on its parts keep it from
// getting there, unless tables are full of the longest cells.
func bounded(text []byte) []byte {
	if len(text) <= maxBytes {
		return text
	}
	text = text[:bytes.LastIndexByte(text[:maxBytes], '\n')+1]
	return append(text, "\n\nThe rest is in the results file.\n"...)
}
