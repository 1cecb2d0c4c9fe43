package stat

import (
	"math"
	"slices"

	"golang.org/x/perf/benchmath"
)

// mannWhitney is the two-sided p of the U test: how often two samples of one
// distribution differ as much as these. ok is false with too few samples.
func mannWhitney(a, b []float64) (p float64, ok bool) {
	if len(a) < EnoughSamples || len(b) < EnoughSamples {
		return 0, false
	}
	c := benchmath.AssumeNothing.Compare(
		benchmath.NewSample(slices.Clone(a), &benchmath.DefaultThresholds),
		benchmath.NewSample(slices.Clone(b), &benchmath.DefaultThresholds),
	)
	if slices.Equal(sorted(a), sorted(b)) || math.IsNaN(c.P) {
		return 1, true // the test is not defined where every sample is the same
	}
	return c.P, true
}

// shift is the Hodges-Lehmann estimate of b minus a, the median of all
// differences, with the interval that belongs to the U test: the shifts that the
// test does not reject. It assumes nothing of the distributions but that they have
// the same shape. ok is false if there are too few samples for an interval.
func shift(a, b []float64, confidence float64) (center, lo, hi float64, ok bool) {
	if len(a) < EnoughSamples || len(b) < EnoughSamples {
		return 0, 0, 0, false
	}
	differences := make([]float64, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			differences = append(differences, y-x)
		}
	}
	slices.Sort(differences)
	n := len(differences)
	center = (differences[(n-1)/2] + differences[n/2]) / 2
	k := uRank(len(a), len(b), (1-confidence)/2)
	if k < 1 {
		return center, 0, 0, false
	}
	return center, differences[k-1], differences[n-k], true
}

// pairedShift is the median of b minus a over neighbours, with its order
// statistics. ok is false if there are too few pairs for an interval.
func pairedShift(a, b []float64, confidence float64) (center, lo, hi float64, ok bool) {
	differences := make([]float64, len(a))
	for i := range a {
		differences[i] = b[i] - a[i]
	}
	if check(differences, EnoughSamples) != nil {
		return 0, 0, 0, false
	}
	s := benchmath.AssumeNothing.Summary(benchmath.NewSample(differences, &benchmath.DefaultThresholds), confidence)
	return s.Center, s.Lo, s.Hi, !math.IsInf(s.Lo, 0) && !math.IsInf(s.Hi, 0)
}

// exact is the number of samples up to which orders are counted. Above, the normal
// approximation is good enough.
const exact = 50

// uRank is the largest k with P(U < k) <= tail for samples of m and n.
func uRank(m, n int, tail float64) int {
	if m > exact || n > exact {
		mean := float64(m) * float64(n) / 2
		sigma := math.Sqrt(mean * float64(m+n+1) / 6)
		return int(math.Floor(mean + normalQuantile(tail)*sigma))
	}
	counts := uCounts(m, n)
	total := 0.0
	for _, c := range counts {
		total += c
	}
	below := 0.0
	for k, c := range counts {
		if below += c; below > tail*total {
			return k
		}
	}
	return len(counts)
}

// uCounts counts, for each value of U, the orders of m and n different samples
// that have it: the coefficients of the Gaussian binomial (m+n choose m).
func uCounts(m, n int) []float64 {
	counts := make([]float64, m*n+1)
	counts[0] = 1
	for i := 1; i <= m; i++ {
		for u := m * n; u >= n+i; u-- { // times (1 - q^(n+i))
			counts[u] -= counts[u-n-i]
		}
		for u := i; u <= m*n; u++ { // divided by (1 - q^i)
			counts[u] += counts[u-i]
		}
	}
	return counts
}

// normalQuantile is the p-quantile of the standard normal distribution.
func normalQuantile(p float64) float64 { return math.Sqrt2 * math.Erfinv(2*p-1) }

func sorted(values []float64) []float64 {
	out := slices.Clone(values)
	slices.Sort(out)
	return out
}
