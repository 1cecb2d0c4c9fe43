package stat

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Twelve measured prefill rates of one build on a busy two-core machine, in the
// order in which they came. The expected figures were computed by hand.
var recorded = []float64{412.7, 431.2, 428.9, 430.1, 389.4, 433.6, 429.8, 431.9, 430.7, 427.3, 432.2, 428.1}

func TestSummarizeRecorded(t *testing.T) {
	before := slices.Clone(recorded)
	s, err := Summarize(recorded)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(before, recorded) {
		t.Error("Summarize reordered its input")
	}
	// Sorted: 389.4 412.7 427.3 428.1 428.9 429.8 | 430.1 430.7 431.2 431.9 432.2 433.6.
	// With n = 12 the 3rd and the 10th value enclose the median with 96 %.
	near(t, "median", s.Median, (429.8+430.1)/2)
	near(t, "lo", s.Lo, 427.3)
	near(t, "hi", s.Hi, 431.9)
	near(t, "min", s.Min, 389.4)
	near(t, "max", s.Max, 433.6)
	// Deviations from 429.95, sorted: .15 .15 .75 1.05 1.25 1.85 | 1.95 2.25 2.65 3.65 17.25 40.55.
	near(t, "mad", s.MAD, (1.85+1.95)/2)
	if !s.HasInterval || len(s.Warnings) != 0 {
		t.Errorf("interval %v, warnings %q: want an interval and no doubts", s.HasInterval, s.Warnings)
	}
}

func TestSummarizeIntervalNeedsSix(t *testing.T) {
	for n := 1; n <= 8; n++ {
		s, err := Summarize(recorded[:n])
		if err != nil {
			t.Fatal(err)
		}
		if got, want := s.HasInterval, n >= EnoughSamples; got != want {
			t.Errorf("%d samples: interval %v, want %v", n, got, want)
		}
		if got, want := len(s.Warnings) > 0, n < EnoughSamples; got != want {
			t.Errorf("%d samples: warnings %q", n, s.Warnings)
		}
	}
}

func TestSummarizeWarnsOfNoise(t *testing.T) {
	s, err := Summarize([]float64{100, 130, 70, 101, 99, 160, 80})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Warnings) != 1 {
		t.Errorf("warnings %q, want one about noise (half width %v)", s.Warnings, s.HalfWidth())
	}
}

func TestRefusals(t *testing.T) {
	if _, err := Summarize(nil); !errors.Is(err, ErrTooFew) {
		t.Errorf("no samples: %v", err)
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, err := Summarize([]float64{1, v, 2}); !errors.Is(err, ErrNotFinite) {
			t.Errorf("sample %v: %v", v, err)
		}
	}
	for _, p := range []float64{0, 100, -1, 101, math.NaN()} {
		if _, err := Percentile(recorded, p); err == nil {
			t.Errorf("percentile %v was computed", p)
		}
	}
}

func TestPercentileNearestRank(t *testing.T) {
	oneTo := func(n int) []float64 {
		out := make([]float64, n)
		for i := range out {
			out[i] = float64(n - i) // unsorted on purpose
		}
		return out
	}
	tests := []struct {
		n    int
		p    float64
		want float64
		few  bool
	}{
		{10, 50, 5, false},
		{10, 90, 9, false},
		{10, 95, 0, true}, // the place where libraries say 9.5, 9.55 or 10
		{20, 95, 19, false},
		{99, 99, 0, true},
		{100, 99, 99, false},
		{100, 7, 7, false},
		{1000, 99.9, 999, false},
		{999, 99.9, 0, true},
		{2, 50, 1, false},
		{1, 50, 0, true},
	}
	for _, tt := range tests {
		got, err := Percentile(oneTo(tt.n), tt.p)
		if errors.Is(err, ErrTooFew) != tt.few || (!tt.few && err != nil) {
			t.Errorf("p%v of %d: error %v", tt.p, tt.n, err)
		}
		if got != tt.want {
			t.Errorf("p%v of 1..%d is %v, want %v", tt.p, tt.n, got, tt.want)
		}
	}
}

