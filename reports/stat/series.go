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
	median    float64
	counts    []float64 // of exact units, every value
	disturbed bool      // others had the cores that the server wanted
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
		p := point{repetition: repetition{r.Repetition, r.Seed}, disturbed: disturbed(r)}
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

// Limits beyond which a repetition counts as disturbed. Only both together do:
// others that are busy on other cores disturb little, and threads of the server that
// wait for each other are its own affair.
const (
	othersPercent = 5
	waitPercent   = 5
)

func disturbed(r *reports.Result) bool {
	m := r.Machine
	return m != nil && m.OthersPercent > othersPercent && m.WaitPercent > waitPercent
}

// medians lists one sample per repetition.
func medians(points []point) []float64 {
	out := make([]float64, len(points))
	for i, p := range points {
		out[i] = p.median
	}
	return out
}

// calm returns the medians of the repetitions that nobody disturbed, if there are
// EnoughSamples of them, else all. left is how many were left out.
func (s *series) calm() (samples []float64, left int) {
	var quiet []point
	for _, p := range s.points {
		if !p.disturbed {
			quiet = append(quiet, p)
		}
	}
	if len(quiet) < EnoughSamples {
		return medians(s.points), 0
	}
	return medians(quiet), len(s.points) - len(quiet)
}

// pairs returns the medians of the repetitions that both series have: of those that
// nobody disturbed on either side, if there are EnoughSamples, else all. left is how
// many were left out.
func pairs(a, b *series) (as, bs []float64, left int) {
	of := make(map[int]point, len(b.points))
	for _, p := range b.points {
		of[p.number] = p
	}
	var calmA, calmB []float64
	for _, p := range a.points {
		q, ok := of[p.number]
		if !ok {
			continue
		}
		delete(of, p.number)
		as, bs = append(as, p.median), append(bs, q.median)
		if !p.disturbed && !q.disturbed {
			calmA, calmB = append(calmA, p.median), append(calmB, q.median)
		}
	}
	if len(calmA) < EnoughSamples {
		return as, bs, 0
	}
	return calmA, calmB, len(as) - len(calmA)
}
