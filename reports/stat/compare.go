package stat

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/montanaflynn/stats"

	"ds4/reports"
)

// ErrDifferentHosts means that two measurements come from different machines, so
// that their difference says nothing about the servers.
var ErrDifferentHosts = errors.New("measured on different machines")

// Defaults of a comparison, in percent.
const (
	DefaultMarginPercent        = 5
	DefaultMaxRegressionPercent = 5
)

// maxCompared bounds the repetitions of one row: their differences are all in
// memory at once.
const maxCompared = 2000

// Measurement is one side of a comparison.
type Measurement struct {
	Name    string // for people: file, command line or URL
	Run     reports.Run
	Results []reports.Result
}

// CompareOptions says how to judge.
type CompareOptions struct {
	MarginPercent        float64 // up to which two rates or times are the same
	MaxRegressionPercent float64 // change for the worse that is accepted
	Paired               bool    // the sides were measured in turns, in one run
	AcrossHosts          bool    // different machines are no error
}

// Compare sets two measurements side by side. The rules, for rates and times:
//
// A sample is one repetition; those in which others had the cores that the server
// wanted are left out, as long as there are enough others. The change of B against A is a ratio with an
// interval: of measurements in turns the median of the ratios of neighbours with
// its order statistics, else the Hodges-Lehmann shift of the logarithms. Below
// EnoughSamples there is none, and nothing can be told. An interval within the
// margin is "same", whatever a test says of so small a difference. "Faster" and
// "slower" need more: the level is divided by the number of rows, and at the level
// that is left the interval must not contain "no change"; of separate runs the
// Mann-Whitney U test must agree. Everything else cannot be told.
//
// So of twenty comparisons of identical servers at most one, on average, calls any
// row faster or slower, however many rows there are, and a row is "same" if there
// are enough samples for an interval within the margin.
//
// Counts must be equal, repetition by repetition.
func Compare(a, b Measurement, opt CompareOptions) (*reports.Comparison, error) {
	c := &reports.Comparison{
		A: subject(a), B: subject(b), Paired: opt.Paired, Confidence: Confidence,
		MarginPercent: opt.MarginPercent, MaxRegressionPercent: opt.MaxRegressionPercent,
	}
	if why := hostsDiffer(a.Run.Host, b.Run.Host); why != "" {
		if !opt.AcrossHosts {
			return nil, fmt.Errorf("stat: %w: %s", ErrDifferentHosts, why)
		}
		c.Warnings = append(c.Warnings, ErrDifferentHosts.Error()+": "+why)
	}
	if x, y := a.Run.Server.KernelSet, b.Run.Server.KernelSet; x != y && x != "" && y != "" {
		c.Warnings = append(c.Warnings, fmt.Sprintf("different kernels: A ran %s, B %s", x, y))
	}
	if !opt.Paired {
		c.Warnings = append(c.Warnings, "measured one after the other: what changed on the machine in between looks like a change of the server")
	}
	as, failedA := collect(a.Results)
	bs, failedB := collect(b.Results)
	for side, n := range map[string]int{"A": failedA, "B": failedB} {
		if n > 0 {
			c.Warnings = append(c.Warnings, fmt.Sprintf("%d repetitions of %s did not pass and do not count", n, side))
		}
	}
	for side, results := range map[string][]reports.Result{"A": a.Results, "B": b.Results} {
		for _, d := range Doubts(results) {
			c.Warnings = append(c.Warnings, side+": "+d.String())
		}
	}
	keys := sortedSeries(as)
	judged := 0 // rows that can be faster or slower
	for _, key := range keys {
		if bs[key] != nil && !reports.Exact(as[key].unit) {
			judged++
		}
	}
	for _, key := range keys {
		c.Rows = append(c.Rows, compareSeries(key, as[key], bs[key], opt, judged))
	}
	onlyB := 0
	for key := range bs {
		if as[key] == nil {
			onlyB++
		}
	}
	if onlyB > 0 {
		c.Warnings = append(c.Warnings, fmt.Sprintf("%d metrics of B are not in A", onlyB))
	}
	slices.Sort(c.Warnings)
	return c, nil
}

