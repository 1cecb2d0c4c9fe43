package engine

import (
	"context"
	"fmt"
	"unsafe"

	"ds4/metal"
	"ds4/runtime/model"
)

// Labels of the command buffers of a forward pass: "Metal <label> failed: ...".
const (
	LabelEmbed = "graph embed tokens"
	LabelHead  = "graph output head"
)

// encoder records kernels into the current command buffer without allocating.
type encoder struct {
	e     *Engine
	cb    metal.CommandBuffer
	args  [16]uint64
	binds []metal.Binding
}

func grid(x int) metal.Size     { return metal.Size{X: uint32(x)} }
func grid2(x, y int) metal.Size { return metal.Size{X: uint32(x), Y: uint32(y)} }

// panels is the grid of a matrix product.
func panels(rows int) int { return (rows + metal.MatmulPanel - 1) / metal.MatmulPanel }

// dispatch records one kernel. Arguments and bindings are copied.
func dispatch[T any](c *encoder, kernel string, g metal.Size, args T, bufs ...metal.Binding) {
	n := unsafe.Sizeof(args)
	if n > unsafe.Sizeof(c.args) {
		panic(fmt.Sprintf("engine: arguments of %s have %d bytes", kernel, n))
	}
	*(*T)(unsafe.Pointer(&c.args)) = args
	c.binds = append(c.binds[:0], bufs...)
	c.cb.Marker(kernel)
	c.cb.Dispatch(c.e.pipelines[kernel], g, unsafe.Slice((*byte)(unsafe.Pointer(&c.args)), n), c.binds...)
}

// begin starts a command buffer.
func (c *encoder) begin(label string) error {
	var err error
	c.cb, err = c.e.dev.NewCommandBuffer(label)
	return err
}

// finish runs what was recorded and waits for it. A wait that ctx ends leaves
// the command buffer with the engine, which will not start another before it.
func (c *encoder) finish(ctx context.Context) error {
	cb := c.cb
	c.cb = nil
	if err := cb.Commit(); err != nil {
		cb.Release()
		return err
	}
	err := cb.Wait(ctx)
	if err != nil && ctx.Err() != nil && cb.Status() < metal.StatusCompleted {
		c.e.stuck = &abandoned{work: cb}
		return err
	}
	cb.Release()
	return err
}

// matmul records out = w * x over tokens rows; q holds the int8 form of x.
func (c *encoder) matmul(w *model.Matrix, tokens int, x metal.Binding, q metal.Binding, out metal.Binding) {
	c.blockMatmul(w, tokens, 1, x, q, out)
}

// blockMatmul is matmul with a block-diagonal matrix of groups blocks.
func (c *encoder) blockMatmul(w *model.Matrix, tokens, groups int, x metal.Binding, q metal.Binding, out metal.Binding) {
	a := metal.MatmulArgs{
		Type: uint32(w.Type), Rows: uint32(w.Rows), Cols: uint32(w.Cols), Tokens: uint32(tokens),
		Stride: uint32(groups * w.Cols), OutStride: uint32(w.Rows), GroupRows: uint32(w.Rows / groups),
		Block: uint32(c.e.tokenBlock(w)),
	}
	g := grid2(panels(w.Rows), (tokens+int(a.Block)-1)/int(a.Block))
	b := c.e.weights[w]
	if c.e.int8[w] {
		dispatch(c, metal.KernelMatmulInt8, g, a, b, q, out)
		return
	}
	dispatch(c, metal.KernelMatmul, g, a, b, x, out)
}

// controlMatmul is matmul for the small matrices that steer mixing and routing:
// their activations are never rounded.
func (c *encoder) controlMatmul(w *model.Matrix, tokens int, x, out metal.Binding) {
	c.matmul(w, tokens, x, metal.Binding{}, out)
}

// quantize records the int8 form of rows of n values, if any of the matrices
// wants it.
func (c *encoder) quantize(rows, n int, x metal.Binding, q metal.Binding, users ...*model.Matrix) {
	for _, w := range users {
		if c.e.int8[w] {
			dispatch(c, metal.KernelQuantize, grid(rows), metal.QuantizeArgs{N: uint32(n)}, x, q)
			return
		}
	}
}

func (c *encoder) norm(rows int, weight []float32, x metal.Binding) {
	dispatch(c, metal.KernelRMSNorm, grid(rows), metal.NormArgs{N: uint32(len(weight)), Eps: c.eps()},
		c.e.constants.vector(weight), x)
}

func (c *encoder) eps() float32 { return float32(c.e.model.NormEps) }

// embed records the embedding of the batch and its rope table.
func (c *encoder) embed(tokens int) {
	m, s := c.e.model, &c.e.scratch
	dispatch(c, metal.KernelEmbed, grid(tokens),
		metal.EmbedArgs{Type: uint32(m.Embed.Type), Dim: uint32(m.Dim), HC: uint32(m.HC), Vocab: uint32(m.Vocab)},
		c.e.weights[m.Embed], s.tokens, s.streams)
	dispatch(c, metal.KernelRopeTable, grid(tokens), metal.RopeTableArgs{Rot: uint32(m.RotDim)},
		c.e.constants.freqs, s.positions, s.table)
}

func (c *encoder) mixArgs() metal.MixArgs {
	m := c.e.model
	return metal.MixArgs{
		Dim: uint32(m.Dim), HC: uint32(m.HC), Iterations: uint32(m.SinkhornIter),
		HCEps: float32(m.HCEps), NormEps: c.eps(),
	}
}

