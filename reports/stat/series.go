package stat

import (
	"cmp"
	"slices"

	"github.com/montanaflynn/stats"

	"ds4/reports"
)

// seriesKey says what was measured, and under which conditions.
type seriesKey struct {
	scenario    string
	workload    string
	concurrency int
	frontier    int
	metric      string
}

func (k seriesKey) compare(o seriesKey) int {
	return cmp.Or(
		cmp.Compare(k.scenario, o.scenario), cmp.Compare(k.workload, o.workload), cmp.Compare(k.concurrency, o.concurrency),
		cmp.Compare(k.frontier, o.frontier), cmp.Compare(k.metric, o.metric),
	)
}

// repetition tells the repetitions of a scenario apart. Equal ones did the same work.
type repetition struct {
	number int
	seed   uint64
}

// point is what one repetition measured of one metric. Samples within a
// repetition are not independent of each other, the same server gave them in the
// same minute, so that the repetition counts as one sample: its median.
type point struct {
	repetition
	median float64
	counts []float64 // of exact units, every value
}

// series is one metric over all repetitions.
type series struct {
	unit   string
	points []point
}

// collect sorts what passed by metric and conditions. failed counts repetitions
// that did not: what they measured is no speed.
func collect(results []reports.Result) (all map[seriesKey]*series, failed int) {
	all = make(map[seriesKey]*series)
	for i := range results {
		r := &results[i]
		switch r.Verdict {
		case reports.Skipped:
			continue
		case reports.Pass:
			collectResult(all, r)
		default:
			failed++
		}
	}
	for _, s := range all {
		slices.SortStableFunc(s.points, func(a, b point) int {
			return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.seed, b.seed))
		})
	}
	return all, failed
}

func collectResult(all map[seriesKey]*series, r *reports.Result) {
	key := seriesKey{scenario: r.Scenario}
	if r.Load != nil {
		key.workload, key.concurrency = r.Load.Workload, r.Load.Concurrency
	}
	add := func(key seriesKey, unit string, samples []float64) {
		p := point{repetition: repetition{r.Repetition, r.Seed}}
		if reports.Exact(unit) {
			p.counts = samples
		}
		median, err := stats.Median(samples)
		if err != nil {
			return // no sample
		}
		p.median = median
		s := all[key]
		if s == nil {
			s = &series{unit: unit}
			all[key] = s
		}
		s.points = append(s.points, p)
	}
	for name, m := range r.Metrics {
		key.metric = name
		add(key, m.Unit, m.Samples)
	}
	for _, f := range r.Frontiers {
		key.frontier = f.FrontierTokens
		for _, v := range []struct {
			metric string
			value  float64
		}{
			{reports.MetricPrefillTPS, f.PrefillTPS}, {reports.MetricDecodeTPS, f.DecodeTPS},
			{metricEvaluated, float64(f.EvaluatedTokens)},
		} {
			if v.value == 0 {
				continue // not measured
			}
			key.metric = v.metric
			add(key, reports.Unit(v.metric), []float64{v.value})
		}
	}
}

// metricEvaluated is the work of a frontier: rates of different work are not
// comparable.
const metricEvaluated = "evaluated_tokens"

// medians lists one sample per repetition.
func (s *series) medians() []float64 {
	out := make([]float64, len(s.points))
	for i, p := range s.points {
		out[i] = p.median
	}
	return out
}

// pairs returns the medians of the repetitions that both series have.
func pairs(a, b *series) (as, bs []float64) {
	of := make(map[int]float64, len(b.points))
	for _, p := range b.points {
		of[p.number] = p.median
	}
	for _, p := range a.points {
		if v, ok := of[p.number]; ok {
			as, bs = append(as, p.median), append(bs, v)
			delete(of, p.number)
		}
	}
	return as, bs
}
