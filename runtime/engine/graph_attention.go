package engine

import (
	"ds4/metal"
	"ds4/runtime/model"
)

// Which part of the rope table a layer uses.
const (
	ropePlain = 0
	ropeComp  = 1
)

func ropeKind(ratio int) uint32 {
	if ratio == 0 {
		return ropePlain
	}
	return ropeComp
}

func (e *Engine) rowFlags() uint32 {
	var f uint32
	if e.opt.Numerics.KVFP8 {
		f |= metal.FlagFP8
	}
	if e.opt.Numerics.KVF16 {
		f |= metal.FlagF16
	}
	return f
}

func (e *Engine) indexFlags() uint32 {
	if e.opt.Numerics.IndexerFP4 {
		return metal.FlagFP4
	}
	return 0
}

// attention records the attention of one layer: x -> y. Matrix products run over
// the whole batch, everything that touches a session's rows runs per sequence.
func (c *encoder) attention(i, tokens int, batch []Sequence) {
	m, s := c.e.model, &c.e.scratch
	y := &m.Layer[i]
	kind := ropeKind(y.Ratio)

	c.quantize(tokens, m.Dim, s.x, s.xInt8, attentionInputs(y)...)
	c.matmul(y.QA, tokens, s.x, s.xInt8, s.qr)
	c.norm(tokens, y.QANorm, s.qr)
	c.quantize(tokens, m.QRank, s.qr, s.wideInt8, y.QB)
	c.matmul(y.QB, tokens, s.qr, s.wideInt8, s.q)
	dispatch(c, metal.KernelQuery, grid(tokens), metal.QueryArgs{
		Heads: uint32(m.Heads), Width: uint32(m.HeadDim), Rot: uint32(m.RotDim), Norm: 1, Table: kind, Eps: c.eps(),
	}, s.table, s.q)
	c.matmul(y.KV, tokens, s.x, s.xInt8, s.kv)

	c.rawRows(i, batch)
	if y.Index != nil {
		c.compress(i, tokens, batch, &y.Index.Comp, true)
		c.selectRows(i, tokens, batch)
	}
	if y.Comp != nil {
		c.compress(i, tokens, batch, y.Comp, false)
	}
	c.attend(i, batch)

	c.quantize(tokens, m.Heads*m.HeadDim, s.attention, s.wideInt8, y.OutA)
	c.blockMatmul(y.OutA, tokens, m.OGroups, s.attention, s.wideInt8, s.low)
	c.quantize(tokens, m.OGroups*m.ORank, s.low, s.wideInt8, y.OutB)
	c.matmul(y.OutB, tokens, s.low, s.wideInt8, s.y)
}

// attentionInputs are the matrices that read the sublayer's input.
func attentionInputs(y *model.Layer) []*model.Matrix {
	users := [...]*model.Matrix{y.QA, y.KV, nil, nil, nil, nil, nil}
	if y.Comp != nil {
		users[2], users[3] = y.Comp.KV, y.Comp.Gate
	}
	if y.Index != nil {
		users[4], users[5], users[6] = y.Index.Comp.KV, y.Index.Comp.Gate, y.Index.Proj
	}
	return users[:]
}

// rawRows records the new rows of each session's ring.
func (c *encoder) rawRows(i int, batch []Sequence) {
	m, s := c.e.model, &c.e.scratch
	y := &m.Layer[i]
	l := &c.e.layout.layers[i]
	first := 0
	for _, q := range batch {
		dispatch(c, metal.KernelKVStore, grid(len(q.Tokens)), metal.KVArgs{
			Width: uint32(m.HeadDim), Rot: uint32(m.RotDim), Row: uint32(first), Pos: uint32(q.Session.Len()),
			Cap: uint32(l.ring), Table: ropeKind(y.Ratio), Flags: c.e.rowFlags(), Eps: c.eps(),
		}, s.kv, c.e.constants.vector(y.KVNorm), s.table, q.Session.at(l.raw))
		first += len(q.Tokens)
	}
}

