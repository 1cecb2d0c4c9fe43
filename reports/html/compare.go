package html

import (
	"fmt"
	"html/template"
	"math"
	"strings"

	"ds4/reports"
)

// Limits and measures of the comparison.
const (
	maxCompared  = 500 // rows
	changeWidth  = 240.0
	changeHeight = 24.0
	widestChange = 100.0 // percent; what is beyond is drawn at the edge
)

// compareView is the part that compares with a baseline.
type compareView struct {
	A, B     string
	Summary  string
	How      string
	Rows     []compareRow
	Axis     template.HTML
	Equal    string
	Warnings []string
}

type compareRow struct {
	Scenario, At, Metric string
	A, AInterval         string
	B, BInterval         string
	Samples              string
	Change, Interval, P  string
	Verdict, Class       string
	Regression           string
	Drawing              template.HTML
}

func (v *view) compare(c *reports.Comparison) {
	if c == nil {
		return
	}
	view := &compareView{A: subjectName(c.A), B: subjectName(c.B)}
	how := "measured one after the other"
	if c.Paired {
		how = "measured in turns"
	}
	view.How = fmt.Sprintf("The change of B against A, %s, with its %.0f %% interval. Within %g %% is the same (shaded); accepted is %g %% for the worse.",
		how, 100*c.Confidence, c.MarginPercent, c.MaxRegressionPercent)
	x := changeScale(c)
	view.Axis = drawChangeAxis(x)
	equal, left := 0, 0
	counts := make(map[reports.ChangeVerdict]int)
	for i := range c.Rows {
		r := &c.Rows[i]
		if reports.Exact(r.Unit) && r.Verdict == reports.Same {
			equal++
			continue
		}
		counts[r.Verdict]++
		if len(view.Rows) == maxCompared {
			left++
			continue
		}
		view.Rows = append(view.Rows, newCompareRow(r, x, c.MarginPercent))
		for _, text := range r.Warnings {
			view.warn(strings.Join(present(cell(r.Scenario), conditions(r), cell(r.Metric)), " ") + ": " + text)
		}
	}
	v.leftOut(left, "row of the comparison")
	view.Summary = summaryOf(counts, equal)
	if equal > 0 {
		view.Equal = plural(equal, "count") + " (tokens, bytes, retries) that must be equal are equal."
	}
	for _, text := range c.Warnings {
		view.warn(text)
	}
	v.Compare = view
}

func (v *compareView) warn(text string) {
	if len(v.Warnings) < maxWarnings {
		v.Warnings = append(v.Warnings, printable(clip(text, maxBlock)))
	}
}

// subjectName is the name of a side and what its server says of itself.
func subjectName(s reports.Subject) string {
	return cell(strings.Join(present(s.Name, serverName(s.Server), s.Server.Model, s.Server.KernelSet), ", "))
}

// summaryOf counts verdicts, those that need a look first.
func summaryOf(counts map[reports.ChangeVerdict]int, equal int) string {
	var parts []string
	for _, v := range []reports.ChangeVerdict{reports.Slower, reports.Different, reports.Faster, reports.CannotTell, reports.Same} {
		if counts[v] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[v], v))
		}
	}
	if len(parts) == 0 {
		if equal > 0 {
			return "nothing differs"
		}
		return "nothing to compare"
	}
	return strings.Join(parts, ", ")
}

// conditions says under which a metric was measured.
func conditions(r *reports.ComparisonRow) string {
	var parts []string
	if r.Workload != "" {
		parts = append(parts, cell(r.Workload))
	}
	if r.Concurrency > 0 {
		parts = append(parts, fmt.Sprintf("×%d", r.Concurrency))
	}
	if r.FrontierTokens > 0 {
		parts = append(parts, number(float64(r.FrontierTokens))+" tokens")
	}
	return strings.Join(parts, " ")
}

