package cpu

import (
	"fmt"

	"ds4/metal"
	"ds4/metal/quant"
)

// rmsNorm: weight -> x in place.
func rmsNorm(g *Group) {
	a := argsOf[metal.NormArgs](g)
	n := int(a.N)
	g.worker.set.Normalise(row(g.f32(1), g.X, n), g.f32(0)[:n], a.Eps)
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
	w := newMatrix(g, 0, a.Type, int(a.Vocab), dim, true, 1)
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
