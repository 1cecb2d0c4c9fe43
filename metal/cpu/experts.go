package cpu

import (
	"fmt"
	"math"
	"slices"

	"ds4/metal"
)

func sortInt32(s []int32) { slices.Sort(s) }

// routeFloor keeps the routing weights finite when all scores vanish.
const routeFloor = 0x1p-14

// route: logits, bias, tokens, hash routes -> ids, weights.
func route(g *Group) {
	a := argsOf[metal.RouteArgs](g)
	n, used := int(a.Experts), int(a.Used)
	logits := row(g.f32(0), g.X, n)
	ids, weights := row(g.i32(4), g.X, used), row(g.f32(5), g.X, used)
	mem := g.scratch(2 * n)
	scores, keys := mem[:n], mem[n:]
	for e, z := range logits {
		scores[e] = float32(math.Sqrt(softplus(float64(z))))
	}
	switch {
	case a.Hash != 0:
		copy(ids, row(g.i32(3), int(g.i32(2)[g.X]), used))
	default:
		copy(keys, scores)
		if a.HasBias != 0 {
			for e, b := range g.f32(1)[:n] {
				keys[e] += b
			}
		}
		pickExperts(ids, keys)
	}
	var sum float32
	for i, e := range ids {
		weights[i] = scores[e]
		sum += scores[e]
	}
	sum = max(sum, routeFloor)
	for i := range weights {
		weights[i] = mul(weights[i]/sum, a.Scale)
	}
}

// pickExperts takes the largest keys, best first; of equal keys the lower id.
// It destroys keys.
func pickExperts(ids []int32, keys []float32) {
	for i := range ids {
		best := -1
		for e, k := range keys {
			if k == k && (best < 0 || k > keys[best]) {
				best = e
			}
		}
		if best < 0 {
			panic("router logits are not numbers")
		}
		ids[i] = int32(best)
		keys[best] = float32(math.NaN()) // taken
	}
}

func softplus(z float64) float64 {
	if z > 20 {
		return z
	}
	return math.Log1p(math.Exp(z))
}

// groupByExpert: ids -> order (slots by expert, ascending), offsets.
func groupByExpert(g *Group) {
	a := argsOf[metal.RouteArgs](g)
	slots := int(a.Tokens * a.Used)
	ids, order, offsets := g.i32(0)[:slots], g.i32(1)[:slots], g.i32(2)[:a.Experts+1]
	clear(offsets)
	for _, e := range ids {
		if e < 0 || e >= int32(a.Experts) {
			panic(fmt.Sprintf("expert %d of %d", e, a.Experts))
		}
		offsets[e+1]++
	}
	for e := range a.Experts {
		offsets[e+1] += offsets[e]
	}
	for slot, e := range ids {
		order[offsets[e]] = int32(slot)
		offsets[e]++
	}
	copy(offsets[1:], offsets[:a.Experts]) // each start has moved to the next expert's
	offsets[0] = 0
}

// expertList is the part of order that expert g.Y computes.
func expertList(g *Group, order, offsets int) []int32 {
	o := g.i32(offsets)
	return g.i32(order)[o[g.Y]:o[g.Y+1]]
}

// swiglu: hidden = silu(min(gate, c)) * clamp(up, -c, c).
func swiglu(hidden, up []float32, clamp float32) {
	up = up[:len(hidden)]
	for i, v := range hidden {
		hidden[i] = mul(silu(min(v, clamp)), min(max(up[i], -clamp), clamp))
	}
}

