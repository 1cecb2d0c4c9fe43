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
	Series []seriesView
	Charts []chartView
	Rows   []loadRow
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
	byKey := make(map[loadKey][]reports.Result)
	var keys []loadKey
	for _, r := range results {
		k := loadKey{r.Load.Workload, r.Load.Concurrency}
		if byKey[k] == nil {
			keys = append(keys, k)
		}
		byKey[k] = append(byKey[k], r)
	}
	slices.SortFunc(keys, func(a, b loadKey) int {
		return cmp.Or(cmp.Compare(a.workload, b.workload), cmp.Compare(a.concurrency, b.concurrency))
	})
	if len(keys) > maxPoints {
		v.leftOut(len(keys)-maxPoints, "workload")
		keys = keys[:maxPoints]
	}
	view := &loadView{}
	styles := make(map[string]string)
	for _, k := range keys {
		if styles[k.workload] == "" && len(styles) < maxSeries {
			styles[k.workload] = fmt.Sprintf("s%d", len(styles))
			view.Series = append(view.Series, seriesView{cell(k.workload), styles[k.workload]})
		}
		view.Rows = append(view.Rows, newLoadRow(k, byKey[k]))
	}
	for _, c := range loadCharts {
		if list := loadSeries(c.metric, keys, byKey, styles); len(list) > 0 {
			view.Charts = append(view.Charts, chartView{c.title, drawCurves(c.title+" against concurrency", "requests at a time", c.unit, list)})
		}
	}
	v.Load = view
}

// loadSeries is one curve per workload through the medians of the repetitions.
func loadSeries(metric string, keys []loadKey, byKey map[loadKey][]reports.Result, styles map[string]string) []series {
	var list []series
	for _, k := range keys {
		if styles[k.workload] == "" {
			continue
		}
		var medians []float64
		for _, r := range byKey[k] {
			if s, err := stat.Summarize(r.Metrics[metric].Samples); err == nil && r.Verdict == reports.Pass {
				medians = append(medians, s.Median)
			}
		}
		s, err := stat.Summarize(medians)
		if err != nil {
			continue
		}
		name := cell(k.workload)
		if len(list) == 0 || list[len(list)-1].name != name {
			list = append(list, series{name: name, style: styles[k.workload]})
		}
		last := &list[len(list)-1]
		last.points = append(last.points, chartPoint{float64(k.concurrency), s, medians})
	}
	return list
}

func newLoadRow(k loadKey, results []reports.Result) loadRow {
	row := loadRow{Workload: cell(k.workload), Concurrency: number(float64(k.concurrency))}
	requests, failed := 0, 0
	all := reports.Group{Results: results}
	for _, r := range results {
		requests += r.Load.Requests
		failed += r.Load.Failed
	}
	row.Requests, row.Failed = number(float64(requests)), number(float64(failed))
	row.Output = median(all, reports.MetricOutputTPS)
	row.Goodput = median(all, reports.MetricGoodput)
	row.Cached = median(all, reports.MetricCachedPercent)
	row.TTFT = percentiles(all.Samples(reports.MetricTTFT))
	row.InterToken = percentiles(all.Samples(reports.MetricInterToken))
	row.EndToEnd = percentiles(all.Samples(reports.MetricEndToEnd))
	return row
}

// percentiles are the median, the 95th and the 99th, as far as there are enough
// samples for them.
func percentiles(samples []float64) string {
	s, err := stat.Summarize(samples)
	if err != nil {
		return dash
	}
	text := number(s.Median)
	for _, p := range []float64{95, 99} {
		if v, err := stat.Percentile(samples, p); err == nil {
			text += " / " + number(v)
		} else {
			text += " / " + dash
		}
	}
	return text
}
