package engine

import (
	"encoding/binary"
	"fmt"

	"ds4/metal"
	"ds4/runtime/model"
)

// scratch is the memory that a forward pass uses and nobody keeps, shared by
// all sessions. Comments give shapes; T is the chunk, K experts per token.
type scratch struct {
	tokens, positions metal.Binding // i32 [T]
	headRows          metal.Binding // i32 [headRows]
	table             metal.Binding // [T][2][RotDim]
	streams           metal.Binding // [T][HC*Dim]
	mix               metal.Binding // [T][MixDim]
	x                 metal.Binding // [T][Dim] normed input of the sublayer
	post, comb        metal.Binding // [T][HC], [T][HC*HC]
	y                 metal.Binding // [T][Dim] output of the sublayer

	xInt8, wideInt8 metal.Binding // int8 blocks of x, and of everything wider

	qr         metal.Binding // [T][QRank]
	q          metal.Binding // [T][Heads*HeadDim]
	kv         metal.Binding // [T][HeadDim]
	compKV     metal.Binding // [T][2*max(HeadDim, IndexDim)]
	compGate   metal.Binding
	indexQ     metal.Binding // [T][IndexHeads*IndexDim]
	indexW     metal.Binding // [T][IndexHeads]
	selected   metal.Binding // i32 [T][IndexTopK]
	attention  metal.Binding // [T][Heads*HeadDim]
	low        metal.Binding // [T][OGroups*ORank]
	router     metal.Binding // [T][Experts]
	ids        metal.Binding // i32 [T][K]
	idWeights  metal.Binding // [T][K]
	order      metal.Binding // i32 [T*K]
	offsets    metal.Binding // i32 [Experts+1]
	identity   metal.Binding // i32 [T]: 0, 1, 2, ...
	all        metal.Binding // i32 [2]: 0, tokens of the batch
	hidden     metal.Binding // [T*K][ExpertDim]
	work       metal.Binding // [T*K][ExpertDim]
	routed     metal.Binding // [T*K][Dim]
	shared     metal.Binding // [T][Dim]
	headStream metal.Binding // [headRows][HC*Dim]
	headMix    metal.Binding // [headRows][HC]
	headX      metal.Binding // [headRows][Dim]
	headInt8   metal.Binding
	logits     metal.Binding // [headRows][Vocab]
}

// arena hands out ranges of one buffer; without a buffer it only counts.
type arena struct {
	buf metal.Buffer
	n   uint64
}

const arenaAlign = 64

func (a *arena) take(bytes int) metal.Binding {
	at := (a.n + arenaAlign - 1) &^ (arenaAlign - 1)
	a.n = at + uint64(bytes)
	return metal.Binding{Buffer: a.buf, Offset: at}
}

func (a *arena) f32(n int) metal.Binding { return a.take(4 * n) }

// int8 takes n activations as int8 blocks.
func (a *arena) int8(n int) metal.Binding {
	return a.take((n + metal.Int8Block - 1) / metal.Int8Block * metal.Int8Bytes)
}

// place lays the scratch memory out in a.
func (s *scratch) place(a *arena, m *model.Model, t int) {
	slots := t * m.ExpertsUsed
	heads := m.Heads * m.HeadDim
	s.tokens, s.positions = a.f32(t), a.f32(t)
	s.headRows = a.f32(headRows)
	s.table = a.f32(t * 2 * m.RotDim)
	s.streams = a.f32(t * m.HC * m.Dim)
	s.mix = a.f32(t * m.MixDim())
	s.x, s.y = a.f32(t*m.Dim), a.f32(t*m.Dim)
	s.post, s.comb = a.f32(t*m.HC), a.f32(t*m.HC*m.HC)
	s.xInt8 = a.int8(t * m.Dim)
	s.wideInt8 = a.int8(max(t*max(heads, m.QRank, m.OGroups*m.ORank, m.IndexHeads*m.IndexDim), slots*m.ExpertDim))
	s.qr, s.q, s.kv = a.f32(t*m.QRank), a.f32(t*heads), a.f32(t*m.HeadDim)
	lanes := 2 * max(m.HeadDim, m.IndexDim)
	s.compKV, s.compGate = a.f32(t*lanes), a.f32(t*lanes)
	if hasRatio(m, 4) {
		s.indexQ, s.indexW = a.f32(t*m.IndexHeads*m.IndexDim), a.f32(t*m.IndexHeads)
	}
	s.selected = a.f32(t * m.IndexTopK)
	s.attention, s.low = a.f32(t*heads), a.f32(t*m.OGroups*m.ORank)
	experts := maxExperts(m)
	s.router = a.f32(t * experts)
	s.ids, s.idWeights, s.order = a.f32(slots), a.f32(slots), a.f32(slots)
	s.offsets, s.identity, s.all = a.f32(experts+1), a.f32(t), a.f32(2)
	s.hidden, s.work = a.f32(slots*m.ExpertDim), a.f32(slots*m.ExpertDim)
	s.routed, s.shared = a.f32(slots*m.Dim), a.f32(t*m.Dim)
	s.headStream, s.headMix, s.headX = a.f32(headRows*m.HC*m.Dim), a.f32(headRows*m.HC), a.f32(headRows*m.Dim)
	s.headInt8 = a.int8(headRows * m.Dim)
	s.logits = a.f32(headRows * m.Vocab)
}

func scratchBytes(m *model.Model, opt Options) uint64 {
	var a arena
	new(scratch).place(&a, m, opt.ChunkTokens)
	return a.n
}

func (s *scratch) build(e *Engine) error {
	buf, err := e.allocate(scratchBytes(e.model, e.opt), "scratch")
	if err != nil {
		return fmt.Errorf("engine: scratch: %w", err)
	}
	s.place(&arena{buf: buf}, e.model, e.opt.ChunkTokens)
	ids := hostBytes(s.identity, 4*e.opt.ChunkTokens)
	for i := range e.opt.ChunkTokens {
		binary.LittleEndian.PutUint32(ids[4*i:], uint32(i))
	}
	return nil
}

// hostBytes views n bytes of a binding from the host.
func hostBytes(b metal.Binding, n int) []byte {
	return b.Buffer.Bytes()[b.Offset : b.Offset+uint64(n)]
}