// compress records the rows of the windows that each sequence closes, and its
// new frontier, for attention or for the indexer.
func (c *encoder) compress(i, tokens int, batch []Sequence, w *model.Compressor, index bool) {
	m, s, k := c.e.model, &c.e.scratch, &c.e.constants
	l := &c.e.layout.layers[i]
	c.matmul(w.KV, tokens, s.x, s.xInt8, s.compKV)
	c.matmul(w.Gate, tokens, s.x, s.xInt8, s.compGate)
	a := metal.CompressArgs{
		Width: uint32(m.HeadDim), Rot: uint32(m.RotDim), Ratio: uint32(l.ratio), Flags: c.e.rowFlags(), Eps: c.eps(),
	}
	rows, part := l.comp, uint64(0)
	if index {
		a.Width, a.Flags = uint32(m.IndexDim), c.e.indexFlags()
		rows, part = l.index, uint64(l.indexFrontier)
	}
	first := 0
	for _, q := range batch {
		pos, n := q.Session.Len(), len(q.Tokens)
		a.Row, a.Pos, a.Tokens = uint32(first), uint32(pos), uint32(n)
		closed := (pos+n)/l.ratio - pos/l.ratio
		from, to := q.Session.banks(l.ratio, closed)
		in := q.Session.at(l.frontier[from] + part)
		if closed > 0 {
			dispatch(c, metal.KernelCompress, grid(closed), a, s.compKV, s.compGate, k.vector(w.APE), in,
				k.vector(w.Norm), k.freqs, q.Session.at(rows))
		}
		dispatch(c, metal.KernelFrontier, grid(1), a, s.compKV, s.compGate, k.vector(w.APE), in,
			q.Session.at(l.frontier[to]+part))
		first += n
	}
}

// selectRows records which compressed rows each query attends to.
func (c *encoder) selectRows(i, tokens int, batch []Sequence) {
	m, s := c.e.model, &c.e.scratch
	x := m.Layer[i].Index
	l := &c.e.layout.layers[i]
	needed := false
	for _, q := range batch {
		needed = needed || q.Session.selects(q.Session.Len()+len(q.Tokens))
	}
	if !needed {
		return
	}
	c.quantize(tokens, m.QRank, s.qr, s.wideInt8, x.QB)
	c.matmul(x.QB, tokens, s.qr, s.wideInt8, s.indexQ)
	c.matmul(x.Proj, tokens, s.x, s.xInt8, s.indexW)
	dispatch(c, metal.KernelQuery, grid(tokens), metal.QueryArgs{
		Heads: uint32(m.IndexHeads), Width: uint32(m.IndexDim), Rot: uint32(m.RotDim), Table: ropeComp, Eps: c.eps(),
	}, s.table, s.indexQ)
	a := metal.IndexArgs{
		Heads: uint32(m.IndexHeads), Width: uint32(m.IndexDim), Ratio: uint32(l.ratio),
		TopK: uint32(m.IndexTopK), Flags: c.e.indexFlags(),
	}
	queries := s.indexQ
	if a.Flags&metal.FlagFP4 != 0 {
		queries = s.wideInt8
		dispatch(c, metal.KernelIndexQuery, grid(tokens), a, s.indexQ, queries)
	}
	first := 0
	for _, q := range batch {
		pos, n := q.Session.Len(), len(q.Tokens)
		if q.Session.selects(pos + n) {
			a.Row, a.Pos, a.Tokens = uint32(first), uint32(pos), uint32(n)
			g := grid((n + metal.IndexTokens - 1) / metal.IndexTokens)
			dispatch(c, metal.KernelIndexSelect, g, a, queries, s.indexW, q.Session.at(l.index), s.selected)
		}
		first += n
	}
}

// attend records the attention over each session's rows.
func (c *encoder) attend(i int, batch []Sequence) {
	m, s := c.e.model, &c.e.scratch
	y := &m.Layer[i]
	l := &c.e.layout.layers[i]
	a := metal.AttentionArgs{
		Heads: uint32(m.Heads), Width: uint32(m.HeadDim), Rot: uint32(m.RotDim), Cap: uint32(l.ring),
		Window: uint32(m.Window), Ratio: uint32(l.ratio), Table: ropeKind(l.ratio),
		Flags: c.e.rowFlags(),
	}
	if y.Index != nil {
		a.TopK = uint32(m.IndexTopK)
	}
	first := 0
	for _, q := range batch {
		a.Row, a.Pos = uint32(first), uint32(q.Session.Len())
		g := grid2(len(q.Tokens), (m.Heads+metal.AttentionHeads-1)/metal.AttentionHeads)
		dispatch(c, metal.KernelAttention, g, a, s.q, q.Session.at(l.raw), q.Session.at(l.comp),
			s.selected, c.e.constants.vector(y.Sinks), s.table, s.attention)
		first += len(q.Tokens)
	}
}
