package cpu

import (
	"fmt"
	"math"

	"ds4/metal"
)

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

// groupOffsets is the binding of groupByExpert that experts look their work up in.
const groupOffsets = 2

// groupByExpert: ids -> order (slots by expert, ascending), offsets.
func groupByExpert(g *Group) {
	a := argsOf[metal.RouteArgs](g)
	slots := int(a.Tokens * a.Used)
	ids, order, offsets := g.i32(0)[:slots], g.i32(1)[:slots], g.i32(groupOffsets)[:a.Experts+1]
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

// expertList is the expert that the group computes, and its part of order.
func expertList(g *Group, a *metal.ExpertArgs, order, offsets int) (expert int, ids []int32) {
	o := g.i32(offsets)
	e := g.Y
	if a.Experts != 0 {
		slot := int32(g.Y)
		lo, hi := 0, int(a.Experts)-1 // the last expert that starts at slot or before
		for lo < hi {
			if mid := (lo + hi + 1) / 2; o[mid] <= slot {
				lo = mid
			} else {
				hi = mid - 1
			}
		}
		if e = lo; o[e] != slot {
			return e, nil
		}
	}
	return e, g.i32(order)[o[e]:o[e+1]]
}

// expertGateUp: gate, up, order, offsets, x -> hidden, work.
func expertGateUp(g *Group) { gateUp(g, false) }

// expertGateUpInt8: gate, up, order, offsets, int8 blocks -> hidden, work.
func expertGateUpInt8(g *Group) { gateUp(g, true) }

func gateUp(g *Group, int8 bool) {
	a := argsOf[metal.ExpertArgs](g)
	expert, ids := expertList(g, a, 2, 3)
	if len(ids) == 0 {
		return
	}
	rows, cols := int(a.Rows), int(a.Cols)
	lo, hi := panelRange(g.X, rows)
	in := newInput(g.bytes(4), cols, 0, cols, int8)
	in.ids, in.div = ids, int(a.Used)
	hidden := outRows{out: g.f32(5), stride: rows, ids: ids}
	work := outRows{out: g.f32(6), stride: rows, ids: ids}
	gate, up := newMatrix(g, 0, a.Type, rows, cols, int8, len(ids)), newMatrix(g, 1, a.TypeUp, rows, cols, int8, len(ids))
	gate.multiply(g, gate.panel(g, expert, g.X), lo, lo, hi, 0, len(ids), &in, &hidden)
	up.multiply(g, up.panel(g, expert, g.X), lo, lo, hi, 0, len(ids), &in, &work)
	for i := range ids {
		g.worker.set.SwiGLU(hidden.row(i)[lo:hi], work.row(i)[lo:hi], a.Clamp)
	}
}

// expertDown: down, order, offsets, hidden -> out.
func expertDown(g *Group) { down(g, false) }

// expertDownInt8: down, order, offsets, int8 blocks -> out.
func expertDownInt8(g *Group) { down(g, true) }

func down(g *Group, int8 bool) {
	a := argsOf[metal.ExpertArgs](g)
	expert, ids := expertList(g, a, 1, 2)
	if len(ids) == 0 {
		return
	}
	rows, cols := int(a.Rows), int(a.Cols)
	lo, hi := panelRange(g.X, rows)
	in := newInput(g.bytes(3), cols, 0, cols, int8)
	in.ids = ids
	out := outRows{out: g.f32(4), stride: rows, ids: ids}
	m := newMatrix(g, 0, a.Type, rows, cols, int8, len(ids))
	m.multiply(g, m.panel(g, expert, g.X), lo, lo, hi, 0, len(ids), &in, &out)
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
		g.worker.set.Axpy(y, row(routed, i, dim), w)
	}
}
