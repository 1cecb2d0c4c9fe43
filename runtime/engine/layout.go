package engine

import (
	"ds4/metal"
	"ds4/metal/quant/kvrow"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/model"
)

// stateLayout places the state of a session in one device buffer.
type stateLayout struct {
	layers  []layerLayout
	bytes   uint64
	kept    int // raw rows that later tokens can see: the window less the token itself
	vocab   int
	context int
	rows    rowForms
}

// layerLayout places the state of one layer. Raw rows are float32, of which there
// are as many in a short context as in a long one. Compressed rows are F16 if the
// numerics round them to that, and rows of the indexer are in panels if the
// numerics round them to FP4; else both are float32.
type layerLayout struct {
	ratio  int
	packed kvrow.Codec // of raw and compressed rows outside of the session

	raw        uint64 // ring [ring][rawBytes]: position p at p mod ring
	rawBytes   int    // of a row
	ring       int
	comp       uint64 // [compMax][compBytes]
	compBytes  int
	halves     bool   // compressed rows are F16
	index      uint64 // [compMax][IndexDim] float32, or panels
	compMax    int
	panelBytes int // of a panel of indexer rows, or 0

	indexRowBytes int // what a row of the indexer takes, or 0 without one
	indexPacked   kvrow.Codec
	// The frontier exists twice: a step that closes a window writes the other
	// bank, so that a failed step leaves the committed one untouched.
	frontier      [2]uint64
	frontierBytes int // attention's part, then the indexer's
	indexFrontier int // offset of the indexer's part
	parts         []frontierPart
}

const (
	floatBytes = 4
	halfBytes  = 2
)

func newStateLayout(m *model.Model, opt Options) stateLayout {
	l := stateLayout{kept: m.Window - 1, vocab: m.Vocab, context: opt.ContextTokens, rows: newRowForms(m, opt.Numerics)}
	var a arena
	for _, ratio := range m.Ratios {
		y := layerLayout{
			ratio: ratio, rawBytes: m.HeadDim * floatBytes, compBytes: m.HeadDim * floatBytes,
			ring: m.Window + opt.ChunkTokens, packed: l.rows.kv,
		}
		if opt.Numerics.KVF16 {
			y.halves, y.compBytes = true, m.HeadDim*halfBytes
		}
		y.raw = a.take(y.ring * y.rawBytes).Offset
		if ratio != 0 {
			y.compMax = opt.ContextTokens/ratio + 1
			y.comp = a.take(y.compMax * y.compBytes).Offset
			y.addFrontier(m.HeadDim)
		}
		if ratio == 4 {
			y.placeIndex(&a, m, opt.Numerics)
			y.indexPacked = l.rows.index
			y.indexFrontier = y.frontierBytes
			y.addFrontier(m.IndexDim)
		}
		for bank := range y.frontier {
			y.frontier[bank] = a.take(y.frontierBytes).Offset
		}
		l.layers = append(l.layers, y)
	}
	l.bytes = a.n
	return l
}

// placeIndex places the rows of the indexer.
func (y *layerLayout) placeIndex(a *arena, m *model.Model, n model.Numerics) {
	if !n.IndexerFP4 {
		y.indexRowBytes = m.IndexDim * floatBytes
		y.index = a.take(y.compMax * y.indexRowBytes).Offset
		return
	}
	y.panelBytes = metal.IndexPanelBytes(m.IndexDim)
	y.indexRowBytes = y.panelBytes / metal.IndexPanel
	y.index = a.take((y.compMax + metal.IndexPanel - 1) / metal.IndexPanel * y.panelBytes).Offset
}

// hostBytes is what a session keeps outside its device buffer.
func (l *stateLayout) hostBytes() uint64 {
	return uint64(2*l.vocab*floatBytes) + uint64(l.context*floatBytes)
}

// segment describes the layout to the file format.
func (l *stateLayout) segment() segment.Layout {
	s := segment.Layout{Vocab: l.vocab, Window: l.kept}
	for i := range l.layers {
		y := &l.layers[i]
		closed, open := y.frontierSizes()
		s.Layers = append(s.Layers, segment.Layer{
			Ratio: y.ratio, RowBytes: y.packed.Bytes(), IndexRowBytes: y.indexPacked.Bytes(),
			ClosedBytes: closed, OpenBytes: open,
		})
	}
	return s
}

// at is a binding of a session's buffer.
func (s *Session) at(offset uint64) metal.Binding {
	return metal.Binding{Buffer: s.state, Offset: offset}
}
