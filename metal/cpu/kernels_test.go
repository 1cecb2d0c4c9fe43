package cpu

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
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
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		check(float32(math.Exp(rng.Float64()*20-14)) * float32(1-2*rng.IntN(2)))
	}
}

func TestRoundFP4(t *testing.T) {
	values := []float64{0, .5, 1, 1.5, 2, 3, 4, 6}
	for x := float32(-7); x <= 7; x += 1.0 / 64 {
		want := nearestOf(values, math.Abs(float64(x)))
		if got := math.Abs(float64(roundFP4(x))); got != want {
			t.Errorf("roundFP4(%v) = %v, want %v", x, got, want)
		}
		if r := roundFP4(x); r != 0 && (r < 0) != (x < 0) {
			t.Errorf("roundFP4(%v) = %v: sign lost", x, r)
		}
	}
}

func TestRoundTripsAreIdempotent(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, f := range []struct {
		name  string
		round func([]float32)
	}{{"fp8", fp8RoundTrip}, {"fp4", fp4RoundTrip}, {"f16", f16Round}} {
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
	rng := rand.New(rand.NewPCG(5, 6))
	v := make([]float32, 128)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	w := slices.Clone(v)
	hadamard(w)
	if a, b := sumSquares(v), sumSquares(w); math.Abs(a-b) > 1e-3*a {
		t.Errorf("norm changes from %v to %v", a, b)
	}
	hadamard(w) // its own inverse
	for i := range v {
		if math.Abs(float64(v[i]-w[i])) > 1e-5 {
			t.Fatalf("value %d: %v after two transforms, want %v", i, w[i], v[i])
		}
	}
}

func TestSelectTop(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for range 300 {
		n := 2 + rng.IntN(60)
		k := 1 + rng.IntN(n)
		scores := make([]float32, n)
		for i := range scores {
			scores[i] = float32(rng.IntN(6)) // many ties
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
		selectTop(got, scores)
		if !slices.Equal(got, want) {
			t.Fatalf("top %d of %v: %v, want %v", k, scores, got, want)
		}
	}
}

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

func TestHyperApply4EqualsGeneral(t *testing.T) {
	rng := rand.New(rand.NewPCG(15, 16))
	fill := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		return v
	}
	const dim, hc = 24, 4
	s, y, post, comb := fill(hc*dim), fill(dim), fill(hc), fill(hc*hc)
	want := slices.Clone(s)
	for d := range dim {
		for b := range hc {
			sum := float32(post[b] * y[d])
			for a := range hc {
				sum += float32(comb[a*hc+b] * s[a*dim+d])
			}
			want[b*dim+d] = sum
		}
	}
	hyperApply4(s, y, post, comb)
	if !slices.Equal(s, want) {
		t.Error("four streams in registers give other values than the definition")
	}
}
