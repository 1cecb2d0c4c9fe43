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

// attendRows says which rows one query sees: raw ones by position, then
// compressed ones.
type attendRows struct {
	raw         []float32
	comp        []byte
	form        kernels.Rows // of comp
	width       int
	first, nraw int // first raw position, number of raw rows
	ringCap     int
	ncomp       int
	selected    []int32 // nil: all
}

// even is n, or the next number: scores are made two rows at a time.
func even(n int) int { return n + n%2 }

// pointers lists raw and compressed rows. Of either the last one is there again
// behind the list if their number is odd.
func (r *attendRows) pointers(g *Group) (raw, comp []unsafe.Pointer) {
	list := g.pointers(even(r.nraw) + even(r.ncomp))
	raw, comp = list[:even(r.nraw)], list[even(r.nraw):]
	slot := r.first % r.ringCap
	for j := range r.nraw {
		raw[j] = unsafe.Pointer(&row(r.raw, slot, r.width)[0])
		if slot++; slot == r.ringCap {
			slot = 0
		}
	}
	size := r.form.Bytes(r.width)
	for j := range r.ncomp {
		i := j
		if r.selected != nil {
			i = int(r.selected[j])
		}
		comp[j] = unsafe.Pointer(&row(r.comp, i, size)[0])
	}
	repeatLast(raw, r.nraw)
	repeatLast(comp, r.ncomp)
	return raw, comp
}

func repeatLast(list []unsafe.Pointer, n int) {
	if n < len(list) {
		list[n] = list[n-1]
	}
}

// rowForm is the form of compressed rows.
func rowForm(flags uint32) kernels.Rows {
	if flags&metal.FlagF16 != 0 {
		return kernels.RowsF16
	}
	return kernels.RowsF32
}

// ones divide nothing.
var ones = [headTile]float32{1, 1, 1, 1, 1, 1, 1, 1}

// attention: q, raw ring, compressed rows, selected, sinks, table -> out.
func attention(g *Group) {
	a := argsOf[metal.AttentionArgs](g)
	heads, width := int(a.Heads), int(a.Width)
	t, pos := int(a.Row)+g.X, int(a.Pos)+g.X
	rows := attendRows{
		raw: g.f32(1), comp: g.bytes(2), form: rowForm(a.Flags), width: width, ringCap: int(a.Cap),
		first: max(0, pos-int(a.Window)+1),
	}
	rows.nraw = pos + 1 - rows.first
	if a.Ratio != 0 {
		rows.ncomp = (pos + 1) / int(a.Ratio)
		if k := int(a.TopK); k != 0 && rows.ncomp > k {
			rows.ncomp, rows.selected = k, row(g.i32(3), t, k)
		}
	}
	raw, comp := rows.pointers(g)
	n := rows.nraw + rows.ncomp
	q, out := row(g.f32(0), t, heads*width), row(g.f32(6), t, heads*width)
	table := tableRow(g.f32(5), t, a.Table, a.Rot)
	mem := g.scratch((n+2)*headTile + 2*headTile*width)
	scores, mem := mem[:(n+2)*headTile], mem[(n+2)*headTile:]
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
	tile := headsOf(q, h, heads, width, spareQ)
	compScores := scores[rows.nraw*headTile:]
	set.AttendScores(scores, tile, kernels.RowsF32, raw, width, scale)
	set.AttendScores(compScores, tile, rows.form, comp, width, scale)
	set.AttendSoftmax(scores, sinks, inv, n)
	clear(o)
	first := inv
	if rows.ncomp > 0 {
		first = &ones
	}
	set.AttendSum(o, scores, kernels.RowsF32, raw[:rows.nraw], first, width)
	set.AttendSum(o, compScores, rows.form, comp[:rows.ncomp], inv, width)
	if used < headTile {
		copy(out[h*width:], o[:used*width])
	}
	for i := range used {
		set.Rotate(row(out, h+i, width), table, true)
	}
}
