package cpu

import (
	"fmt"
	"math"

	"ds4/metal"
	"ds4/metal/quant"
)

// sumSquares adds in float64, so that long rows lose nothing.
func sumSquares(x []float32) float64 {
	var a, b float64
	i := 0
	for ; i+2 <= len(x); i += 2 {
		p, q := float64(x[i]), float64(x[i+1])
		a += float64(p * p)
		b += float64(q * q)
	}
	if i < len(x) {
		p := float64(x[i])
		a += float64(p * p)
	}
	return a + b
}

// inverseRMS is 1/sqrt(mean(x^2) + eps).
func inverseRMS(x []float32, eps float32) float32 {
	return float32(1 / math.Sqrt(sumSquares(x)/float64(len(x))+float64(eps)))
}

// rmsNormRow normalises x in place; weight may be nil.
func rmsNormRow(x, weight []float32, eps float32) {
	s := inverseRMS(x, eps)
	if weight == nil {
		for i, v := range x {
			x[i] = mul(v, s)
		}
		return
	}
	weight = weight[:len(x)]
	for i, v := range x {
		x[i] = mul(mul(v, s), weight[i])
	}
}

// rmsNorm: weight -> x in place.
func rmsNorm(g *Group) {
	a := argsOf[metal.NormArgs](g)
	n := int(a.N)
	rmsNormRow(row(g.f32(1), g.X, n), g.f32(0)[:n], a.Eps)
}

// embedTokens: weights, tokens -> streams, the same row in each.
func embedTokens(g *Group) {
	a := argsOf[metal.EmbedArgs](g)
	dim, hc := int(a.Dim), int(a.HC)
	token := g.i32(1)[g.X]
	if token < 0 || token >= int32(a.Vocab) {
		panic(fmt.Sprintf("token %d outside the vocabulary of %d", token, a.Vocab))
	}
	s := row(g.f32(2), g.X, hc*dim)
	w := newMatrix(g, 0, a.Type, int(a.Vocab), dim, true)
	if err := quant.DecodeRow(w.typ, s[:dim], w.data[int(token)*w.rowBytes:][:w.rowBytes]); err != nil {
		panic(fmt.Sprintf("embedding of token %d: %v", token, err))
	}
	for h := 1; h < hc; h++ {
		copy(s[h*dim:(h+1)*dim], s[:dim])
	}
}

// gatherRows: in, rows -> out.
func gatherRows(g *Group) {
	n := int(argsOf[metal.GatherArgs](g).N)
	copy(row(g.f32(2), g.X, n), row(g.f32(0), int(g.i32(1)[g.X]), n))
}

func sigmoid(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }

// silu is x*sigmoid(x).
func silu(x float32) float32 { return float32(float64(x) / (1 + math.Exp(-float64(x)))) }
