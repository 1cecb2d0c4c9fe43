package table

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"ds4/reports"
	"ds4/reports/stat"
)

// none stands in a cell for a figure that does not exist; it is never a zero.
const none = "-"

// Results writes one row per scenario: how it came out, and what recovery cost.
// Over several repetitions the verdict is the worst, retries are the most, times
// and rates the median.
func Results(w io.Writer, style Style, results []reports.Result) error {
	columns := []Column{
		{Name: "scenario"}, {Name: "verdict"}, {Name: "runs", Number: true}, {Name: "outcome"},
		{Name: "retries", Number: true}, {Name: "recovery ms", Number: true}, {Name: "restored tok", Number: true},
		{Name: "re-prefilled tok", Number: true}, {Name: "prefill t/s", Number: true},
	}
	var rows [][]string
	for _, g := range reports.GroupByScenario(results) {
		rows = append(rows, []string{
			g.Scenario, string(g.Verdict()), runs(g), outcomes(g),
			most(g.Samples(reports.MetricRetries)),
			median(g.Samples(reports.MetricRecovery)),
			median(g.Samples(reports.MetricRestoredTokens)),
			median(g.Samples(reports.MetricReprefilledTokens)),
			median(g.Samples(reports.MetricPrefillTPS)),
		})
	}
	return Write(w, style, columns, rows)
}

// runs is "passed/all" of the repetitions that ran.
func runs(g reports.Group) string {
	n := reports.Count(g.Results)
	all := len(g.Results) - n[reports.Skipped]
	if all == 0 {
		return none
	}
	return fmt.Sprintf("%d/%d", n[reports.Pass], all)
}

// outcomes lists the different outcomes of a group in the order of appearance.
func outcomes(g reports.Group) string {
	var seen []string
	for _, r := range g.Results {
		if r.Outcome != "" && !slices.Contains(seen, r.Outcome) {
			seen = append(seen, r.Outcome)
		}
	}
	if len(seen) == 0 {
		return none
	}
	return strings.Join(seen, ", ")
}

// Details writes what a reader needs after the table: for everything that is not
// a pass the reasons and the line that runs it again, and every warning.
func Details(w io.Writer, results []reports.Result) error {
	var b strings.Builder
	for _, r := range results {
		if r.Verdict != reports.Pass {
			detail(&b, r)
		}
	}
	for _, g := range reports.GroupByScenario(results) {
		for _, d := range stat.Doubts(g.Results) {
			if d.Count == 1 {
				fmt.Fprintf(&b, "warning: %s #%d: %s\n", g.Scenario, d.First.Repetition, Printable(d.Text))
			} else {
				fmt.Fprintf(&b, "warning: %s: %s\n", g.Scenario, Printable(d.String()))
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func detail(b *strings.Builder, r reports.Result) {
	if r.Verdict == reports.Skipped {
		fmt.Fprintf(b, "skipped: %s: %s\n", r.Scenario, orNone(Printable(r.Reason)))
		return
	}
	fmt.Fprintf(b, "%s: %s #%d, seed %d", r.Verdict, r.Scenario, r.Repetition, r.Seed)
	if r.Reason != "" {
		fmt.Fprintf(b, ": %s", Printable(r.Reason))
	}
	b.WriteByte('\n')
	for _, text := range r.Failures {
		indent := "    "
		for line := range strings.Lines(text) { // a failure may quote answers and logs
			fmt.Fprintf(b, "%s%s\n", indent, strings.TrimRight(Printable(line), " "))
			indent = "      "
		}
	}
	for _, f := range r.Faults {
		if f.Armed > 0 && f.Fired == 0 {
			fmt.Fprintf(b, "    armed but never fired: %s\n", Printable(f.Rule))
		}
	}
	if r.WorkDir != "" {
		fmt.Fprintf(b, "    files: %s\n", Printable(r.WorkDir))
	}
	if r.Rerun != "" {
		fmt.Fprintf(b, "    rerun: %s\n", Printable(r.Rerun))
	}
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

func median(samples []float64) string {
	s, err := stat.Summarize(samples)
	if err != nil {
		return none
	}
	return number(s.Median)
}

func most(samples []float64) string {
	s, err := stat.Summarize(samples)
	if err != nil {
		return none
	}
	return number(s.Max)
}

// number shows three significant digits or all digits before the point, whichever
// is more: no reader compares the fourth.
func number(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) || a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	default:
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
}
