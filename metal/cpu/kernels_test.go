package cpu

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestPickExperts(t *testing.T) {
	ids := make([]int32, 3)
	pickExperts(ids, []float32{1, 5, 2, 5, 0})
	if !slices.Equal(ids, []int32{1, 3, 2}) {
		t.Errorf("experts %v, want the two fives, lower id first, then 2", ids)
	}
}

func TestSinkhornIsDoublyStochastic(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	c := make([]float32, 16)
	for i := range c {
		c[i] = float32(rng.NormFloat64() * 2)
	}
	sinkhorn(c, 4, 20, 1e-6)
	for i := range 4 {
		var r, col float32
		for j := range 4 {
			r += c[i*4+j]
			col += c[j*4+i]
		}
		if math.Abs(float64(col)-1) > 1e-4 || math.Abs(float64(r)-1) > 2e-2 {
			t.Errorf("row %d sums to %v, column to %v", i, r, col)
		}
	}
}