func subject(m Measurement) reports.Subject {
	return reports.Subject{Name: m.Name, Build: m.Run.Build, Host: m.Run.Host, Server: m.Run.Server}
}

// hostsDiffer says in what two machines differ as far as speed goes, or "".
func hostsDiffer(a, b reports.Host) string {
	for _, v := range []struct{ what, a, b string }{
		{"host", a.Name, b.Name},
		{"system", a.OS + "/" + a.Arch, b.OS + "/" + b.Arch},
		{"CPU", a.CPU, b.CPU},
		{"cores", fmt.Sprint(a.Cores), fmt.Sprint(b.Cores)},
	} {
		if v.a != v.b {
			return fmt.Sprintf("%s %q and %q", v.what, v.a, v.b)
		}
	}
	return ""
}

func sortedSeries(m map[seriesKey]*series) []seriesKey {
	keys := make([]seriesKey, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, seriesKey.compare)
	return keys
}

// compareSeries makes the row of one metric; b is nil if B did not measure it.
func compareSeries(key seriesKey, a, b *series, opt CompareOptions, judged int) reports.ComparisonRow {
	row := reports.ComparisonRow{
		Scenario: key.scenario, Workload: key.workload, Concurrency: key.concurrency, FrontierTokens: key.frontier,
		Metric: key.metric, Unit: a.unit, Verdict: reports.CannotTell, Regression: reports.PossibleRegression,
	}
	row.A, row.Warnings = estimate("A", a, row.Warnings)
	if b == nil {
		row.Warnings = append(row.Warnings, "B has no sample")
		return row
	}
	row.B, row.Warnings = estimate("B", b, row.Warnings)
	if b.unit != a.unit {
		row.Warnings = append(row.Warnings, fmt.Sprintf("B is in %s", b.unit))
		return row
	}
	if reports.Exact(a.unit) {
		judgeCounts(&row, a, b)
		return row
	}
	apart := measureChange(&row, a, b, opt, alpha/float64(judged))
	judge(&row, apart, opt)
	return row
}

// estimate describes one side; more than maxCompared repetitions are cut off.
func estimate(side string, s *series, warnings []string) (reports.Estimate, []string) {
	if n := len(s.points); n > maxCompared {
		warnings = append(warnings, fmt.Sprintf("%s: the first %d of %d repetitions count", side, maxCompared, n))
		s.points = s.points[:maxCompared]
	}
	samples := medians(s.points)
	e := reports.Estimate{Samples: samples}
	sum, err := Summarize(samples)
	if err != nil {
		return e, append(warnings, fmt.Sprintf("%s: %v", side, err))
	}
	e.Median, e.Lo, e.Hi, e.HasInterval = sum.Median, sum.Lo, sum.Hi, sum.HasInterval
	return e, warnings
}

// judgeCounts compares repetition by repetition: counts of equal work are equal.
func judgeCounts(row *reports.ComparisonRow, a, b *series) {
	if row.A.Median != 0 {
		row.ChangePercent = 100 * (row.B.Median/row.A.Median - 1)
	}
	of := make(map[repetition][]float64, len(b.points))
	for _, p := range b.points {
		of[p.repetition] = p.counts
	}
	common, unequal := 0, 0
	for _, p := range a.points {
		counts, ok := of[p.repetition]
		if !ok {
			continue
		}
		common++
		if !slices.Equal(p.counts, counts) {
			unequal++
		}
	}
	switch {
	case common == 0:
		row.Warnings = append(row.Warnings, "no repetition of the same number and seed in both")
	case unequal > 0:
		row.Verdict, row.Regression = reports.Different, reports.ProvenRegression
		row.Warnings = append(row.Warnings, fmt.Sprintf("differs in %d of %d repetitions", unequal, common))
	default:
		row.Verdict, row.Regression = reports.Same, reports.NoRegression
	}
}

