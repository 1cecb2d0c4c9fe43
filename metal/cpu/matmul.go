package cpu

import (
	"fmt"

	"ds4/metal"
	"ds4/metal/quant"
)

// Matrix products with float32 activations. Every output is one sum over the
// columns in ascending order, whatever the tile it is computed in: that is what
// makes results independent of the batch.

// panelRows is how many weight rows are decoded and multiplied at a time.
const panelRows = 4

// mul is a rounded product. The conversion keeps the compiler from fusing it
// with the addition that follows, which some architectures would do in one tile
// shape and not in another.
func mul(a, b float32) float32 { return float32(a * b) }

// dot4 multiplies four rows with one vector. Wider tiles are slower: the
// compiler spills their sums.
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

// weights is a row-addressable matrix in its file encoding.
type weights struct {
	typ      quant.Type
	data     []byte
	cols     int
	rowBytes int
}

func newWeights(typ uint32, data []byte, cols int) weights {
	t := quant.Type(typ)
	n, err := quant.RowBytes(t, cols)
	if err != nil {
		panic(err) // the loader admits only whole rows of known types
	}
	return weights{typ: t, data: data, cols: cols, rowBytes: n}
}

// decode writes rows [r, r+n) to dst, cols values each. Missing rows are zero.
func (w *weights) decode(dst []float32, r, n, rows int) {
	for i := range n {
		d := dst[i*w.cols : (i+1)*w.cols]
		if r+i >= rows {
			clear(d)
			continue
		}
		if err := quant.DecodeRow(w.typ, d, w.data[(r+i)*w.rowBytes:(r+i+1)*w.rowBytes]); err != nil {
			panic(fmt.Sprintf("decode row %d: %v", r+i, err))
		}
	}
}

// floatRows gives the input rows of a product: row i of the list is row ids[i]/div
// of x, or row i if there is no list.
type floatRows struct {
	x      []float32
	stride int
	offset int // first column
	cols   int
	ids    []int32
	div    int
}

func (f *floatRows) row(i int) []float32 {
	if f.ids != nil {
		i = int(f.ids[i]) / f.div
	}
	at := i*f.stride + f.offset
	return f.x[at : at+f.cols]
}

// outRows places the results: list entry i goes to row ids[i], or row i.
type outRows struct {
	out    []float32
	stride int
	ids    []int32
}

func (o *outRows) row(i int) []float32 {
	if o.ids != nil {
		i = int(o.ids[i])
	}
	return o.out[i*o.stride : (i+1)*o.stride]
}

// store writes up to four neighbouring results.
func store4(dst []float32, r, rows int, a, b, c, d float32) {
	if r+4 <= rows {
		dst = dst[r : r+4]
		dst[0], dst[1], dst[2], dst[3] = a, b, c, d
		return
	}
	for i, v := range [4]float32{a, b, c, d} {
		if r+i < rows {
			dst[r+i] = v
		}
	}
}

// matmulPanel computes rows [lo, hi) of w for n input rows.
func matmulPanel(w *weights, lo, hi, rows, n int, in *floatRows, out *outRows, scratch []float32) {
	k := w.cols
	for r := lo; r < hi; r += panelRows {
		w.decode(scratch, r, panelRows, rows)
		w0, w1, w2, w3 := scratch[:k], scratch[k:2*k], scratch[2*k:3*k], scratch[3*k:4*k]
		for t := range n {
			a0, a1, a2, a3 := dot4(w0, w1, w2, w3, in.row(t))
			store4(out.row(t), r, hi, a0, a1, a2, a3)
		}
	}
}

// panelRange is the part of a matrix that a threadgroup computes.
func panelRange(panel, rows int) (lo, hi int) {
	lo = panel * metal.MatmulPanel
	return lo, min(lo+metal.MatmulPanel, rows)
}

// matmul: weights, x -> out.
func matmul(g *Group) {
	a := argsOf[metal.MatmulArgs](g)
	w := newWeights(a.Type, g.bytes(0), int(a.Cols))
	lo, hi := panelRange(g.X, int(a.Rows))
	scratch := g.scratch(panelRows * w.cols)
	for lo < hi {
		// A panel may cross the border of two diagonal blocks.
		group := lo / int(a.GroupRows)
		end := min(hi, (group+1)*int(a.GroupRows))
		in := floatRows{x: g.f32(1), stride: int(a.Stride), offset: group * w.cols, cols: w.cols}
		out := outRows{out: g.f32(2), stride: int(a.OutStride)}
		matmulPanel(&w, lo, end, end, int(a.Tokens), &in, &out, scratch)
		lo = end
	}
}