// mixIn records the input of a sublayer: streams -> x, normed.
func (c *encoder) mixIn(tokens int, hc *model.HyperConnection, norm []float32) {
	s, k := &c.e.scratch, &c.e.constants
	c.controlMatmul(hc.Fn, tokens, s.streams, s.mix)
	dispatch(c, metal.KernelHyperMix, grid(tokens), c.mixArgs(),
		s.streams, s.mix, k.vector(hc.Base), k.vector(hc.Scale), k.vector(norm), s.x, s.post, s.comb)
}

// mixOut records the output of a sublayer: y -> streams.
func (c *encoder) mixOut(tokens int) {
	s := &c.e.scratch
	dispatch(c, metal.KernelHyperApply, grid(tokens), c.mixArgs(), s.y, s.post, s.comb, s.streams)
}

// layer records one layer for the whole batch.
func (c *encoder) layer(i, tokens int, batch []Sequence) {
	y := &c.e.model.Layer[i]
	c.mixIn(tokens, &y.AttnHC, y.AttnNorm)
	c.attention(i, tokens, batch)
	c.mixOut(tokens)
	c.mixIn(tokens, &y.FFNHC, y.FFNNorm)
	c.moe(i, tokens)
	c.mixOut(tokens)
}

// moe records the experts: x -> y.
func (c *encoder) moe(i, tokens int) {
	m, s, k := c.e.model, &c.e.scratch, &c.e.constants
	y := &m.Layer[i]
	used := m.ExpertsUsed
	c.controlMatmul(y.Router, tokens, s.x, s.router)
	r := metal.RouteArgs{
		Experts: uint32(y.Experts), Used: uint32(used), Tokens: uint32(tokens), Scale: m.ExpertScale,
	}
	routes := k.none
	if y.HashRoutes != nil {
		r.Hash, routes = 1, k.routes[i]
	}
	if y.RouterBias != nil {
		r.HasBias = 1
	}
	dispatch(c, metal.KernelRoute, grid(tokens), r, s.router, k.vector(y.RouterBias), s.tokens, routes, s.ids, s.idWeights)
	dispatch(c, metal.KernelGroup, grid(1), r, s.ids, s.order, s.offsets)

	c.quantize(tokens, m.Dim, s.x, s.xInt8, y.Gate, y.Up, y.SharedGate, y.SharedUp)
	c.experts(expertStack{y.SharedGate, y.SharedUp, y.SharedDown}, 1, m.ClampShared[i], tokens, s.identity, s.all, s.shared)
	c.experts(expertStack{y.Gate, y.Up, y.Down}, used, m.Clamp[i], tokens, s.order, s.offsets, s.routed)
	dispatch(c, metal.KernelCombine, grid(tokens), metal.CombineArgs{Dim: uint32(m.Dim), Used: uint32(used)},
		s.routed, s.idWeights, s.shared, s.y)
}

type expertStack struct{ gate, up, down *model.Matrix }

// experts records the products of a stack of experts: x -> out, one row per slot.
func (c *encoder) experts(w expertStack, used int, clamp float32, tokens int, order, offsets, out metal.Binding) {
	s := &c.e.scratch
	slots := tokens * used
	a := metal.ExpertArgs{
		Type: uint32(w.gate.Type), TypeUp: uint32(w.up.Type),
		Rows: uint32(w.gate.Rows), Cols: uint32(w.gate.Cols), Used: uint32(used), Clamp: clamp,
	}
	groups := w.gate.Count
	if slots < groups { // most experts have nothing to do
		groups, a.Experts = slots, uint32(w.gate.Count)
	}
	g := grid2(panels(w.gate.Rows), groups)
	gate, up := c.e.weights[w.gate], c.e.weights[w.up]
	if c.e.int8[w.gate] {
		dispatch(c, metal.KernelExpertGateUpInt8, g, a, gate, up, order, offsets, s.xInt8, s.hidden, s.work)
	} else {
		dispatch(c, metal.KernelExpertGateUp, g, a, gate, up, order, offsets, s.x, s.hidden, s.work)
	}
	c.quantize(slots, w.down.Cols, s.hidden, s.wideInt8, w.down)
	a.Type, a.Rows, a.Cols = uint32(w.down.Type), uint32(w.down.Rows), uint32(w.down.Cols)
	g = grid2(panels(w.down.Rows), groups)
	down := c.e.weights[w.down]
	if c.e.int8[w.down] {
		dispatch(c, metal.KernelExpertDownInt8, g, a, down, order, offsets, s.wideInt8, out)
	} else {
		dispatch(c, metal.KernelExpertDown, g, a, down, order, offsets, s.hidden, out)
	}
}

// head records the logits of rows of the batch listed in scratch.headRows.
func (c *encoder) head(rows int) {
	m, s, k := c.e.model, &c.e.scratch, &c.e.constants
	dispatch(c, metal.KernelGather, grid(rows), metal.GatherArgs{N: uint32(m.HC * m.Dim)}, s.streams, s.headRows, s.headStream)
	c.controlMatmul(m.HeadHC.Fn, rows, s.headStream, s.headMix)
	dispatch(c, metal.KernelHyperHead, grid(rows), c.mixArgs(), s.headStream, s.headMix,
		k.vector(m.HeadHC.Base), k.vector(m.HeadHC.Scale), k.vector(m.OutputNorm), s.headX)
	c.quantize(rows, m.Dim, s.headX, s.headInt8, m.Output)
	c.matmul(m.Output, rows, s.headX, s.headInt8, s.logits)
}