// The definition of nearest rank, checked by counting.
func TestPercentileProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := float64(rapid.IntRange(1, 99).Draw(t, "p"))
		need, err := SamplesFor(p)
		if err != nil {
			t.Fatal(err)
		}
		xs := rapid.SliceOfN(rapid.Float64Range(-1e6, 1e6), need, need+150).Draw(t, "samples")
		got, err := Percentile(xs, p)
		if err != nil {
			t.Fatal(err)
		}
		notAbove, below := 0, 0
		for _, x := range xs {
			if x <= got {
				notAbove++
			}
			if x < got {
				below++
			}
		}
		n := float64(len(xs))
		if float64(notAbove)*100 < p*n || float64(below)*100 >= p*n {
			t.Fatalf("p%v of %d samples is %v: %d not above, %d below", p, len(xs), got, notAbove, below)
		}
		if !slices.Contains(xs, got) {
			t.Fatalf("p%v is %v, which was never measured", p, got)
		}
	})
}

// The interval really covers the median as often as it says.
func TestIntervalCoverage(t *testing.T) {
	covered, rounds := 0, 2000
	state := uint64(1)
	next := func() float64 { // splitmix64, exponentially distributed: skewed like latencies
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return -math.Log((float64((z^z>>31)>>11) + 0.5) / (1 << 53))
	}
	for range rounds {
		xs := make([]float64, 11)
		for i := range xs {
			xs[i] = next()
		}
		s, err := Summarize(xs)
		if err != nil {
			t.Fatal(err)
		}
		if s.Lo <= math.Ln2 && math.Ln2 <= s.Hi {
			covered++
		}
	}
	if share := float64(covered) / float64(rounds); share < Confidence-0.015 {
		t.Errorf("the interval covers the median in %.3f of the cases, promised %v", share, Confidence)
	}
}

func TestFitGrowthFindsTheLine(t *testing.T) {
	var points []Interval
	for from := 0; from < 16384; from += 2048 {
		middle := float64(from+1024) / 1000
		points = append(points, Interval{FromTokens: from, ToTokens: from + 2048, MSPerToken: 2.0 + 0.05*middle})
	}
	g, err := FitGrowth(points)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "base", g.BaseMS, 2)
	near(t, "slope", g.SlopeMS, 0.05)
	near(t, "r2", g.R2, 1)
	near(t, "t/s at 10000", g.TPS(10000), 1000/2.5)
	if len(g.Warnings) != 0 || len(g.Residuals) != len(points) {
		t.Errorf("%d residuals, warnings %q", len(g.Residuals), g.Warnings)
	}
}

func TestFitGrowthShowsAKnee(t *testing.T) {
	points := []Interval{{FromTokens: 0, ToTokens: 1000, MSPerToken: 1}, {FromTokens: 1000, ToTokens: 2000, MSPerToken: 1}, {FromTokens: 2000, ToTokens: 3000, MSPerToken: 1}, {FromTokens: 3000, ToTokens: 4000, MSPerToken: 1}, {FromTokens: 4000, ToTokens: 5000, MSPerToken: 4}}
	g, err := FitGrowth(points)
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Warnings) == 0 {
		t.Errorf("a cost that jumps from 1 to 4 ms is on the line: %+v", g)
	}
}

