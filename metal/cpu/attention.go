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

// indexQuery: queries in place: Hadamard and FP4, per head.
func indexQuery(g *Group) {
	a := argsOf[metal.IndexArgs](g)
	width := int(a.Width)
	q := row(g.f32(0), g.X, int(a.Heads)*width)
	if a.Flags&metal.FlagFP4 == 0 {
		return
	}
	for h := range int(a.Heads) {
		g.worker.set.Hadamard(row(q, h, width))
		g.worker.set.RoundFP4(row(q, h, width))
	}
}

// indexSelect: queries, weights, rows -> selected: the TopK best compressed rows
// in ascending order. Queries that see no more than TopK rows select nothing:
// attention then takes them all.
func indexSelect(g *Group) {
	a := argsOf[metal.IndexArgs](g)
	first := g.X * metal.IndexTokens
	tokens := min(metal.IndexTokens, int(a.Tokens)-first)
	visible := func(i int) int { return (int(a.Pos) + first + i + 1) / int(a.Ratio) }
	k := int(a.TopK)
	for tokens > 0 && visible(0) <= k {
		first++
		tokens--
	}
	if tokens == 0 {
		return
	}
	const unit = 4 // rows that the kernels take at a time
	n := (visible(tokens-1) + unit - 1) / unit * unit
	scores := g.scratch(tokens*n + indexRows*headTile + headTile*int(a.Width))
	indexScores(g, a, int(a.Row)+first, tokens, visible(tokens-1), scores, n)
	for i := range tokens {
		dst := row(g.i32(3), int(a.Row)+first+i, k)
		g.worker.set.Top(dst, scores[i*n:][:visible(i)], &g.worker.top)
	}
}

// indexRows is how many rows meet all tokens of a group while they are in cache.
const indexRows = 128

// indexScores writes the scores of tokens [t, t+tokens) to scores, n values each,
// which is followed by spare memory. Rows beyond the last get its scores.
func indexScores(g *Group, a *metal.IndexArgs, t, tokens, rows int, scores []float32, n int) {
	heads, width := int(a.Heads), int(a.Width)
	parts := scores[tokens*n:]
	spare := parts[indexRows*headTile:]
	clear(scores[:tokens*n])
	comp := g.f32(2)
	list := g.pointers(n)
	for s := range list {
		list[s] = unsafe.Pointer(&row(comp, min(s, rows-1), width)[0])
	}
	// Tokens with few heads share a tile.
	together := 1
	if headTile%heads == 0 {
		together = headTile / heads
	}
	weights := &g.worker.heads[0]
	for from := 0; from < n; from += indexRows {
		to := min(from+indexRows, n)
		for i := 0; i < tokens; i += together {
			m := min(together, tokens-i)
			q := g.f32(0)[(t+i)*heads*width:][:m*heads*width]
			for h := 0; h < m*heads; h += headTile {
				g.worker.set.AttendScores(parts, headsOf(q, h, m*heads, width, spare), list[from:to], width, 1)
				for j := range m {
					indexWeights(weights, g.f32(1)[(t+i+j)*heads:][:heads], h-j*heads, a)
					g.worker.set.IndexSum(scores[(i+j)*n:][from:to], parts, weights)
				}
			}
		}
	}
}

// indexWeights gives the heads of a tile, the first of which is head h of w, their
// weights. Heads that are not in w have none.
func indexWeights(dst *[headTile]float32, w []float32, h int, a *metal.IndexArgs) {
	scale := float32(1 / math.Sqrt(float64(a.Width*a.Heads)))
	for i := range dst {
		dst[i] = 0
		if h+i >= 0 && h+i < len(w) {
			dst[i] = mul(w[h+i], scale)
		}
	}
}

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
