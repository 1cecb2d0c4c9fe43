package stat

import (
	"bufio"
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"ds4/reports"
)

// turn is a recording of testdata/turns.jsonl: two servers, measured in turns by
// ds4bench compare. README.md beside it says what was recorded and how.
type turn struct {
	Servers  string `json:"servers"` // equal, or slower: B spends a tenth more time on each pass
	Start    string `json:"start"`
	Priority string `json:"priority"`

	PrefillA []float64 `json:"prefill_tps_a"`
	PrefillB []float64 `json:"prefill_tps_b"`
	DecodeA  []float64 `json:"decode_tps_a"`
	DecodeB  []float64 `json:"decode_tps_b"`
	OthersA  []float64 `json:"others_percent_a"`
	OthersB  []float64 `json:"others_percent_b"`
	WaitA    []float64 `json:"wait_percent_a"`
	WaitB    []float64 `json:"wait_percent_b"`
}

// pair is one measurement of A and its neighbour of B.
type pair [2]reports.Result

func (t *turn) pairs() []pair {
	var out []pair
	for i := range t.PrefillA {
		one := func(prefill, decode, others, wait []float64) reports.Result {
			return reports.Result{
				Scenario: "speed", Verdict: reports.Pass, Machine: &reports.Machine{OthersPercent: others[i], WaitPercent: wait[i]},
				Frontiers: []reports.Frontier{{FrontierTokens: 512, ContextTokens: 512, EvaluatedTokens: 512, PrefillTPS: prefill[i], DecodeTPS: decode[i]}},
			}
		}
		out = append(out, pair{one(t.PrefillA, t.DecodeA, t.OthersA, t.WaitA), one(t.PrefillB, t.DecodeB, t.OthersB, t.WaitB)})
	}
	return out
}

// recordedTurns reads the recordings that want keeps, each a list of pairs.
func recordedTurns(t *testing.T, want func(turn) bool) [][]pair {
	t.Helper()
	f, err := os.Open("testdata/turns.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out [][]pair
	in := bufio.NewScanner(f)
	for in.Scan() {
		var r turn
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if want(r) {
			out = append(out, r.pairs())
		}
	}
	if err := in.Err(); err != nil || len(out) < 10 {
		t.Fatalf("%d recordings, %v", len(out), err)
	}
	return out
}

// compareTurns compares one run, and returns the verdicts of prefill and decode.
func compareTurns(t *testing.T, run []pair) (prefill, decode reports.ComparisonRow) {
	t.Helper()
	var a, b Measurement
	for i, p := range run {
		p[0].Repetition, p[1].Repetition = i+1, i+1
		a.Results, b.Results = append(a.Results, p[0]), append(b.Results, p[1])
	}
	opt := defaults
	opt.Paired = true
	c, err := Compare(a, b, opt)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range c.Rows {
		switch r.Metric {
		case reports.MetricPrefillTPS:
			prefill = r
		case reports.MetricDecodeTPS:
			decode = r
		}
	}
	return prefill, decode
}

// draw takes n different pairs.
func draw(rng *rand.Rand, pool []pair, n int) []pair {
	var out []pair
	for _, i := range rng.Perm(len(pool))[:n] {
		out = append(out, pool[i])
	}
	return out
}

const draws = 200 // of runs from the recorded pairs, each with a seed of its own

// most is how many of so many runs may come out wrong: one in twenty.
func most(runs int) int { return runs / 20 }

// Two equal servers are the same in 19 of 20 runs, if the run is long enough for
// an interval within the margin.
func TestRecordedEqualServersAreTheSame(t *testing.T) {
	pool := slices.Concat(recordedTurns(t, func(r turn) bool { return r.Servers == "equal" && r.Priority == "real-time" })...)
	rng := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{20, 40, 60, 100} {
		other := make(map[string]int)
		for range draws {
			prefill, decode := compareTurns(t, draw(rng, pool, n))
			for _, r := range []reports.ComparisonRow{prefill, decode} {
				if r.Verdict != reports.Same || r.Regression != reports.NoRegression {
					other[r.Metric]++
				}
			}
		}
		t.Logf("of %d runs of %d pairs, not the same: %v", draws, n, other)
		const enough = 60 // pairs that narrow the interval of these recordings far enough
		for metric, missed := range other {
			if n >= enough && missed > most(draws) {
				t.Errorf("%s: %d of %d runs of %d pairs do not come out the same", metric, missed, draws, n)
			}
		}
	}
}

// However short or noisy the run, equal servers are called faster or slower in at
// most one of twenty.
func TestRecordedEqualServersRaiseNoAlarm(t *testing.T) {
	all := recordedTurns(t, func(r turn) bool { return r.Servers == "equal" })
	pool := slices.Concat(all...)
	alarm := func(run []pair) bool {
		prefill, decode := compareTurns(t, run)
		return slices.ContainsFunc([]reports.ComparisonRow{prefill, decode}, func(r reports.ComparisonRow) bool {
			return r.Verdict == reports.Faster || r.Verdict == reports.Slower
		})
	}
	asRecorded := 0
	for _, run := range all {
		if alarm(run) {
			asRecorded++
		}
	}
	t.Logf("alarms in runs as they were recorded: %d of %d", asRecorded, len(all))
	if asRecorded > most(len(all))+1 { // 55 runs: 2.75 are expected
		t.Errorf("as recorded: %d of %d runs of equal servers find a difference", asRecorded, len(all))
	}
	rng := rand.New(rand.NewPCG(2, 2))
	for _, n := range []int{6, 12, 40, 100} {
		alarms := 0
		for range draws {
			if alarm(draw(rng, pool, n)) {
				alarms++
			}
		}
		t.Logf("alarms in runs of %d pairs: %d of %d", n, alarms, draws)
		if alarms > most(draws) {
			t.Errorf("%d pairs: %d of %d runs of equal servers find a difference", n, alarms, draws)
		}
	}
}

// A server that needs a tenth more time is found.
func TestRecordedSlowerServerIsFound(t *testing.T) {
	all := recordedTurns(t, func(r turn) bool { return r.Servers == "slower" })
	pool := slices.Concat(all...)
	rng := rand.New(rand.NewPCG(3, 3))
	missed, wrong := make(map[string]int), 0
	for range draws {
		prefill, decode := compareTurns(t, draw(rng, pool, 60))
		for _, r := range []reports.ComparisonRow{prefill, decode} {
			if r.Verdict != reports.Slower || r.Regression != reports.ProvenRegression {
				missed[r.Metric]++
			}
			if r.Verdict == reports.Faster || r.Verdict == reports.Same {
				wrong++
			}
		}
	}
	t.Logf("of %d runs of 60 pairs, the slower server was missed in: %v", draws, missed)
	for metric, n := range missed {
		if n > most(draws) {
			t.Errorf("%s: the slower server is not found in %d of %d runs", metric, n, draws)
		}
	}
	if wrong > 0 {
		t.Errorf("a slower server is called faster or the same %d times", wrong)
	}
}