// measureChange computes the change with its interval, and the U test. It reports
// whether the sides are apart at the given level.
func measureChange(row *reports.ComparisonRow, a, b *series, opt CompareOptions, level float64) (apart bool) {
	x, leftA := a.calm()
	y, leftB := b.calm()
	row.P, row.HasP = mannWhitney(x, y)
	interval, left := shift, leftA+leftB
	if opt.Paired {
		x, y, left = pairs(a, b)
		interval = pairedShift
	}
	if left > 0 {
		what := "repetitions"
		if opt.Paired {
			what = "pairs"
		}
		row.Warnings = append(row.Warnings, fmt.Sprintf("%d %s do not count: others had the cores that the server wanted", left, what))
	}
	if n := min(len(x), len(y)); n < EnoughSamples {
		row.Warnings = append(row.Warnings, fmt.Sprintf("%d samples, an interval of the change needs %d", n, EnoughSamples))
	}
	u, v, percent := logs(x, y)
	if percent == nil {
		row.Warnings = append(row.Warnings, "the median of A is zero: no ratio")
		return false
	}
	var center, lo, hi float64
	center, lo, hi, row.HasInterval = interval(u, v, Confidence)
	if !row.HasInterval {
		row.ChangePercent = 100 * (row.B.Median/row.A.Median - 1)
		return false
	}
	row.ChangePercent, row.ChangeLoPercent, row.ChangeHiPercent = percent(center), percent(lo), percent(hi)
	_, lo, hi, ok := interval(u, v, 1-level)
	return ok && (lo > 0 || hi < 0) && (opt.Paired || row.HasP && row.P < level)
}

// logs puts both sides on a scale on which equal changes are equal differences,
// and returns how a difference on it reads in percent. That is the logarithm, and
// where a sample is zero, parts of A's median. Without either, percent is nil.
func logs(a, b []float64) (as, bs []float64, percent func(float64) float64) {
	median, err := stats.Median(a)
	if err != nil {
		return nil, nil, nil
	}
	positive := slices.Min(a) > 0 && len(b) > 0 && slices.Min(b) > 0
	scale := func(v float64) float64 { return v / median }
	percent = func(d float64) float64 { return 100 * d }
	switch {
	case positive:
		scale, percent = math.Log, func(d float64) float64 { return 100 * math.Expm1(d) }
	case slices.Max(a) == 0 && slices.Min(a) == 0 && len(b) > 0 && slices.Max(b) == 0 && slices.Min(b) == 0:
		scale = func(float64) float64 { return 0 }
	case median <= 0:
		return nil, nil, nil
	}
	for _, v := range a {
		as = append(as, scale(v))
	}
	for _, v := range b {
		bs = append(bs, scale(v))
	}
	return as, bs, percent
}

// alpha is the share of comparisons of equal servers that may find a difference.
const alpha = 1 - Confidence

// judge turns the change of a rate or a time into verdicts.
func judge(row *reports.ComparisonRow, apart bool, opt CompareOptions) {
	if !row.HasInterval {
		return
	}
	lo, hi := row.ChangeLoPercent, row.ChangeHiPercent
	gain, worst := row.ChangePercent, -lo // in the direction that is better
	if reports.Better(row.Unit) == reports.LowerIsBetter {
		gain, worst = -row.ChangePercent, hi
	}
	switch {
	case max(-lo, hi) <= opt.MarginPercent:
		row.Verdict = reports.Same
	case apart && gain > 0:
		row.Verdict = reports.Faster
	case apart:
		row.Verdict = reports.Slower
	}
	if wide := max(-lo, hi); row.Verdict == reports.CannotTell {
		row.Warnings = append(row.Warnings, fmt.Sprintf("the change may be up to %.0f %%: more samples, or a quieter machine, would tell", wide))
	}
	switch {
	case row.Verdict == reports.Slower && -gain > opt.MaxRegressionPercent:
		row.Regression = reports.ProvenRegression
	case row.Verdict == reports.CannotTell && worst > opt.MaxRegressionPercent:
		row.Regression = reports.PossibleRegression
	default:
		row.Regression = reports.NoRegression
	}
}
