package kernels

import (
	"math"
	"slices"
	"testing"
)

func TestTop(t *testing.T) {
	for _, s := range Available() {
		t.Run(s.Name, func(t *testing.T) { testTop(t, s) })
	}
}

func testTop(t *testing.T, s *Set) {
	var m TopMemory
	rng := newRand(11, 12)
	for range 400 {
		n := 2 + rng.IntN(60)
		if rng.IntN(3) == 0 {
			n *= 60
		}
		k := 1 + rng.IntN(n)
		scores := make([]float32, n)
		for i := range scores {
			scores[i] = float32(rng.IntN(6)) // many ties
			if n%2 == 0 {
				scores[i] = float32(rng.NormFloat64())
			}
			if rng.IntN(8) == 0 {
				scores[i] = float32(math.Copysign(0, rng.NormFloat64()))
			}
			if rng.IntN(10) == 0 {
				scores[i] = float32(math.NaN())
			}
		}
		order := make([]int32, n)
		for i := range order {
			order[i] = int32(i)
		}
		key := func(i int32) float64 {
			if v := float64(scores[i]); v == v {
				return v
			}
			return math.Inf(-1)
		}
		slices.SortStableFunc(order, func(a, b int32) int {
			switch {
			case key(a) > key(b):
				return -1
			case key(a) < key(b):
				return 1
			}
			return int(a - b)
		})
		want := slices.Sorted(slices.Values(order[:k]))
		got := make([]int32, k)
		s.Top(got, scores, &m)
		if !slices.Equal(got, want) {
			t.Fatalf("top %d of %v: %v, want %v", k, scores, got, want)
		}
	}
}
