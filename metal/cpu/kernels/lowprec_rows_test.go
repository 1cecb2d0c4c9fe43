package kernels

import (
	"math"
	"math/rand/v2"
	"testing"

	"ds4/metal/quant/kvrow"
)

// TestRoundedRowsPack: whatever the simulated precision makes of a row, of any
// magnitude, packs and comes back bit for bit.
func TestRoundedRowsPack(t *testing.T) { eachSet(t, roundedRowsPack) }

func roundedRowsPack(t *testing.T, s *Set) {
	codec := func(parts ...kvrow.Part) *kvrow.Codec {
		c, err := kvrow.New(parts...)
		if err != nil {
			t.Fatal(err)
		}
		return &c
	}
	const nope, rot = 2 * fp8Block, 64
	for _, c := range []struct {
		name     string
		codec    *kvrow.Codec
		round    func([]float32)
		min, max int // binary exponents of the magnitudes tried
	}{
		{"FP8 and F16", codec(kvrow.Part{Form: kvrow.E4M3, Values: nope}, kvrow.Part{Form: kvrow.F16, Values: rot}),
			func(v []float32) { s.RoundFP8(v[:nope]); s.RoundF16(v) }, -45, 14},
		{"FP8", codec(kvrow.Part{Form: kvrow.E4M3, Values: nope}, kvrow.Part{Form: kvrow.F32, Values: rot}),
			func(v []float32) { s.RoundFP8(v[:nope]) }, -140, 120},
		{"FP4", codec(kvrow.Part{Form: kvrow.E2M1, Values: nope + rot}),
			s.RoundFP4, -149, 120},
	} {
		rng := rand.New(rand.NewPCG(1, 2))
		packed, row, back := make([]byte, c.codec.Bytes()), make([]float32, nope+rot), make([]float32, nope+rot)
		for range 20_000 {
			top, spread := c.min+rng.IntN(c.max-c.min), rng.IntN(40)
			for i := range row {
				row[i] = float32(math.Ldexp(rng.NormFloat64(), top-rng.IntN(spread+1)))
			}
			c.round(row)
			if err := c.codec.Pack(packed, row); err != nil {
				t.Fatalf("%s, magnitude 2^%d: %v", c.name, top, err)
			}
			if err := c.codec.Unpack(back, packed); err != nil {
				t.Fatalf("%s, magnitude 2^%d: %v", c.name, top, err)
			}
			for i, v := range row {
				if math.Float32bits(v) != math.Float32bits(back[i]) {
					t.Fatalf("%s, magnitude 2^%d, value %d: %v comes back as %v", c.name, top, i, v, back[i])
				}
			}
		}
	}
}
