// Package stat is the one place where ds4bench computes statistics, so that a
// median, a percentile or an interval means the same thing in every report.
//
// It promises a definition per word: the median is the middle value or the mean
// of the two middle ones; its interval consists of two order statistics, with at
// least 95 % confidence and no assumption about the distribution; a percentile is
// nearest rank, and exists only where there are enough samples for it. Doubts are
// values (Warnings) that travel with the number. It changes none of its inputs,
// and never panics on empty, unsorted or non-finite ones: those are errors.
package stat

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/montanaflynn/stats"
	"golang.org/x/perf/benchmath"
)

// Confidence is the level of every interval.
const Confidence = 0.95

// EnoughSamples is the least number of samples for which the interval of a
// median at the level Confidence exists; it is the default of ds4bench speed.
const EnoughSamples = 6

var (
	// ErrTooFew means that there are not enough samples for the asked figure.
	// Reports show a dash and not a guess.
	ErrTooFew = errors.New("too few samples")
	// ErrNotFinite means that a sample is NaN or infinite: it is no measurement.
	ErrNotFinite = errors.New("a sample is not finite")
)

// Summary describes a set of repeated measurements of one thing.
type Summary struct {
	N      int
	Median float64
	// Lo and Hi bound the median with at least Confidence. With fewer than
	// EnoughSamples samples no such interval exists, and HasInterval is false.
	Lo, Hi      float64
	HasInterval bool
	MAD         float64 // median of the absolute deviations from the median
	Min, Max    float64
	Warnings    []string
}

// noisy is the relative half width of an interval above which a summary warns:
// differences smaller than it cannot be seen in these samples.
const noisy = 0.10

// Summarize computes the summary of at least one finite sample.
func Summarize(samples []float64) (Summary, error) {
	if err := check(samples, 1); err != nil {
		return Summary{}, err
	}
	// NewSample sorts what it is given.
	values := slices.Clone(samples)
	bm := benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds), Confidence)
	mad, err := stats.MedianAbsoluteDeviation(values)
	if err != nil {
		return Summary{}, fmt.Errorf("stat: deviation: %w", err)
	}
	s := Summary{N: len(values), Median: bm.Center, MAD: mad, Min: values[0], Max: values[len(values)-1]}
	if math.IsInf(bm.Lo, 0) || math.IsInf(bm.Hi, 0) {
		if s.N < EnoughSamples {
			s.Warnings = append(s.Warnings, fmt.Sprintf("%d samples, an interval of the median needs %d", s.N, EnoughSamples))
		}
		return s, nil
	}
	s.Lo, s.Hi, s.HasInterval = bm.Lo, bm.Hi, true
	if w := s.HalfWidth(); w > noisy {
		s.Warnings = append(s.Warnings, fmt.Sprintf("noisy: the interval of the median is ±%.0f %%", 100*w))
	}
	return s, nil
}

// HalfWidth is the larger distance from the median to an end of its interval,
// relative to the median; 0 without an interval or with a median of zero.
func (s Summary) HalfWidth() float64 {
	if !s.HasInterval || s.Median == 0 {
		return 0
	}
	return max(s.Hi-s.Median, s.Median-s.Lo) / math.Abs(s.Median)
}

// Percentile is the nearest-rank percentile: the smallest sample such that at
// least p percent of all samples are not above it. It is always one of the
// samples. Fewer than SamplesFor(p) samples are ErrTooFew.
func Percentile(samples []float64, p float64) (float64, error) {
	need, err := SamplesFor(p)
	if err != nil {
		return 0, err
	}
	if err := check(samples, need); err != nil {
		return 0, fmt.Errorf("p%v: %w", p, err)
	}
	values := slices.Clone(samples)
	slices.Sort(values)
	// The subtraction keeps a product like 0.07*100 from reaching the next rank.
	rank := int(math.Ceil(p/100*float64(len(values)) - 1e-9))
	return values[max(rank, 1)-1], nil
}

// SamplesFor is the number of samples that the percentile p needs: enough that
// one of them is expected beyond it on the shorter side. The median needs 2, the
// 95th percentile 20, the 99th 100.
func SamplesFor(p float64) (int, error) {
	if !(p > 0 && p < 100) {
		return 0, fmt.Errorf("stat: percentile %v is not between 0 and 100", p)
	}
	return int(math.Ceil(100/min(p, 100-p) - 1e-9)), nil
}

func check(samples []float64, need int) error {
	if len(samples) < need {
		return fmt.Errorf("stat: %d samples, %d needed: %w", len(samples), need, ErrTooFew)
	}
	for i, v := range samples {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("stat: sample %d is %v: %w", i, v, ErrNotFinite)
		}
	}
	return nil
}
