package cpu

import (
	"math"

	"ds4/metal"
	"ds4/metal/cpu/kernels"
)

// mul is a rounded product. The conversion keeps the compiler from fusing it
// with the addition that follows.
func mul(a, b float32) float32 { return float32(a * b) }

// Rotary embedding over interleaved pairs at the tail of a row. Angles are
// float64: a float32 angle is off by 0.06 rad at a million tokens.

// ropeRow fills cos and sin of every pair at position pos: [pairs][2].
func ropeRow(dst []float32, frequencies []float64, pos int) {
	for i, f := range frequencies {
		sin, cos := math.Sincos(float64(pos) * f)
		dst[2*i], dst[2*i+1] = float32(cos), float32(sin)
	}
}

// ropeTable: frequencies, positions -> table [T][2][pairs][2].
func ropeTable(g *Group) {
	rot := int(argsOf[metal.RopeTableArgs](g).Rot)
	f := view[float64](g, 0)
	pos := int(g.i32(1)[g.X])
	t := row(g.f32(2), g.X, 2*rot)
	ropeRow(t[:rot], f[:rot/2], pos)
	ropeRow(t[rot:], f[rot/2:rot], pos)
}

// tableRow is the part of a rope table for batch row t and rope kind.
func tableRow(table []float32, t int, kind, rot uint32) []float32 {
	n := int(rot)
	at := (2*t + int(kind)) * n
	return table[at : at+n]
}

// queryPrepare: table -> q in place, per head.
func queryPrepare(g *Group) {
	a := argsOf[metal.QueryArgs](g)
	width := int(a.Width)
	table := tableRow(g.f32(0), g.X, a.Table, a.Rot)
	q := row(g.f32(1), g.X, int(a.Heads)*width)
	set := g.worker.set
	for h := range int(a.Heads) {
		head := row(q, h, width)
		if a.Norm != 0 {
			set.Normalise(head, nil, a.Eps)
		}
		set.Rotate(head, table, false)
	}
}

// kvStore: kv, weight, table -> raw ring.
func kvStore(g *Group) {
	a := argsOf[metal.KVArgs](g)
	width := int(a.Width)
	t := int(a.Row) + g.X
	slot := (int(a.Pos) + g.X) % int(a.Cap)
	dst := row(g.f32(3), slot, width)
	copy(dst, row(g.f32(0), t, width))
	set := g.worker.set
	set.Normalise(dst, g.f32(1)[:width], a.Eps)
	set.Rotate(dst, tableRow(g.f32(2), t, a.Table, a.Rot), false)
	roundRow(set, dst, width-int(a.Rot), a.Flags)
}

// roundRow applies the simulated precision of a cached attention row.
func roundRow(set *kernels.Set, x []float32, nope int, flags uint32) {
	if flags&metal.FlagFP8 != 0 {
		set.RoundFP8(x[:nope])
	}
	if flags&metal.FlagF16 != 0 {
		set.RoundF16(x)
	}
}