// expertGateUp: gate, up, order, offsets, x -> hidden, work.
func expertGateUp(g *Group) {
	a := argsOf[metal.ExpertArgs](g)
	ids := expertList(g, 2, 3)
	if len(ids) == 0 {
		return
	}
	rows, cols := int(a.Rows), int(a.Cols)
	lo, hi := panelRange(g.X, rows)
	in := floatRows{x: g.f32(4), stride: cols, cols: cols, ids: ids, div: int(a.Used)}
	scratch := g.scratch(panelRows * cols)
	gate := newWeights(a.Type, g.bytes(0), cols)
	up := newWeights(a.TypeUp, g.bytes(1), cols)
	gate.data = gate.data[g.Y*rows*gate.rowBytes:]
	up.data = up.data[g.Y*rows*up.rowBytes:]
	hidden := outRows{out: g.f32(5), stride: rows, ids: ids}
	work := outRows{out: g.f32(6), stride: rows, ids: ids}
	matmulPanel(&gate, lo, hi, hi, len(ids), &in, &hidden, scratch)
	matmulPanel(&up, lo, hi, hi, len(ids), &in, &work, scratch)
	for i := range ids {
		swiglu(hidden.row(i)[lo:hi], work.row(i)[lo:hi], a.Clamp)
	}
}

// expertGateUpInt8: gate, up, order, offsets, codes, scales -> hidden, work.
func expertGateUpInt8(g *Group) {
	a := argsOf[metal.ExpertArgs](g)
	ids := expertList(g, 2, 3)
	if len(ids) == 0 {
		return
	}
	rows, cols := int(a.Rows), int(a.Cols)
	lo, hi := panelRange(g.X, rows)
	in := int8Rows{
		codes: g.i8(4), scales: g.f32(5),
		stride: cols, cols: cols, ids: ids, div: int(a.Used),
	}
	p := newTile(g, cols)
	size := rows * (cols / block * q8Bytes)
	hidden := outRows{out: g.f32(6), stride: rows, ids: ids}
	work := outRows{out: g.f32(7), stride: rows, ids: ids}
	matmulInt8Panel(g.bytes(0)[g.Y*size:], lo, hi, len(ids), &in, &hidden, &p)
	matmulInt8Panel(g.bytes(1)[g.Y*size:], lo, hi, len(ids), &in, &work, &p)
	for i := range ids {
		swiglu(hidden.row(i)[lo:hi], work.row(i)[lo:hi], a.Clamp)
	}
}

// expertDown: down, order, offsets, hidden -> out.
func expertDown(g *Group) {
	a := argsOf[metal.ExpertArgs](g)
	ids := expertList(g, 1, 2)
	if len(ids) == 0 {
		return
	}
	rows, cols := int(a.Rows), int(a.Cols)
	lo, hi := panelRange(g.X, rows)
	in := floatRows{x: g.f32(3), stride: cols, cols: cols, ids: ids, div: 1}
	w := newWeights(a.Type, g.bytes(0), cols)
	w.data = w.data[g.Y*rows*w.rowBytes:]
	out := outRows{out: g.f32(4), stride: rows, ids: ids}
	matmulPanel(&w, lo, hi, hi, len(ids), &in, &out, g.scratch(panelRows*cols))
}

// expertDownInt8: down, order, offsets, codes, scales -> out.
func expertDownInt8(g *Group) {
	a := argsOf[metal.ExpertArgs](g)
	ids := expertList(g, 1, 2)
	if len(ids) == 0 {
		return
	}
	rows, cols := int(a.Rows), int(a.Cols)
	lo, hi := panelRange(g.X, rows)
	in := int8Rows{
		codes: g.i8(3), scales: g.f32(4),
		stride: cols, cols: cols, ids: ids, div: 1,
	}
	p := newTile(g, cols)
	size := rows * (cols / block * q8Bytes)
	out := outRows{out: g.f32(5), stride: rows, ids: ids}
	matmulInt8Panel(g.bytes(0)[g.Y*size:], lo, hi, len(ids), &in, &out, &p)
}

// expertCombine: routed, weights, shared -> y = shared + sum of weighted experts.
func expertCombine(g *Group) {
	a := argsOf[metal.CombineArgs](g)
	dim, used := int(a.Dim), int(a.Used)
	weights := row(g.f32(1), g.X, used)
	y := row(g.f32(3), g.X, dim)
	copy(y, row(g.f32(2), g.X, dim))
	routed := row(g.f32(0), g.X, used*dim)
	for i, w := range weights {
		for d, v := range row(routed, i, dim) {
			y[d] += mul(w, v)
		}
	}
}
