package cpu

import (
	"math"
	"unsafe"

	"ds4/metal"
	"ds4/metal/cpu/kernels"
)

// headTile is how many heads attention and the indexer treat together.
const headTile = kernels.Heads

var _ = [1]struct{}{}[headTile-metal.AttentionHeads]

// headsOf is the tile of heads from h on: part of q, or a copy with zeros for
// those that are missing.
func headsOf(q []float32, h, heads, width int, spare []float32) []float32 {
	if h+headTile <= heads {
		return q[h*width : (h+headTile)*width]
	}
	clear(spare[:headTile*width])
	copy(spare, q[h*width:heads*width])
	return spare[:headTile*width]
}

// attendRows lists the rows that one query sees: raw ones by position, then
// compressed ones.
type attendRows struct {
	raw, comp   []float32
	width       int
	first, nraw int // first raw position, number of raw rows
	ringCap     int
	ncomp       int
	selected    []int32 // nil: all
}

// pointers lists the rows, and the last one again if their number is odd.
func (r *attendRows) pointers(g *Group) (list []unsafe.Pointer, n int) {
	n = r.nraw + r.ncomp
	list = g.pointers(n + n%2)
	slot := r.first % r.ringCap
	for j := range r.nraw {
		list[j] = unsafe.Pointer(&row(r.raw, slot, r.width)[0])
		if slot++; slot == r.ringCap {
			slot = 0
		}
	}
	for j := range r.ncomp {
		i := j
		if r.selected != nil {
			i = int(r.selected[j])
		}
		list[r.nraw+j] = unsafe.Pointer(&row(r.comp, i, r.width)[0])
	}
	if n%2 != 0 {
		list[n] = list[n-1]
	}
	return list, n
}

// attention: q, raw ring, compressed rows, selected, sinks, table -> out.
func attention(g *Group) {
	a := argsOf[metal.AttentionArgs](g)
	heads, width := int(a.Heads), int(a.Width)
	t, pos := int(a.Row)+g.X, int(a.Pos)+g.X
	rows := attendRows{
		raw: g.f32(1), comp: g.f32(2), width: width, ringCap: int(a.Cap),
		first: max(0, pos-int(a.Window)+1),
	}
	rows.nraw = pos + 1 - rows.first
	if a.Ratio != 0 {
		rows.ncomp = (pos + 1) / int(a.Ratio)
		if k := int(a.TopK); k != 0 && rows.ncomp > k {
			rows.ncomp, rows.selected = k, row(g.i32(3), t, k)
		}
	}
	list, n := rows.pointers(g)
	q, out := row(g.f32(0), t, heads*width), row(g.f32(6), t, heads*width)
	table := tableRow(g.f32(5), t, a.Table, a.Rot)
	mem := g.scratch(len(list)*headTile + 2*headTile*width)
	scores, mem := mem[:len(list)*headTile], mem[len(list)*headTile:]
	spareQ, spareOut := mem[:headTile*width], mem[headTile*width:]
	scale := float32(1 / math.Sqrt(float64(width)))
	sinks, inv := &g.worker.heads[0], &g.worker.heads[1]
	set := g.worker.set
	h := g.Y * headTile
	used := min(headTile, heads-h)
	*sinks = [headTile]float32{}
	copy(sinks[:used], g.f32(4)[h:])
	o := out[h*width : (h+used)*width]
	if used < headTile {
		o = spareOut
	}
	set.AttendScores(scores, headsOf(q, h, heads, width, spareQ), list, width, scale)
	set.AttendSoftmax(scores, sinks, inv, n)
	set.AttendSum(o, scores, list[:n], inv, width)
	if used < headTile {
		copy(out[h*width:], o[:used*width])
	}
	for i := range used {
		set.Rotate(row(out, h+i, width), table, true)
	}
}
