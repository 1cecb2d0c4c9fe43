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

// layerLayout places the state of one layer. Rows are float32.
type layerLayout struct {
	ratio    int
	rowBytes int
	packed   kvrow.Codec // of raw and compressed rows outside of the session

	raw     uint64 // ring [ringRows][rowBytes]: position p at p mod ringRows
	ring    int
	comp    uint64 // [compRows][rowBytes]
	index   uint64 // [compRows][indexRowBytes]
	panels  uint64 // the same as integers, if the numerics round them to FP4
	compMax int

	indexRowBytes int
	indexPacked   kvrow.Codec
	// The frontier exists twice: a step that closes a window writes the other
	// bank, so that a failed step leaves the committed one untouched.
	frontier      [2]uint64
	frontierBytes int // attention's part, then the indexer's
	indexFrontier int // offset of the indexer's part
	parts         []frontierPart
}

const floatBytes = 4

func newStateLayout(m *model.Model, opt Options) stateLayout {
	l := stateLayout{kept: m.Window - 1, vocab: m.Vocab, context: opt.ContextTokens, rows: newRowForms(m, opt.Numerics)}
	var a arena
	for _, ratio := range m.Ratios {
		y := layerLayout{ratio: ratio, rowBytes: m.HeadDim * floatBytes, ring: m.Window + opt.ChunkTokens, packed: l.rows.kv}
		y.raw = a.take(y.ring * y.rowBytes).Offset
		if ratio != 0 {
			y.compMax = opt.ContextTokens/ratio + 1
			y.comp = a.take(y.compMax * y.rowBytes).Offset
			y.addFrontier(m.HeadDim)
		}
		if ratio == 4 {
			y.indexRowBytes, y.indexPacked = m.IndexDim*floatBytes, l.rows.index
			y.index = a.take(y.compMax * y.indexRowBytes).Offset
			if opt.Numerics.IndexerFP4 {
				y.panels = a.take((y.compMax + metal.IndexPanel - 1) / metal.IndexPanel * metal.IndexPanelBytes(m.IndexDim)).Offset
			}
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
