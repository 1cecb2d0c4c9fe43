package stat

import (
	"errors"
	"fmt"

	"ds4/reports"
)

// Latencies describes the samples of one latency, in milliseconds. A percentile
// for which there are too few samples is absent: HasP95 and HasP99 are false.
type Latencies struct {
	N              int
	P50, P95, P99  float64
	HasP50         bool
	HasP95, HasP99 bool
	NextNeeds      int // samples that the first absent percentile needs, 0 if none is absent
}

// ServeRow is one workload at one concurrency, over all repetitions.
type ServeRow struct {
	Workload    string
	Concurrency int
	Requests    int // sent
	Failed      int // of them

	TTFT, InterToken, EndToEnd Latencies // over the requests of all repetitions

	Goodput, Requested, Output, Cached Summary // one sample for each repetition
	HasGoodput, HasCached              bool
}

// ServeRows summarises repetitions of serve-speed, in the order in which their
// workloads and concurrencies first came. Warnings name their row.
func ServeRows(results []reports.Result) (rows []ServeRow, warnings []string) {
	type key struct {
		workload    string
		concurrency int
	}
	var order []key
	of := make(map[key][]reports.Result)
	for _, r := range results {
		if r.Load == nil {
			continue
		}
		k := key{r.Load.Workload, r.Load.Concurrency}
		if of[k] == nil {
			order = append(order, k)
		}
		of[k] = append(of[k], r)
	}
	var doubts warningList
	for _, k := range order {
		row := serveRow(of[k])
		doubts.add(fmt.Sprintf("%s x%d", k.workload, k.concurrency), row.Requested.Warnings)
		rows = append(rows, row)
	}
	return rows, doubts.lines()
}

func serveRow(results []reports.Result) ServeRow {
	row := ServeRow{Workload: results[0].Load.Workload, Concurrency: results[0].Load.Concurrency}
	samples := make(map[string][]float64)
	for _, r := range results {
		row.Requests += r.Load.Requests
		row.Failed += r.Load.Failed
		for name, m := range r.Metrics {
			samples[name] = append(samples[name], m.Samples...)
		}
	}
	row.TTFT = latencies(samples[reports.MetricTTFT])
	row.InterToken = latencies(samples[reports.MetricInterToken])
	row.EndToEnd = latencies(samples[reports.MetricEndToEnd])
	row.Goodput, row.HasGoodput = summary(samples[reports.MetricGoodput])
	row.Requested, _ = summary(samples[reports.MetricRequestRate])
	row.Output, _ = summary(samples[reports.MetricOutputTPS])
	row.Cached, row.HasCached = summary(samples[reports.MetricCachedPercent])
	return row
}

func summary(samples []float64) (Summary, bool) {
	s, err := Summarize(samples)
	return s, err == nil
}

func latencies(samples []float64) Latencies {
	l := Latencies{N: len(samples)}
	for _, p := range []struct {
		p    float64
		into *float64
		has  *bool
	}{{50, &l.P50, &l.HasP50}, {95, &l.P95, &l.HasP95}, {99, &l.P99, &l.HasP99}} {
		v, err := Percentile(samples, p.p)
		if err == nil {
			*p.into, *p.has = v, true
			continue
		}
		if need, _ := SamplesFor(p.p); errors.Is(err, ErrTooFew) && l.NextNeeds == 0 {
			l.NextNeeds = need
		}
	}
	return l
}
