package kernels

import (
	"math"
	"slices"
	"testing"

	"ds4/metal/quant"
)

// e4m3Values lists every finite E4M3FN value by its definition.
func e4m3Values() []float64 {
	var out []float64
	for e := range 16 {
		for m := range 8 {
			v := math.Ldexp(1+float64(m)/8, e-7)
			if e == 0 {
				v = math.Ldexp(float64(m), -9)
			}
			if v <= fp8Max {
				out = append(out, v)
			}
		}
	}
	return out
}

// nearestOf is the entry of list closest to x; ties go to the even index.
func nearestOf(list []float64, x float64) float64 {
	best := 0
	for i, v := range list {
		d, b := math.Abs(v-x), math.Abs(list[best]-x)
		if d < b || d == b && i%2 == 0 {
			best = i
		}
	}
	return list[best]
}

func TestRoundE4M3(t *testing.T) {
	values := e4m3Values()
	check := func(x float32) {
		want := nearestOf(values, math.Abs(float64(x)))
		if x < 0 {
			want = -want
		}
		if got := roundE4M3(x); float64(got) != want {
			t.Errorf("roundE4M3(%v) = %v, want %v", x, got, want)
		}
	}
	for i, v := range values {
		check(float32(v))
		check(float32(-v))
		if i > 0 { // the exact middle, and its neighbours
			m := float32((v + values[i-1]) / 2)
			check(m)
			check(math.Nextafter32(m, 0))
			check(math.Nextafter32(m, 1000))
		}
	}
	rng := newRand(1, 2)
	for range 5000 {
		check(float32(math.Exp(rng.Float64()*20-14)) * float32(1-2*rng.IntN(2)))
	}
}

func TestRoundE2M1(t *testing.T) {
	values := []float64{0, .5, 1, 1.5, 2, 3, 4, 6}
	for x := float32(-7); x <= 7; x += 1.0 / 64 {
		want := nearestOf(values, math.Abs(float64(x)))
		if got := math.Abs(float64(roundE2M1(x))); got != want {
			t.Errorf("roundE2M1(%v) = %v, want %v", x, got, want)
		}
		if r := roundE2M1(x); r != 0 && (r < 0) != (x < 0) {
			t.Errorf("roundE2M1(%v) = %v: sign lost", x, r)
		}
	}
}

func TestRoundTripsAreIdempotent(t *testing.T) {
	rng := newRand(3, 4)
	for _, f := range []struct {
		name  string
		round func([]float32)
	}{{"fp8", Scalar.RoundFP8}, {"fp4", Scalar.RoundFP4}, {"f16", Scalar.RoundF16}} {
		for range 50 {
			v := make([]float32, 128)
			scale := math.Exp(rng.Float64()*16 - 8)
			for i := range v {
				v[i] = float32(rng.NormFloat64() * scale)
			}
			f.round(v)
			again := slices.Clone(v)
			f.round(again)
			if !slices.Equal(v, again) {
				t.Fatalf("%s: rounding a rounded row changes it", f.name)
			}
		}
	}
}

func TestPow2Ceil(t *testing.T) {
	for _, c := range []struct{ x, want float32 }{{1, 1}, {1.5, 2}, {2, 2}, {0.3, 0.5}, {0x1p-126, 0x1p-126}, {448.5, 512}} {
		if got := pow2Ceil(c.x); got != c.want {
			t.Errorf("pow2Ceil(%v) = %v, want %v", c.x, got, c.want)
		}
	}
}

func TestHadamardIsOrthonormal(t *testing.T) {
	rng := newRand(5, 6)
	v := make([]float32, 128)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	w := slices.Clone(v)
	transform(w)
	if a, b := squares(v), squares(w); math.Abs(a-b) > 1e-3*a {
		t.Errorf("norm changes from %v to %v", a, b)
	}
	transform(w) // its own inverse
	for i := range v {
		if math.Abs(float64(v[i]-w[i])) > 1e-5 {
			t.Fatalf("value %d: %v after two transforms, want %v", i, w[i], v[i])
		}
	}
}

func squares(v []float32) (s float64) {
	for _, x := range v {
		s += float64(x) * float64(x)
	}
	return s
}

// TestRoundings compares the sets with plain Go, on values of all sizes, on ties
// and on zeros.
func TestRoundings(t *testing.T) {
	rng := newRand(31, 32)
	v := normals(rng, 64*128)
	for i := range v {
		switch i / 128 % 4 {
		case 1:
			v[i] *= float32(math.Exp(rng.Float64()*40 - 30))
		case 2:
			v[i] = float32(rng.IntN(64)-32) / 8
		case 3:
			v[i] *= float32(math.Exp(rng.Float64()*12 - 6))
		}
		if i%97 == 0 {
			v[i] = float32(math.Copysign(0, float64(v[i])))
		}
	}
	eachSet(t, func(t *testing.T, s *Set) {
		for _, f := range []struct {
			name  string
			round func(s *Set, v []float32)
		}{
			{"fp8", (*Set).RoundFP8}, {"fp4", (*Set).RoundFP4}, {"f16", (*Set).RoundF16},
			{"narrow f16", func(s *Set, v []float32) {
				h := make([]uint16, len(v))
				s.NarrowF16(h, v)
				for i := range v {
					v[i] = quant.F16ToF32(h[i])
				}
			}},
			{"hadamard", func(s *Set, v []float32) {
				for w := range slices.Chunk(v, 128) {
					s.Hadamard(w)
				}
			}},
		} {
			want, got := slices.Clone(v), slices.Clone(v)
			f.round(&Scalar, want)
			f.round(s, got)
			sameBits(t, f.name, got, want)
		}
	})
}
