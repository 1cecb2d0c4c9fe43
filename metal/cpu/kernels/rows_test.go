package kernels

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// rowResults runs every kernel along a row on the same input.
func rowResults(s *Set, n int, values func(*rand.Rand, int) []float32) map[string][]float32 {
	rng := newRand(41, uint64(n))
	x, y, w := values(rng, n), values(rng, n), values(rng, n)
	streams, table := values(rng, 4*n), values(rng, n)
	out := map[string][]float32{}
	with := func(name string, v []float32, f func(v []float32)) {
		v = slices.Clone(v)
		f(v)
		out[name] = v
	}
	out["rms"] = []float32{s.InverseRMS(x, 1e-6)}
	with("norm", x, func(v []float32) { s.Normalise(v, w, 1e-6) })
	with("norm without weight", x, func(v []float32) { s.Normalise(v, nil, 1e-6) })
	with("swiglu", x, func(v []float32) { s.SwiGLU(v, y, 0.7) })
	with("axpy", x, func(v []float32) { s.Axpy(v, y, 0.3) })
	with("mix", x, func(v []float32) { s.Mix(v, streams, (*[4]float32)(w)) })
	with("apply", streams, func(v []float32) { s.Apply(v, y, (*[4]float32)(w), (*[16]float32)(table)) })
	with("pool", x, func(v []float32) { s.Pool(v, streams, streams[:3*n], 3) })
	if n%2 == 0 {
		with("rotate", x, func(v []float32) { s.Rotate(v, table[:n/2&^1], false) })
		with("rotate back", x, func(v []float32) { s.Rotate(v, table, true) })
	}
	return out
}

func TestRows(t *testing.T) {
	for _, n := range []int{16, 32, 64, 192, 1024, 23, 50} {
		for _, values := range []func(*rand.Rand, int) []float32{normals, extremes} {
			want := rowResults(&Scalar, n, values)
			eachSet(t, func(t *testing.T, s *Set) {
				for name, got := range rowResults(s, n, values) {
					sameBits(t, name, nanAlike(got), nanAlike(want[name]))
				}
			})
		}
	}
}

// TestRowDefinitions compares plain Go with float64.
func TestRowDefinitions(t *testing.T) {
	rng := newRand(43, 44)
	const n = 48
	x, y, w := normals(rng, n), normals(rng, n), normals(rng, n)
	near := func(what string, i int, got float32, want float64) {
		t.Helper()
		if math.Abs(float64(got)-want) > 2e-6*(1+math.Abs(want)) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got, want)
		}
	}
	var ss float64
	for _, v := range x {
		ss += float64(v) * float64(v)
	}
	inv := 1 / math.Sqrt(ss/n+1e-6)
	norm, glu, turned := slices.Clone(x), slices.Clone(x), slices.Clone(x)
	Scalar.Normalise(norm, w, 1e-6)
	Scalar.SwiGLU(glu, y, 0.7)
	Scalar.Rotate(turned, y, true)
	for i := range n {
		near("norm", i, norm[i], float64(x[i])*inv*float64(w[i]))
		g := min(float64(x[i]), 0.7)
		near("swiglu", i, glu[i], g/(1+math.Exp(-g))*min(max(float64(y[i]), -0.7), 0.7))
		a, b, c, s := float64(x[i&^1]), float64(x[i|1]), float64(y[i&^1]), float64(y[i|1])
		if i%2 == 0 {
			near("rotate", i, turned[i], a*c+b*s)
		} else {
			near("rotate", i, turned[i], b*c-a*s)
		}
	}
	z := make([]float32, 16)
	Scalar.Pool(z, x, y, 3)
	for j := range z {
		var sum, den float64
		for e := range 3 {
			p := math.Exp(float64(y[e*16+j]))
			sum, den = sum+p*float64(x[e*16+j]), den+p
		}
		near("pool", j, z[j], sum/den)
	}
}

func TestHyperGates(t *testing.T) {
	rng := newRand(45, 46)
	for range 50 {
		mix, base := normals(rng, 24), normals(rng, 24)
		p := GateParams{Inverse: 0.7, Scale: [3]float32{1, 0.8, 1.9}, Eps: 1e-6}
		want := Gates{GateParams: p}
		Scalar.HyperGates(&want, (*[24]float32)(mix), (*[24]float32)(base), 20)
		for h := range 4 {
			v := float64(mix[h])*0.7 + float64(base[h])
			if d := math.Abs(float64(want.Pre[h]) - 1/(1+math.Exp(-v)) - 1e-6); d > 1e-6 {
				t.Fatalf("pre %d is %v", h, want.Pre[h])
			}
			var r, c float32
			for j := range 4 {
				r += want.Comb[4*h+j]
				c += want.Comb[4*j+h]
			}
			if math.Abs(float64(c)-1) > 1e-4 || math.Abs(float64(r)-1) > 2e-2 {
				t.Errorf("row %d sums to %v, column to %v", h, r, c)
			}
		}
		eachSet(t, func(t *testing.T, s *Set) {
			got := Gates{GateParams: p}
			s.HyperGates(&got, (*[24]float32)(mix), (*[24]float32)(base), 20)
			sameBits(t, "pre", got.Pre[:], want.Pre[:])
			sameBits(t, "post", got.Post[:], want.Post[:])
			sameBits(t, "comb", got.Comb[:], want.Comb[:])
		})
	}
}
