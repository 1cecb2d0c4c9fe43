package cpu

import (
	"math"
	"unsafe"

	"ds4/metal"
	"ds4/metal/cpu/kernels"
)

var _ = [1]struct{}{}[metal.IndexPanel-kernels.PanelRows]

// indexQuery: queries in place -> int8 blocks.
func indexQuery(g *Group) {
	a := argsOf[metal.IndexArgs](g)
	width := int(a.Width)
	n := int(a.Heads) * width
	q := row(g.f32(0), g.X, n)
	for h := range int(a.Heads) {
		g.worker.set.Hadamard(row(q, h, width))
		g.worker.set.RoundFP4(row(q, h, width))
	}
	g.worker.set.QuantizeExact(row(g.bytes(1), g.X, n/kernels.Block*kernels.ActBytes), q)
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
	rows := visible(tokens - 1)
	n := (rows + metal.IndexPanel - 1) / metal.IndexPanel * metal.IndexPanel
	var scores []float32
	if a.Flags&metal.FlagFP4 != 0 {
		pairs := tokens * int(a.Heads)
		scores = g.scratch(tokens*n + pairs*(metal.IndexPanel+1))
		indexScoresInt8(g, a, int(a.Row)+first, tokens, scores, n)
	} else {
		scores = g.scratch(tokens*n + indexRows*headTile + headTile*int(a.Width))
		indexScores(g, a, int(a.Row)+first, tokens, rows, scores, n)
	}
	for i := range tokens {
		dst := row(g.i32(3), int(a.Row)+first+i, k)
		g.worker.set.Top(dst, scores[i*n:][:visible(i)], &g.worker.top)
	}
}

// indexScoresInt8 writes the scores of tokens [t, t+tokens) to scores, n values
// each, which is followed by spare memory. What it writes for rows that do not
// exist has no meaning.
func indexScoresInt8(g *Group, a *metal.IndexArgs, t, tokens int, scores []float32, n int) {
	heads, width := int(a.Heads), int(a.Width)
	pairs := tokens * heads
	parts := scores[tokens*n:]
	weights := parts[pairs*metal.IndexPanel:][:pairs]
	for i := range tokens {
		scaleIndexWeights(weights[i*heads:][:heads], g.f32(1)[(t+i)*heads:], a)
	}
	clear(scores[:tokens*n])
	in := newInput(g.bytes(0), width, 0, width, true)
	tile := &g.worker.product.tile
	for p := range n / metal.IndexPanel {
		panel := row(g.bytes(2), p, metal.IndexPanelBytes(width))
		for j := 0; j < pairs; j += kernels.TileTokens {
			m := min(kernels.TileTokens, pairs-j)
			for i := range m {
				tile.In[i] = in.row(t*heads + j + i)
				tile.Out[i] = unsafe.Pointer(&parts[(j+i)*metal.IndexPanel])
			}
			g.worker.set.Product(kernels.PanelI8, panel, tile, m, width)
		}
		for i := range tokens {
			dst := scores[i*n+p*metal.IndexPanel:][:metal.IndexPanel]
			g.worker.set.IndexAdd(dst, parts[i*heads*metal.IndexPanel:], weights[i*heads:][:heads])
		}
	}
}

// scaleIndexWeights gives the heads of a token their weights.
func scaleIndexWeights(dst, w []float32, a *metal.IndexArgs) {
	scale := float32(1 / math.Sqrt(float64(a.Width*a.Heads)))
	for i := range dst {
		dst[i] = mul(w[i], scale)
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
				g.worker.set.AttendScores(parts, headsOf(q, h, m*heads, width, spare), kernels.RowsF32, list[from:to], width, 1)
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
