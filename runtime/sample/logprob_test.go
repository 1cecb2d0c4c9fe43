package sample

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestLogprobs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		logits := rapid.SliceOfN(rapid.OneOf(rapid.Float32Range(-50, 50), rapid.SampledFrom([]float32{0, 1, float32(math.Inf(-1)), float32(math.NaN())})), 1, 40).Draw(t, "logits")
		n := rapid.IntRange(0, 20).Draw(t, "n")
		id := int32(rapid.IntRange(0, len(logits)-1).Draw(t, "id"))
		got, top := Logprobs(logits, id, n)
		var all []Probable
		sum := 0.0
		for i, x := range logits {
			if finite(x) {
				all = append(all, Probable{int32(i), float64(x)})
				sum += math.Exp(float64(x))
			}
		}
		slices.SortStableFunc(all, func(a, b Probable) int {
			switch {
			case a.Logprob > b.Logprob:
				return -1
			case a.Logprob < b.Logprob:
				return 1
			}
			return 0
		})
		for i := range all {
			all[i].Logprob -= math.Log(sum)
		}
		if len(top) != min(n, len(all)) {
			t.Fatalf("%d of %d", len(top), n)
		}
		for i, p := range top {
			if p.ID != all[i].ID || math.Abs(p.Logprob-all[i].Logprob) > 1e-9 {
				t.Fatalf("top[%d] = %+v, want %+v", i, p, all[i])
			}
		}
		want := float64(LowestLogprob)
		for _, p := range all {
			if p.ID == id {
				want = p.Logprob
			}
		}
		if math.Abs(got-want) > 1e-9 {
			t.Fatalf("logprob %v, want %v", got, want)
		}
	})
}
