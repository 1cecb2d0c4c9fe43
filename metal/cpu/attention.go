package cpu

import (
	"math"

	"ds4/metal"
)

// headTile is how many heads attention and the indexer treat together. One row
// is key and value of all heads, so it is loaded once per tile.
const headTile = 4

// indexQuery: queries in place: Hadamard and FP4, per head.
func indexQuery(g *Group) {
	a := argsOf[metal.IndexArgs](g)
	width := int(a.Width)
	q := row(g.f32(0), g.X, int(a.Heads)*width)
	if a.Flags&metal.FlagFP4 == 0 {
		return
	}
	for h := range int(a.Heads) {
		hadamard(row(q, h, width))
		fp4RoundTrip(row(q, h, width))
	}
}

// indexSelect: queries, weights, rows -> selected: the TopK best compressed rows
// in ascending order. Queries that see no more than TopK rows select nothing:
// attention then takes them all.
func indexSelect(g *Group) {
	a := argsOf[metal.IndexArgs](g)
	visible := (int(a.Pos) + g.X + 1) / int(a.Ratio)
	k := int(a.TopK)
	if visible <= k {
		return
	}
	heads, width := int(a.Heads), int(a.Width)
	t := int(a.Row) + g.X
	q, w := row(g.f32(0), t, heads*width), row(g.f32(1), t, heads)
	rows := g.f32(2)
	scale := float32(1 / math.Sqrt(float64(width*heads)))
	mem := g.scratch(visible + headTile*width)
	scores, zero := mem[:visible], mem[visible:]
	clear(scores)
	clear(zero)
	for h := 0; h < heads; h += headTile {
		var q4 [headTile][]float32
		var w4 [headTile]float32
		for i := range q4 {
			q4[i] = zero[:width]
			if h+i < heads {
				q4[i], w4[i] = row(q, h+i, width), mul(w[h+i], scale)
			}
		}
		for s := range scores {
			a0, a1, a2, a3 := dot4(q4[0], q4[1], q4[2], q4[3], row(rows, s, width))
			scores[s] += mul(w4[0], max(a0, 0)) + mul(w4[1], max(a1, 0)) + mul(w4[2], max(a2, 0)) + mul(w4[3], max(a3, 0))
		}
	}
	selectTop(row(g.i32(3), t, k), scores)
}

// selectTop writes the indices of the largest scores, ascending; of equal scores
// the lower index wins. A NaN counts as the smallest score.
func selectTop(dst []int32, scores []float32) {
	// dst is a heap with the worst kept entry on top.
	worse := func(i, j int32) bool {
		a, b := scores[i], scores[j]
		if a != a {
			return b == b || i > j
		}
		return a < b || a == b && i > j
	}
	sift := func(at int) {
		for {
			c := 2*at + 1
			if c >= len(dst) {
				return
			}
			if c+1 < len(dst) && worse(dst[c+1], dst[c]) {
				c++
			}
			if !worse(dst[c], dst[at]) {
				return
			}
			dst[at], dst[c] = dst[c], dst[at]
			at = c
		}
	}
	for i := range dst {
		dst[i] = int32(i)
	}
	for i := len(dst)/2 - 1; i >= 0; i-- {
		sift(i)
	}
	for i := len(dst); i < len(scores); i++ {
		if worse(dst[0], int32(i)) {
			dst[0] = int32(i)
			sift(0)
		}
	}
	sortInt32(dst)
}

// dot4 multiplies four rows with one vector.
func dot4(w0, w1, w2, w3, x []float32) (a0, a1, a2, a3 float32) {
	n := len(w0)
	w1, w2, w3, x = w1[:n], w2[:n], w3[:n], x[:n]
	for i, u := range w0 {
		p := x[i]
		a0 += mul(u, p)
		a1 += mul(w1[i], p)
		a2 += mul(w2[i], p)
		a3 += mul(w3[i], p)
	}
	return
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

func (r *attendRows) len() int { return r.nraw + r.ncomp }

func (r *attendRows) row(j int) []float32 {
	if j < r.nraw {
		return row(r.raw, (r.first+j)%r.ringCap, r.width)
	}
	j -= r.nraw
	if r.selected != nil {
		j = int(r.selected[j])
	}
	return row(r.comp, j, r.width)
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
	q, out := row(g.f32(0), t, heads*width), row(g.f32(6), t, heads*width)
	sinks := g.f32(4)
	table := tableRow(g.f32(5), t, a.Table, a.Rot)
	n := rows.len()
	mem := g.scratch(headTile*n + 2*width)
	scores, zero, spare := mem[:headTile*n], mem[headTile*n:headTile*n+width], mem[headTile*n+width:]
	clear(zero)
	scale := float32(1 / math.Sqrt(float64(width)))
	for h := 0; h < heads; h += headTile {
		var q4, o4, s4 [headTile][]float32
		for i := range headTile {
			s4[i] = row(scores, i, n)
			q4[i], o4[i] = zero, spare
			if h+i < heads {
				q4[i], o4[i] = row(q, h+i, width), row(out, h+i, width)
			}
		}
		scoreRows(&s4, &q4, &rows, scale)
		for i := range headTile {
			if h+i < heads {
				softmaxSink(s4[i], sinks[h+i])
				clear(o4[i])
			}
		}
		clear(spare)
		sumRows(&o4, &s4, &rows)
		for i := range headTile {
			if h+i < heads {
				rotate(o4[i], table, true)
			}
		}
	}
}

// scoreRows writes the scaled products of four heads with every row.
func scoreRows(s, q *[headTile][]float32, rows *attendRows, scale float32) {
	for j := range rows.len() {
		a0, a1, a2, a3 := dot4(q[0], q[1], q[2], q[3], rows.row(j))
		s[0][j], s[1][j], s[2][j], s[3][j] = a0*scale, a1*scale, a2*scale, a3*scale
	}
}

// softmaxSink turns scores into weights; the sink takes its share of the sum and
// has no value.
func softmaxSink(s []float32, sink float32) {
	top := sink
	for _, v := range s {
		top = max(top, v)
	}
	den := float32(math.Exp(float64(sink - top)))
	for i, v := range s {
		p := float32(math.Exp(float64(v - top)))
		s[i] = p
		den += p
	}
	inv := 1 / den
	for i := range s {
		s[i] *= inv
	}
}

// sumRows adds the weighted rows to four outputs, two rows at a time, each
// output in the order of the rows.
func sumRows(o, s *[headTile][]float32, rows *attendRows) {
	j, n := 0, rows.len()
	for ; j+2 <= n; j += 2 {
		axpy4x2(o, rows.row(j), rows.row(j+1),
			s[0][j], s[1][j], s[2][j], s[3][j], s[0][j+1], s[1][j+1], s[2][j+1], s[3][j+1])
	}
	if j < n {
		x := rows.row(j)
		for i := range o {
			p, dst := s[i][j], o[i][:len(x)]
			for d, v := range x {
				dst[d] += mul(p, v)
			}
		}
	}
}

func axpy4x2(o *[headTile][]float32, x, y []float32, p0, p1, p2, p3, q0, q1, q2, q3 float32) {
	n := len(x)
	y = y[:n]
	o0, o1, o2, o3 := o[0][:n], o[1][:n], o[2][:n], o[3][:n]
	for d, v := range x {
		w := y[d]
		o0[d] = o0[d] + mul(p0, v) + mul(q0, w)
		o1[d] = o1[d] + mul(p1, v) + mul(q1, w)
		o2[d] = o2[d] + mul(p2, v) + mul(q2, w)
		o3[d] = o3[d] + mul(p3, v) + mul(q3, w)
	}
}
