package cpu

import (
	"ds4/metal"
	"ds4/metal/cpu/kernels"
)

// The compressor pools windows of Ratio tokens into one row, each channel with a
// softmax of its own over the window's gates. With ratio 4 windows overlap: a
// token gives one half (lane A) to the next window and the other (lane B) to its
// own. Tokens of an open window wait in the frontier.

// compressSource finds the kv and gate values of a token, new or waiting.
type compressSource struct {
	a        *metal.CompressArgs
	wide     int // values per token: lanes*Width
	kv, gate []float32
	ape      []float32
	frontier []float32
}

func newCompressSource(g *Group, a *metal.CompressArgs) compressSource {
	wide := int(a.Width)
	if a.Ratio == 4 {
		wide *= 2
	}
	return compressSource{a: a, wide: wide, kv: g.f32(0), gate: g.f32(1), ape: g.f32(2), frontier: g.f32(3)}
}

// slot is where the frontier keeps token t, seen from position pos.
func (s *compressSource) slot(t, pos int) int {
	r := int(s.a.Ratio)
	base := pos / r * r
	if r != 4 {
		return t - base
	}
	return t - base + r // the previous window comes first
}

// values returns kv and gate (the slot's bias included) of token t. The gate is
// written to buf if it must be computed.
func (s *compressSource) values(t int, buf []float32) (kv, gate []float32) {
	pos := int(s.a.Pos)
	if t < pos {
		at := s.slot(t, pos) * 2 * s.wide
		f := s.frontier[at : at+2*s.wide]
		return f[:s.wide], f[s.wide:]
	}
	i := int(s.a.Row) + t - pos
	raw, ape := row(s.gate, i, s.wide), row(s.ape, t%int(s.a.Ratio), s.wide)
	for j, v := range raw {
		buf[j] = v + ape[j]
	}
	return row(s.kv, i, s.wide), buf
}

// compressRows: kv, gate, ape, frontier, norm, frequencies -> rows, or panels.
func compressRows(g *Group) {
	a := argsOf[metal.CompressArgs](g)
	s := newCompressSource(g, a)
	r, width := int(a.Ratio), int(a.Width)
	window := int(a.Pos)/r + g.X
	entries := r
	if r == 4 {
		entries = 2 * r
	}
	mem := g.scratch(2*entries*width + s.wide + int(a.Rot) + width)
	kvs, gates := mem[:entries*width], mem[entries*width:2*entries*width]
	mem = mem[2*entries*width:]
	buf, table, z := mem[:s.wide], mem[s.wide:][:a.Rot], mem[s.wide+int(a.Rot):]

	n := 0
	take := func(t, lane int) {
		kv, gate := s.values(t, buf)
		copy(row(kvs, n, width), kv[lane*width:])
		copy(row(gates, n, width), gate[lane*width:])
		n++
	}
	if r == 4 {
		if window > 0 {
			for t := (window - 1) * r; t < window*r; t++ {
				take(t, 0)
			}
		}
		for t := window * r; t < (window+1)*r; t++ {
			take(t, 1)
		}
	} else {
		for t := window * r; t < (window+1)*r; t++ {
			take(t, 0)
		}
	}
	set := g.worker.set
	set.Pool(z, kvs, gates, n)
	set.Normalise(z, g.f32(4)[:width], a.Eps)
	f := view[float64](g, 5)
	ropeRow(table, f[a.Rot/2:a.Rot], window*r)
	set.Rotate(z, table, false)
	putCompressed(g, window, z, a)
}

// putCompressed rounds a new row and stores it.
func putCompressed(g *Group, i int, z []float32, a *metal.CompressArgs) {
	set := g.worker.set
	roundRow(set, z, len(z)-int(a.Rot), a.Flags&^metal.FlagF16)
	switch {
	case a.Flags&metal.FlagFP4 != 0:
		set.Hadamard(z)
		set.RoundFP4(z)
		panel := row(g.bytes(6), i/metal.IndexPanel, metal.IndexPanelBytes(len(z)))
		blocks := g.panel(len(z) / kernels.Block * kernels.ActBytes)
		set.QuantizeExact(blocks, z)
		kernels.PackI8Row(panel, blocks, i%metal.IndexPanel)
	case a.Flags&metal.FlagF16 != 0:
		set.NarrowF16(row(view[uint16](g, 6), i, len(z)), z)
	default:
		copy(row(g.f32(6), i, len(z)), z)
	}
}

// compressFrontier: kv, gate, ape, frontier in -> frontier out. Only slots that
// the new length needs and the committed length does not are written, so the
// step can be repeated; the caller binds another bank when a window closes.
func compressFrontier(g *Group) {
	a := argsOf[metal.CompressArgs](g)
	s := newCompressSource(g, a)
	out := g.f32(4)
	r, pos := int(a.Ratio), int(a.Pos)
	end := pos + int(a.Tokens)
	base := end / r * r
	put := func(t int) {
		at := s.slot(t, end) * 2 * s.wide
		dst := out[at : at+2*s.wide]
		kv, gate := s.values(t, dst[s.wide:])
		copy(dst[:s.wide], kv)
		copy(dst[s.wide:], gate)
	}
	if r == 4 && base > pos/r*r {
		for t := base - r; t < base; t++ {
			put(t)
		}
	}
	for t := max(base, pos); t < end; t++ {
		put(t)
	}
}
