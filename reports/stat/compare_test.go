package stat

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ds4/reports"
)

var defaults = CompareOptions{MarginPercent: 5, MaxRegressionPercent: 5}

// measured makes one repetition for each value of a metric.
func measured(metric string, values ...float64) []reports.Result {
	var out []reports.Result
	for i, v := range values {
		r := reports.Result{Scenario: "s", Repetition: i + 1, Seed: uint64(i), Verdict: reports.Pass}
		r.AddMetric(metric, v)
		out = append(out, r)
	}
	return out
}

// times multiplies every value.
func times(f float64, values ...float64) []float64 {
	out := slices.Clone(values)
	for i := range out {
		out[i] *= f
	}
	return out
}

func compareOne(t *testing.T, a, b []reports.Result, opt CompareOptions) reports.ComparisonRow {
	t.Helper()
	c, err := Compare(Measurement{Results: a}, Measurement{Results: b}, opt)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Rows) != 1 {
		t.Fatalf("%d rows, want 1: %+v", len(c.Rows), c.Rows)
	}
	return c.Rows[0]
}

var quiet = []float64{100, 101, 99, 100.5, 99.5, 100.2, 99.8, 100.1, 99.9, 100.3}

func TestVerdicts(t *testing.T) {
	noisy := []float64{100, 140, 70, 120, 90, 60, 150, 80, 110, 130}
	tests := []struct {
		name       string
		metric     string
		a, b       []float64
		verdict    reports.ChangeVerdict
		regression reports.Regression
	}{
		{"equal", "x_tps", quiet, quiet, reports.Same, reports.NoRegression},
		{"a percent", "x_tps", quiet, times(0.99, quiet...), reports.Same, reports.NoRegression},
		{"fewer tokens", "x_tps", quiet, times(0.9, quiet...), reports.Slower, reports.ProvenRegression},
		{"more tokens", "x_tps", quiet, times(1.1, quiet...), reports.Faster, reports.NoRegression},
		{"more milliseconds", "x_ms", quiet, times(1.1, quiet...), reports.Slower, reports.ProvenRegression},
		{"fewer milliseconds", "x_ms", quiet, times(0.9, quiet...), reports.Faster, reports.NoRegression},
		{"noise", "x_tps", noisy, times(1.02, noisy...), reports.CannotTell, reports.PossibleRegression},
		{"noise far above", "x_tps", noisy, times(2.2, noisy...), reports.Faster, reports.NoRegression},
		{"five samples", "x_tps", quiet[:5], times(0.5, quiet[:5]...), reports.CannotTell, reports.PossibleRegression},
		{"counts equal", "retries", []float64{1, 0}, []float64{1, 0}, reports.Same, reports.NoRegression},
		{"counts in another order", "retries", []float64{1, 0}, []float64{0, 1}, reports.Different, reports.ProvenRegression},
		{"one byte more", "kv_bytes", []float64{1000}, []float64{1001}, reports.Different, reports.ProvenRegression},
		{"always zero", "goodput_rps", make([]float64, 6), make([]float64, 6), reports.Same, reports.NoRegression},
		{"zero before", "goodput_rps", make([]float64, 6), quiet, reports.CannotTell, reports.PossibleRegression},
		{"zero after", "goodput_rps", quiet, make([]float64, 10), reports.Slower, reports.ProvenRegression},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			row := compareOne(t, measured(tt.metric, tt.a...), measured(tt.metric, tt.b...), defaults)
			if row.Verdict != tt.verdict || row.Regression != tt.regression {
				t.Errorf("%s, regression %s; want %s, %s\n%+v", row.Verdict, row.Regression, tt.verdict, tt.regression, row)
			}
			if row.HasInterval && (row.ChangeLoPercent > row.ChangePercent || row.ChangeHiPercent < row.ChangePercent) {
				t.Errorf("change %v is outside of its interval %v to %v", row.ChangePercent, row.ChangeLoPercent, row.ChangeHiPercent)
			}
		})
	}
}

func TestChangeOfATenth(t *testing.T) {
	row := compareOne(t, measured("x_tps", quiet...), measured("x_tps", times(0.9, quiet...)...), defaults)
	near(t, "change", row.ChangePercent, -10)
	if row.ChangeLoPercent < -11 || row.ChangeHiPercent > -9 || !row.HasP || row.P > 0.001 {
		t.Errorf("%+v", row)
	}
	// Accepted is what was asked for.
	row = compareOne(t, measured("x_tps", quiet...), measured("x_tps", times(0.9, quiet...)...), CompareOptions{MarginPercent: 5, MaxRegressionPercent: 15})
	if row.Verdict != reports.Slower || row.Regression != reports.NoRegression {
		t.Errorf("a tenth slower, 15 %% accepted: %s, %s", row.Verdict, row.Regression)
	}
}