// A cost that begins to grow somewhere is found there, with both slopes, although
// no single residual is large; noise that its own intervals explain is no knee.
func TestFitGrowthFindsTheKnee(t *testing.T) {
	cost := func(x float64) float64 { return 1 + 0.01*x + 0.08*math.Max(x-9, 0) }
	var points []Interval
	for from := 0; from < 18000; from += 2000 {
		ms := cost(float64(from+1000) / 1000)
		points = append(points, Interval{FromTokens: from, ToTokens: from + 2000, MSPerToken: ms, LoMS: ms * 0.99, HiMS: ms * 1.01})
	}
	g, err := FitGrowth(points)
	if err != nil {
		t.Fatal(err)
	}
	if g.Knee == nil || g.Knee.ContextTokens != 9000 {
		t.Fatalf("knee %+v of %+v, want one at 9000", g.Knee, g)
	}
	near(t, "slope before", g.Knee.SlopeBeforeMS, 0.01)
	near(t, "slope after", g.Knee.SlopeAfterMS, 0.09)
	if !slices.ContainsFunc(g.Warnings, func(w string) bool { return strings.Contains(w, "9000 tokens") }) {
		t.Errorf("warnings %q", g.Warnings)
	}
	for i := range points {
		points[i].LoMS, points[i].HiMS = points[i].MSPerToken*0.5, points[i].MSPerToken*1.5
	}
	if g, err := FitGrowth(points); err != nil || g.Knee != nil || len(g.Warnings) > 0 {
		t.Errorf("a knee %+v within the noise, %v, warnings %q", g.Knee, err, g.Warnings)
	}
	if r := g.Residuals[0]; r.RelativeLo >= r.Relative || r.RelativeHi <= r.Relative {
		t.Errorf("residual %+v has no interval", r)
	}
	straight := points[:0:0]
	for from := 0; from < 18000; from += 2000 {
		straight = append(straight, Interval{FromTokens: from, ToTokens: from + 2000, MSPerToken: 1 + 0.01*float64(from+1000)/1000})
	}
	if g, err := FitGrowth(straight); err != nil || g.Knee != nil {
		t.Errorf("a knee %+v in a straight line, %v", g.Knee, err)
	}
}

// An interval counts as much as it has tokens: a short odd one bends nothing.
func TestFitGrowthWeighs(t *testing.T) {
	points := []Interval{{FromTokens: 0, ToTokens: 4000, MSPerToken: 1}, {FromTokens: 4000, ToTokens: 8000, MSPerToken: 1}, {FromTokens: 8000, ToTokens: 12000, MSPerToken: 1}, {FromTokens: 12000, ToTokens: 12004, MSPerToken: 2}}
	g, err := FitGrowth(points)
	if err != nil {
		t.Fatal(err)
	}
	if ms := 1000 / g.TPS(12000); ms > 1.01 {
		t.Errorf("four odd tokens of 12004 raise the fitted cost to %v ms", ms)
	}
}

func TestFitGrowthRefuses(t *testing.T) {
	flat := []Interval{{FromTokens: 0, ToTokens: 512, MSPerToken: 1}, {FromTokens: 0, ToTokens: 512, MSPerToken: 1}, {FromTokens: 0, ToTokens: 512, MSPerToken: 1}}
	if _, err := FitGrowth(flat); !errors.Is(err, ErrTooFew) {
		t.Errorf("one place measured three times: %v", err)
	}
	if _, err := FitGrowth([]Interval{{FromTokens: 0, ToTokens: 1, MSPerToken: 1}, {FromTokens: 2, ToTokens: 1, MSPerToken: 1}, {FromTokens: 3, ToTokens: 4, MSPerToken: 1}}); err == nil {
		t.Error("an interval that ends before it begins was accepted")
	}
	if _, err := FitGrowth([]Interval{{FromTokens: 0, ToTokens: 1, MSPerToken: 1}, {FromTokens: 1, ToTokens: 2, MSPerToken: math.NaN()}, {FromTokens: 3, ToTokens: 4, MSPerToken: 1}}); !errors.Is(err, ErrNotFinite) {
		t.Errorf("NaN: %v", err)
	}
	same, err := FitGrowth([]Interval{{FromTokens: 0, ToTokens: 1, MSPerToken: 3}, {FromTokens: 1, ToTokens: 2, MSPerToken: 3}, {FromTokens: 3, ToTokens: 4, MSPerToken: 3}})
	if err != nil || same.R2 != 1 {
		t.Errorf("equal costs: %+v, %v", same, err)
	}
}

func near(t *testing.T, name string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9*math.Max(1, math.Abs(want)) {
		t.Errorf("%s is %v, want %v", name, got, want)
	}
}
