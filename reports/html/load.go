package html

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"

	"ds4/reports"
	"ds4/reports/stat"
)

// loadView is the part about requests at the same time.
type loadView struct {
	Series   []seriesView
	Charts   []chartView
	Rows     []loadRow
	Warnings []string
}

type chartView struct {
	Title   string
	Drawing template.HTML
}

// loadRow is a workload at one concurrency: medians and percentiles of all requests.
type loadRow struct {
	Workload, Concurrency, Requests, Failed string
	Output, Goodput, Cached                 string
	TTFT, InterToken, EndToEnd              string
}

// loadKey is a workload at one concurrency.
type loadKey struct {
	workload    string
	concurrency int
}

// loadCharts are the metrics that have a chart.
var loadCharts = []struct{ metric, title, unit string }{
	{reports.MetricOutputTPS, "Tokens of all answers", "tokens/s"},
	{reports.MetricTTFT, "Time to the first token", "ms"},
	{reports.MetricInterToken, "Between two tokens", "ms"},
	{reports.MetricGoodput, "Requests that met the objective", "requests/s"},
}

// loads shows what serve-speed measured.
func (v *view) loads(results []reports.Result) {
	rows, warnings := stat.ServeRows(results)
	if len(rows) > maxPoints {
		v.leftOut(len(rows)-maxPoints, "workload")
		rows = rows[:maxPoints]
	}
	byKey := make(map[loadKey][]reports.Result)
	for _, r := range results {
		k := loadKey{r.Load.Workload, r.Load.Concurrency}
		byKey[k] = append(byKey[k], r)
	}
	view := &loadView{}
	styles := make(map[string]string)
	for _, r := range rows {
		if styles[r.Workload] == "" && len(styles) < maxSeries {
			styles[r.Workload] = fmt.Sprintf("s%d", len(styles))
			view.Series = append(view.Series, seriesView{cell(r.Workload), styles[r.Workload]})
		}
		view.Rows = append(view.Rows, newLoadRow(r))
	}
	for _, c := range loadCharts {
		if list := loadSeries(c.metric, rows, byKey, styles); len(list) > 0 {
			view.Charts = append(view.Charts, chartView{c.title, drawCurves(c.title+" against concurrency", "requests at a time", c.unit, list)})
		}
	}
	for _, text := range warnings[:min(len(warnings), maxWarnings)] {
		view.Warnings = append(view.Warnings, printable(clip(text, maxBlock)))
	}
	v.Load = view
}

// loadSeries is one curve per workload through the medians of the repetitions.
func loadSeries(metric string, rows []stat.ServeRow, byKey map[loadKey][]reports.Result, styles map[string]string) []series {
	curves := make(map[string]*series)
	var order []*series
	for _, row := range rows {
		if styles[row.Workload] == "" {
			continue
		}
		var medians []float64
		for _, r := range byKey[loadKey{row.Workload, row.Concurrency}] {
			if s, err := stat.Summarize(r.Metrics[metric].Samples); err == nil && r.Verdict == reports.Pass {
				medians = append(medians, s.Median)
			}
		}
		s, err := stat.Summarize(medians)
		if err != nil {
			continue
		}
		c := curves[row.Workload]
		if c == nil {
			c = &series{name: cell(row.Workload), style: styles[row.Workload]}
			curves[row.Workload] = c
			order = append(order, c)
		}
		c.points = append(c.points, chartPoint{float64(row.Concurrency), s, medians})
	}
	var list []series
	for _, c := range order {
		slices.SortFunc(c.points, func(a, b chartPoint) int { return cmp.Compare(a.x, b.x) })
		list = append(list, *c)
	}
	return list
}

func newLoadRow(r stat.ServeRow) loadRow {
	row := loadRow{
		Workload: cell(r.Workload), Concurrency: number(float64(r.Concurrency)), Requests: number(float64(r.Requests)), Failed: number(float64(r.Failed)),
		Output: dash, Goodput: dash, Cached: dash,
		TTFT: percentiles(r.TTFT), InterToken: percentiles(r.InterToken), EndToEnd: percentiles(r.EndToEnd),
	}
	if r.Output.N > 0 {
		row.Output = number(r.Output.Median)
	}
	if r.HasGoodput {
		row.Goodput = number(r.Goodput.Median)
	}
	if r.HasCached {
		row.Cached = number(r.Cached.Median)
	}
	return row
}

// percentiles are the median, the 95th and the 99th, as far as there are enough
// samples for them.
func percentiles(l stat.Latencies) string {
	text := ""
	for _, p := range []struct {
		v   float64
		has bool
	}{{l.P50, l.HasP50}, {l.P95, l.HasP95}, {l.P99, l.HasP99}} {
		if text != "" {
			text += " / "
		}
		if !p.has {
			text += dash
			continue
		}
		text += number(p.v)
	}
	return text
}