// A machine that gets slower all the time hides a difference from two separate
// measurements, and not from neighbours.
func TestPairsSeeThroughDrift(t *testing.T) {
	var a, b []float64
	for i := range 16 {
		speed := 100 / (1 + 0.2*float64(i))
		a, b = append(a, speed*quiet[i%10]/100), append(b, 0.92*speed*quiet[(i*3+1)%10]/100)
	}
	opt := defaults
	if row := compareOne(t, measured("x_tps", a...), measured("x_tps", b...), opt); row.Verdict != reports.CannotTell {
		t.Errorf("as separate runs: %+v", row)
	}
	opt.Paired = true
	if row := compareOne(t, measured("x_tps", a...), measured("x_tps", b...), opt); row.Verdict != reports.Slower || math.Abs(row.ChangePercent+8) > 1 {
		t.Errorf("as neighbours: %+v", row)
	}
}

func TestPairsGoByRepetition(t *testing.T) {
	a, b := measured("x_tps", quiet...), measured("x_tps", times(0.9, quiet...)...)
	opt := defaults
	opt.Paired = true
	slices.Reverse(b)
	if row := compareOne(t, a, b[:7], opt); row.Verdict != reports.Slower || len(row.B.Samples) != 7 {
		t.Errorf("%+v", row)
	}
	if row := compareOne(t, a, b[:5], opt); row.Verdict != reports.CannotTell || !strings.Contains(strings.Join(row.Warnings, " "), "5 samples, an interval of the change needs 6") {
		t.Errorf("%+v", row)
	}
}

func TestSampleIsARepetition(t *testing.T) {
	var a []reports.Result
	for _, v := range quiet[:3] { // 3000 samples, but three repetitions
		r := reports.Result{Scenario: "s", Repetition: len(a) + 1, Verdict: reports.Pass}
		for range 1000 {
			r.AddMetric("itl_ms", v)
		}
		a = append(a, r)
	}
	row := compareOne(t, a, a, defaults)
	if row.Verdict != reports.CannotTell || len(row.A.Samples) != 3 {
		t.Errorf("%d samples, %s", len(row.A.Samples), row.Verdict)
	}
}

