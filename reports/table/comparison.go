package table

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"ds4/reports"
)

// Comparison writes one row per rate or time, then which counts differ, and every
// warning. Counts that are equal are one line together.
func Comparison(w io.Writer, style Style, c *reports.Comparison) error {
	columns := []Column{
		{Name: "scenario"}, {Name: "at"}, {Name: "metric"}, {Name: "A", Number: true}, {Name: "B", Number: true},
		{Name: "n", Number: true}, {Name: "change", Number: true}, {Name: fmt.Sprintf("%.0f %% interval", 100*c.Confidence), Number: true},
		{Name: "p", Number: true}, {Name: "verdict"}, {Name: "regression"},
	}
	var cells [][]string
	equal := 0
	for i := range c.Rows {
		r := &c.Rows[i]
		if reports.Exact(r.Unit) && r.Verdict == reports.Same {
			equal++
			continue
		}
		cells = append(cells, comparisonCells(r))
	}
	if _, err := fmt.Fprintf(w, "A: %s\nB: %s\n\n", about(c.A), about(c.B)); err != nil {
		return err
	}
	if err := Write(w, style, columns, cells); err != nil {
		return err
	}
	return comparisonNotes(w, c, equal)
}

func comparisonCells(r *reports.ComparisonRow) []string {
	line := []string{
		r.Scenario, conditions(r), r.Metric, estimate(r.A), estimate(r.B),
		fmt.Sprintf("%d+%d", len(r.A.Samples), len(r.B.Samples)), none, none, none, string(r.Verdict), string(r.Regression),
	}
	if len(r.A.Samples) > 0 && len(r.B.Samples) > 0 {
		line[6] = fmt.Sprintf("%+.1f %%", r.ChangePercent)
	}
	if r.HasInterval {
		line[7] = fmt.Sprintf("%+.1f to %+.1f %%", r.ChangeLoPercent, r.ChangeHiPercent)
	}
	if r.HasP {
		line[8] = probability(r.P)
	}
	return line
}

// probability shows what is too small for three digits as such.
func probability(p float64) string {
	const least = 0.001
	if p < least {
		return fmt.Sprintf("<%g", least)
	}
	return fmt.Sprintf("%.3f", p)
}

// conditions says under which the metric was measured.
func conditions(r *reports.ComparisonRow) string {
	var parts []string
	if r.Workload != "" {
		parts = append(parts, r.Workload)
	}
	if r.Concurrency > 0 {
		parts = append(parts, fmt.Sprintf("x%d", r.Concurrency))
	}
	if r.FrontierTokens > 0 {
		parts = append(parts, fmt.Sprintf("%d tok", r.FrontierTokens))
	}
	return orNone(strings.Join(parts, " "))
}

func estimate(e reports.Estimate) string {
	if len(e.Samples) == 0 {
		return none
	}
	return number(e.Median)
}

func about(s reports.Subject) string {
	parts := []string{s.Name}
	for _, p := range []string{s.Server.Version, s.Server.Commit, s.Server.Model, s.Server.KernelSet} {
		if p != "" && !slices.Contains(parts, p) {
			parts = append(parts, p)
		}
	}
	return Printable(strings.Join(parts, ", "))
}

func comparisonNotes(w io.Writer, c *reports.Comparison, equal int) error {
	how := "of separate runs"
	if c.Paired {
		how = "measured in turns"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nchange of B against A, %s; within %g %% is the same, accepted is %g %% for the worse\n", how, c.MarginPercent, c.MaxRegressionPercent)
	if equal > 0 {
		fmt.Fprintf(&b, "%d counts are equal\n", equal)
	}
	for _, text := range c.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", Printable(text))
	}
	for i := range c.Rows {
		r := &c.Rows[i]
		name := strings.TrimSuffix(strings.Join([]string{r.Scenario, conditions(r), r.Metric}, " "), " ")
		for _, text := range r.Warnings {
			fmt.Fprintf(&b, "warning: %s: %s\n", Printable(name), Printable(text))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
