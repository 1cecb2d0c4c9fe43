package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// notFinite are the values that mean damage. All bits set is what memory that was
// overwritten often holds.
var notFinite = []float32{
	float32(math.NaN()), math.Float32frombits(math.MaxUint32), math.Float32frombits(0x7f800001),
	float32(math.Inf(1)), float32(math.Inf(-1)),
}

// extremes are values some of which are not finite, or at the ends of the range.
func extremes(rng *rand.Rand, n int) []float32 {
	list := append([]float32{
		math.MaxFloat32, -math.MaxFloat32, 1e20, 65520, 1e-40, -math.SmallestNonzeroFloat32, float32(math.Copysign(0, -1)),
	}, notFinite...)
	v := normals(rng, n)
	for i := range v {
		if rng.IntN(24) == 0 {
			v[i] = list[rng.IntN(len(list))]
		}
	}
	return v
}

// nanAlike makes all NaNs one: which one comes out is not promised.
func nanAlike(v []float32) []float32 {
	v = slices.Clone(v)
	for i, x := range v {
		if x != x {
			v[i] = float32(math.NaN())
		}
	}
	return v
}

// roundings make of blocks of values what is stored or multiplied instead.
var roundings = map[string]func(s *Set, v []float32){
	"fp8":      (*Set).RoundFP8,
	"fp4":      (*Set).RoundFP4,
	"f16":      (*Set).RoundF16,
	"hadamard": (*Set).Hadamard,
	"int8":     func(s *Set, v []float32) { int8Values(v, s.QuantizeRow) },
	"exact":    func(s *Set, v []float32) { int8Values(v, s.QuantizeExact) },
}

// int8Values replaces values by what int8 blocks say.
func int8Values(v []float32, quantize func(dst []byte, x []float32)) {
	blocks := make([]byte, len(v)/Block*ActBytes)
	quantize(blocks, v)
	for i := range v {
		b := blocks[i/Block*ActBytes:]
		v[i] = *(*float32)(unsafe.Pointer(&b[0])) * float32(int8(b[actCodes+i%Block]))
	}
}

// TestDamageShows: of a block with a value that is not finite nothing finite is
// left, in any set, so that no rounding hides damage.
func TestDamageShows(t *testing.T) {
	rng := newRand(71, 72)
	for name, round := range roundings {
		if name == "f16" { // one value at a time
			continue
		}
		width := map[string]int{"fp8": fp8Block, "hadamard": hadamardWide}[name]
		width = max(width, Block)
		for _, s := range Available() {
			for _, bad := range notFinite {
				for at := range width {
					v := normals(rng, width)
					v[at] = bad
					round(s, v)
					if i := slices.IndexFunc(v, func(x float32) bool { return x-x == 0 }); i >= 0 {
						t.Fatalf("%s, %s: %v at %d: value %d is %v", s.Name, name, bad, at, i, v[i])
					}
				}
			}
		}
	}
}

// TestExtremes compares the sets with plain Go where values are not finite, or so
// large or small that their products are not.
func TestExtremes(t *testing.T) {
	eachSet(t, func(t *testing.T, s *Set) {
		for seed := range uint64(50) {
			v := extremes(newRand(73, seed), hadamardWide)
			for name, round := range roundings {
				want, got := slices.Clone(v), slices.Clone(v)
				round(&Scalar, want)
				round(s, got)
				sameBits(t, fmt.Sprint(name, " ", seed), nanAlike(got), nanAlike(want))
			}
			c := newAttendCase(newRand(74, seed), 5, 32)
			copy(c.q, extremes(newRand(75, seed), len(c.q)))
			copy(c.kv, extremes(newRand(76, seed), len(c.kv)))
			copy(c.sinks[:], extremes(newRand(77, seed), Heads))
			scores, _, inv, out := c.run(s, RowsF32)
			wantScores, _, wantInv, wantOut := c.run(&Scalar, RowsF32)
			sameBits(t, "scores", nanAlike(scores), nanAlike(wantScores))
			sameBits(t, "inverse", nanAlike(inv), nanAlike(wantInv))
			sameBits(t, "output", nanAlike(out), nanAlike(wantOut))
			indexExtremes(t, s, seed)
		}
	})
}

// indexExtremes is TestExtremes for the kernels of the indexer and for the gates.
func indexExtremes(t *testing.T, s *Set, seed uint64) {
	sc, w, start := extremes(newRand(78, seed), Heads*PanelRows), extremes(newRand(79, seed), Heads), normals(newRand(80, seed), PanelRows)
	for name, f := range map[string]func(s *Set, dst []float32){
		"index sum": func(s *Set, dst []float32) { s.IndexSum(dst, sc, (*[Heads]float32)(w)) },
		"index add": func(s *Set, dst []float32) { s.IndexAdd(dst, sc, w) },
	} {
		want, got := slices.Clone(start), slices.Clone(start)
		f(&Scalar, want)
		f(s, got)
		sameBits(t, name, nanAlike(got), nanAlike(want))
	}
	mix, base := extremes(newRand(81, seed), 24), extremes(newRand(82, seed), 24)
	p := GateParams{Inverse: 0.7, Scale: [3]float32{1, 0.8, 1.9}, Eps: 1e-6}
	want, got := Gates{GateParams: p}, Gates{GateParams: p}
	Scalar.HyperGates(&want, (*[24]float32)(mix), (*[24]float32)(base), 5)
	s.HyperGates(&got, (*[24]float32)(mix), (*[24]float32)(base), 5)
	sameBits(t, "pre", nanAlike(got.Pre[:]), nanAlike(want.Pre[:]))
	sameBits(t, "post", nanAlike(got.Post[:]), nanAlike(want.Post[:]))
	sameBits(t, "comb", nanAlike(got.Comb[:]), nanAlike(want.Comb[:]))
}