func newCompareRow(r *reports.ComparisonRow, x scale, margin float64) compareRow {
	row := compareRow{
		Scenario: cell(r.Scenario), At: conditions(r), Metric: cell(r.Metric), Samples: fmt.Sprintf("%d + %d", len(r.A.Samples), len(r.B.Samples)),
		Change: dash, Interval: dash, P: dash, Verdict: cell(string(r.Verdict)), Class: changeClass(r.Verdict),
	}
	row.A, row.AInterval = estimate(r.A)
	row.B, row.BInterval = estimate(r.B)
	if len(r.A.Samples) > 0 && len(r.B.Samples) > 0 {
		row.Change = percent(r.ChangePercent)
		row.Drawing = drawChange(r, x, margin)
	}
	if r.HasInterval {
		row.Interval = percent(r.ChangeLoPercent) + " to " + percent(r.ChangeHiPercent)
	}
	if r.HasP {
		row.P = fmt.Sprintf("%.3f", r.P)
	}
	switch r.Regression {
	case reports.ProvenRegression:
		row.Regression = "regression"
	case reports.PossibleRegression:
		row.Regression = "regression possible"
	}
	return row
}

func percent(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v), math.IsInf(v, 0):
		return dash
	case a >= 1000:
		return fmt.Sprintf("%+.3g %%", v)
	}
	return fmt.Sprintf("%+.1f %%", v)
}

func estimate(e reports.Estimate) (median, interval string) {
	if len(e.Samples) == 0 {
		return dash, ""
	}
	if e.HasInterval {
		interval = number(e.Lo) + " – " + number(e.Hi)
	}
	return number(e.Median), interval
}

// changeClass is the style of a verdict.
func changeClass(v reports.ChangeVerdict) string {
	switch v {
	case reports.Faster:
		return "pass"
	case reports.Slower, reports.Different:
		return "fail"
	case reports.CannotTell:
		return "inconclusive"
	}
	return "skipped"
}

// changeScale is the scale that all rows share: as wide as the widest interval.
func changeScale(c *reports.Comparison) scale {
	const least = 10.0
	widest := max(least, 1.5*c.MarginPercent)
	for _, r := range c.Rows {
		for _, v := range []float64{r.ChangePercent, r.ChangeLoPercent, r.ChangeHiPercent} {
			if !math.IsNaN(v) {
				widest = max(widest, min(1.1*math.Abs(v), widestChange))
			}
		}
	}
	const edge = 8.0
	return scale{from: -widest, to: widest, at: edge, until: changeWidth - edge}
}

// drawChange draws a change with its interval around "no change".
func drawChange(r *reports.ComparisonRow, x scale, margin float64) template.HTML {
	at := func(v float64) float64 { return x.place(min(max(v, x.from), x.to)) }
	text := fmt.Sprintf("%s %s: change %s", r.Metric, r.Verdict, percent(r.ChangePercent))
	if r.HasInterval {
		text += fmt.Sprintf(", interval %s to %s", percent(r.ChangeLoPercent), percent(r.ChangeHiPercent))
	}
	s := newSVG(changeWidth, changeHeight, "change "+changeClass(r.Verdict), text)
	middle := changeHeight / 2
	s.rect(at(-margin), 0, at(margin)-at(-margin), changeHeight, "margin", "")
	s.line(at(0), 0, at(0), changeHeight, "axis")
	if r.HasInterval {
		s.line(at(r.ChangeLoPercent), middle, at(r.ChangeHiPercent), middle, "interval")
		for _, end := range []float64{r.ChangeLoPercent, r.ChangeHiPercent} {
			s.line(at(end), middle-4, at(end), middle+4, "interval")
		}
	}
	s.circle(at(r.ChangePercent), middle, 4, "estimate", text)
	return s.end()
}

// drawChangeAxis names the percentages above the column of drawings.
func drawChangeAxis(x scale) template.HTML {
	s := newSVG(changeWidth, 16, "change", "scale of the changes")
	const ticks = 4
	for _, t := range x.ticks(ticks) {
		text := "0"
		if t != 0 {
			text = fmt.Sprintf("%+.0f %%", t)
		}
		s.text(min(max(x.place(t), 16), changeWidth-16), 11, "middle", "tick", text)
	}
	return s.end()
}
