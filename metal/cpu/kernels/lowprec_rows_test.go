package kernels

import (
	"math"
	"testing"

	"ds4/metal/quant/kvrow"
)

// TestRoundedRowsPack: whatever the simulated precision makes of a row, of any
// magnitude, packs and comes back bit for bit.
func TestRoundedRowsPack(t *testing.T) {
	for _, s := range Available() {
		t.Run(s.Name, func(t *testing.T) { testRoundedRowsPack(t, s) })
	}
}

func testRoundedRowsPack(t *testing.T, set *Set) {
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
			func(v []float32) { set.RoundFP8(v[:nope]); set.RoundF16(v) }, -45, 14},
		{"FP8", codec(kvrow.Part{Form: kvrow.E4M3, Values: nope}, kvrow.Part{Form: kvrow.F32, Values: rot}),
			func(v []float32) { set.RoundFP8(v[:nope]) }, -140, 120},
		{"FP4", codec(kvrow.Part{Form: kvrow.E2M1, Values: nope + rot}),
			set.RoundFP4, -149, 120},
	} {
		rng := newRand(1, 2)
		packed, row, back := make([]byte, c.codec.Bytes()), make([]float32, nope+rot), make([]float32, nope+rot)
		for range 5_000 {
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
