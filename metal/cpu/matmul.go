package cpu

import (
	"fmt"
	"unsafe"

	"ds4/metal"
	"ds4/metal/cpu/kernels"
	"ds4/metal/quant"
)

// Matrix products work on packed panels of kernels.PanelRows rows. Weights come
// packed, or each group packs the panels that it needs. Every output is one sum
// over the columns in ascending order, whatever the tile it is computed in: that
// is what makes results independent of the batch.

// metal.MatmulPanel rows make a threadgroup; here they must make a panel.
var _ = [1]struct{}{}[metal.MatmulPanel-kernels.PanelRows]

// kernelPack packs panels: weights -> packed. grid (panels, Count).
const kernelPack = "cpu_pack_weights"

// matrix is a row-addressable matrix, or a stack of them, as bound to a kernel.
type matrix struct {
	typ        quant.Type
	stored     kernels.PanelType // of packed weights
	used       kernels.PanelType // by the product
	packed     bool
	data       []byte
	rows, cols int
	rowBytes   int // in the file's encoding
}

// newMatrix describes binding bind, to be multiplied with that many input rows. int8 says
// that the product takes int8 activations where the type has such a product.
func newMatrix(g *Group, bind int, typ uint32, rows, cols int, int8 bool, inputs int) matrix {
	t := quant.Type(typ)
	rowBytes, err := quant.RowBytes(t, cols)
	if err != nil {
		panic(err) // the loader admits only whole rows of known types
	}
	p, _ := kernels.PanelOf(t)
	m := matrix{typ: t, stored: p, used: p, packed: g.binds[bind].packed, data: g.bytes(bind), rows: rows, cols: cols, rowBytes: rowBytes}
	switch {
	case p == kernels.PanelQ8 && !int8:
		m.used = kernels.PanelF32
	case !kernels.IsK(t):
	case !int8 && m.packed:
		panic(fmt.Sprintf("%v was packed for int8 activations", t)) // it cannot become float32 again
	case !int8:
		m.used = kernels.PanelF32
	case !m.packed || !g.worker.set.Direct(p, inputs):
		m.used = kernels.PanelK
	}
	return m
}

// panel is panel i of matrix e of the stack. It is valid until the next call for
// a matrix that is not packed.
func (m *matrix) panel(g *Group, e, i int) []byte {
	var src []byte
	if m.packed {
		src = row(m.data, e*kernels.Panels(m.rows)+i, m.stored.Bytes(m.cols))
		if m.stored == m.used {
			return src
		}
	}
	dst := g.panel(m.used.Bytes(m.cols))
	switch {
	case m.packed && m.stored == kernels.PanelQ8:
		kernels.UnpackQ8(dst, src, m.cols)
		return dst
	case m.packed:
		g.worker.set.Expand(dst, src, m.stored, m.cols)
		return dst
	}
	lo, hi := panelRange(i, m.rows)
	src = m.data[(e*m.rows+lo)*m.rowBytes : (e*m.rows+hi)*m.rowBytes]
	g.worker.set.Pack(dst, src, m.used, m.typ, hi-lo, m.cols, &g.worker.codes, g.scratch(m.cols))
	return dst
}

// inRows gives the input rows of a product: entry i of the list is row ids[i]/div,
// or row i if there is no list.
type inRows struct {
	data   []byte
	stride int // bytes from row to row
	offset int // bytes before the first column
	bytes  int // of a row's columns
	ids    []int32
	div    int
}

// newInput describes rows of stride values, int8 blocks or float32, of which a
// product reads cols from column first.
func newInput(data []byte, stride, first, cols int, int8 bool) inRows {
	if !int8 {
		return inRows{data: data, stride: 4 * stride, offset: 4 * first, bytes: 4 * cols, div: 1}
	}
	const unit = metal.Int8Block
	return inRows{
		data: data, stride: stride / unit * metal.Int8Bytes,
		offset: first / unit * metal.Int8Bytes, bytes: cols / unit * metal.Int8Bytes, div: 1,
	}
}

func (r *inRows) row(i int) unsafe.Pointer {
	if r.ids != nil {
		i = int(r.ids[i]) / r.div
	}
	at := i*r.stride + r.offset
	return unsafe.Pointer(&r.data[at : at+r.bytes][0])
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

// product is the memory that multiply needs, part of a worker so that the
// kernels' pointers do not make it escape.
type product struct {
	tile kernels.Tile
	part [kernels.TileTokens][kernels.PanelRows]float32
}

// multiply computes entries [t, end) of in times a panel of m. Rows [lo, hi) of
// the result are kept; base is the row that the panel starts with.
func (m *matrix) multiply(g *Group, panel []byte, base, lo, hi, t, end int, in *inRows, out *outRows) {
	p := &g.worker.product
	whole := lo == base && hi == base+kernels.PanelRows
	for ; t < end; t += kernels.TileTokens {
		n := min(kernels.TileTokens, end-t)
		for i := range n {
			p.tile.In[i] = in.row(t + i)
			if whole {
				p.tile.Out[i] = unsafe.Pointer(&out.row(t + i)[lo:hi][0])
			} else {
				p.tile.Out[i] = unsafe.Pointer(&p.part[i])
			}
		}
		g.worker.set.Product(m.used, panel, &p.tile, n, m.cols)
		if !whole {
			for i := range n {
				copy(out.row(t + i)[lo:hi], p.part[i][lo-base:])
			}
		}
	}
}

// panelRange is the part of a matrix that a threadgroup computes.
func panelRange(panel, rows int) (lo, hi int) {
	lo = panel * metal.MatmulPanel
	return lo, min(lo+metal.MatmulPanel, rows)
}

// matmul: weights, x -> out.
func matmul(g *Group) { multiplyBlock(g, false) }

// matmulInt8: weights, int8 blocks -> out.
func matmulInt8(g *Group) { multiplyBlock(g, true) }

func multiplyBlock(g *Group, int8 bool) {
	a := argsOf[metal.MatmulArgs](g)
	rows, cols := int(a.Rows), int(a.Cols)
	t := g.Y * int(a.Block)
	last := min(t+int(a.Block), int(a.Tokens))
	m := newMatrix(g, 0, a.Type, rows, cols, int8, last-t)
	panel := m.panel(g, 0, g.X)
	base, end := panelRange(g.X, rows)
	out := outRows{out: g.f32(2), stride: int(a.OutStride)}
	for lo := base; lo < end; {
		// A panel may cross the border of two diagonal blocks.
		block := lo / int(a.GroupRows)
		hi := min(end, (block+1)*int(a.GroupRows))
		in := newInput(g.bytes(1), int(a.Stride), block*cols, cols, int8)
		m.multiply(g, panel, base, lo, hi, t, last, &in, &out)
		lo = hi
	}
}

// quantizeInt8: x -> int8 blocks.
func quantizeInt8(g *Group) {
	n := int(argsOf[metal.QuantizeArgs](g).N)
	g.worker.set.QuantizeRow(row(g.bytes(1), g.X, n/metal.Int8Block*metal.Int8Bytes), row(g.f32(0), g.X, n))
}
