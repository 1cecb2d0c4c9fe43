package cpu

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"ds4/metal"
)

func TestPickExperts(t *testing.T) {
	ids := make([]int32, 3)
	pickExperts(ids, []float32{1, 5, 2, 5, 0})
	if !slices.Equal(ids, []int32{1, 3, 2}) {
		t.Errorf("experts %v, want the two fives, lower id first, then 2", ids)
	}
}

// TestRouteOfVanishingScores: weights are finite, and zero, when no expert has a score.
func TestRouteOfVanishingScores(t *testing.T) {
	d := newDevice(t, 1)
	logits := deviceBuffer(t, d, []float32{-1000, -2000, -1500, -3000})
	ids, weights, none := deviceBuffer(t, d, make([]int32, 2)), deviceBuffer(t, d, []float32{1, 1}), deviceBuffer(t, d, make([]int32, 4))
	a := metal.RouteArgs{Experts: 4, Used: 2, Tokens: 1, Scale: 1.5}
	if err := runKernel(t, d, metal.KernelRoute, metal.Size{X: 1}, metal.ArgBytes(&a), bind(logits, none, none, none, ids, weights)...); err != nil {
		t.Fatal(err)
	}
	if got := floatsOf(weights); got[0] != 0 || got[1] != 0 {
		t.Errorf("weights %v, want zeros", got)
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