func TestCompareConditions(t *testing.T) {
	make := func(f float64) []reports.Result {
		var out []reports.Result
		for i, v := range quiet {
			for _, n := range []int{1, 4} {
				r := reports.Result{Scenario: "serve-speed", Repetition: i + 1, Verdict: reports.Pass, Load: &reports.Load{Workload: "independent", Concurrency: n}}
				r.AddMetric("ttft_ms", f*v*float64(n))
				out = append(out, r)
			}
			out = append(out, reports.Result{Scenario: "speed", Repetition: i + 1, Verdict: reports.Pass, Frontiers: []reports.Frontier{
				{FrontierTokens: 512, ContextTokens: 512, EvaluatedTokens: 512, PrefillTPS: v / f},
				{FrontierTokens: 2048, ContextTokens: 2048, EvaluatedTokens: 1536, PrefillTPS: v / f, DecodeTPS: v / f},
			}})
		}
		return out
	}
	c, err := Compare(Measurement{Results: make(1)}, Measurement{Results: make(1.2)}, defaults)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range c.Rows {
		got = append(got, fmt.Sprintf("%s %s%d@%d %s: %s", r.Scenario, r.Workload, r.Concurrency, r.FrontierTokens, r.Metric, r.Verdict))
	}
	want := []string{
		"serve-speed independent1@0 ttft_ms: slower", "serve-speed independent4@0 ttft_ms: slower",
		"speed 0@512 evaluated_tokens: same", "speed 0@512 prefill_tps: slower",
		"speed 0@2048 decode_tps: slower", "speed 0@2048 evaluated_tokens: same", "speed 0@2048 prefill_tps: slower",
	}
	if !slices.Equal(got, want) {
		t.Errorf("rows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWarningsTravel(t *testing.T) {
	a, b := measured("x_tps", quiet...), measured("x_tps", quiet...)
	for i := range a {
		a[i].Warnings = []string{fmt.Sprintf("other processes used %d %% of the CPU time", 10+i)}
	}
	b[0].Verdict = reports.Fail
	b = append(b, measured("y_tps", 1)...)
	c, err := Compare(Measurement{Results: append(a, measured("z_ms", 1, 2)...)}, Measurement{Results: b}, defaults)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(c.Warnings, "\n")
	for _, want := range []string{
		"A: other processes used 10 % of the CPU time, and the like (10 of 12 repetitions)",
		"1 repetitions of B did not pass", "1 metrics of B are not in A", "measured one after the other",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	last := c.Rows[len(c.Rows)-1]
	if last.Metric != "z_ms" || last.Verdict != reports.CannotTell || last.Regression != reports.PossibleRegression || !slices.Contains(last.Warnings, "B has no sample") {
		t.Errorf("a metric that B lacks: %+v", last)
	}
}

func TestHosts(t *testing.T) {
	a := Measurement{Run: reports.Run{Host: reports.Host{Name: "one", Cores: 2}}, Results: measured("x_tps", quiet...)}
	b := Measurement{Run: reports.Run{Host: reports.Host{Name: "two", Cores: 2}}, Results: measured("x_tps", quiet...)}
	if _, err := Compare(a, b, defaults); !errors.Is(err, ErrDifferentHosts) || !strings.Contains(err.Error(), `"one" and "two"`) {
		t.Errorf("different hosts: %v", err)
	}
	opt := defaults
	opt.AcrossHosts = true
	c, err := Compare(a, b, opt)
	if err != nil || !strings.Contains(strings.Join(c.Warnings, " "), "different machines") {
		t.Errorf("%v, %+v", err, c)
	}
}

func TestKernels(t *testing.T) {
	run := func(set string) Measurement {
		return Measurement{Run: reports.Run{Server: reports.Server{KernelSet: set}}, Results: measured("x_tps", quiet...)}
	}
	for _, c := range []struct {
		a, b  string
		warns bool
	}{{"cpu/avx2", "cpu/avx512", true}, {"cpu/avx2", "cpu/avx2", false}, {"", "cpu/avx2", false}, {"cpu/avx2", "", false}} {
		got, err := Compare(run(c.a), run(c.b), defaults)
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(got.Warnings, "\n"); strings.Contains(text, "different kernels: A ran "+c.a) != c.warns {
			t.Errorf("%q and %q: warnings %q", c.a, c.b, text)
		}
	}
}

func TestCompareIsBounded(t *testing.T) {
	values := make([]float64, maxCompared+500)
	for i := range values {
		values[i] = 100 + float64(i%7)
	}
	row := compareOne(t, measured("x_tps", values...), measured("x_tps", values...), defaults)
	if len(row.A.Samples) != maxCompared || row.Verdict != reports.Same || !strings.Contains(strings.Join(row.Warnings, " "), "count") {
		t.Errorf("%d samples, %s, warnings %q", len(row.A.Samples), row.Verdict, row.Warnings)
	}
}

// Ranks from printed tables of the two tests (two-sided, 5 %).
func TestRanks(t *testing.T) {
	for _, tt := range []struct{ m, n, want int }{{6, 6, 6}, {8, 8, 14}, {10, 10, 24}, {6, 10, 12}, {20, 20, 128}} {
		if got := uRank(tt.m, tt.n, 0.025); got != tt.want {
			t.Errorf("rank for %d and %d samples is %d, want %d", tt.m, tt.n, got, tt.want)
		}
	}
	last := uRank(exact, exact, 0.025)
	if approx := uRank(exact+1, exact, 0.025); approx < last || approx > last+40 {
		t.Errorf("rank %d for 50 and 50, %d for 51 and 50", last, approx)
	}
	if got := uRank(2, 2, 0.025); got != 0 {
		t.Errorf("two and two samples have an interval at rank %d", got)
	}
}

// Of equal servers at most one comparison in twenty calls anything faster or
// slower, however many rows there are; noise is skewed and drifts.
func TestFalseAlarms(t *testing.T) {
	const rounds, repetitions, rows = 200, 12, 6
	for _, paired := range []bool{false, true} {
		rng := rand.New(rand.NewPCG(1, 2))
		alarms := 0
		for range rounds {
			side := func() []reports.Result {
				var out []reports.Result
				for i := range repetitions {
					r := reports.Result{Scenario: "s", Repetition: i + 1, Verdict: reports.Pass}
					for j := range rows {
						r.AddMetric(fmt.Sprintf("m%d_ms", j), 100*(1+0.3*rng.ExpFloat64()))
					}
					out = append(out, r)
				}
				return out
			}
			opt := defaults
			opt.Paired = paired
			c, err := Compare(Measurement{Results: side()}, Measurement{Results: side()}, opt)
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(c.Rows, func(r reports.ComparisonRow) bool {
				return r.Verdict == reports.Faster || r.Verdict == reports.Slower
			}) {
				alarms++
			}
		}
		if share := float64(alarms) / rounds; share > alpha+0.02 {
			t.Errorf("paired %v: %.3f of comparisons of equal servers find a difference, promised %v", paired, share, alpha)
		}
	}
}
