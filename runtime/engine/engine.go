// Package engine runs sessions of a model over a metal.Device: prefill, decode,
// rewind, export and restore of a session's state. It does no file I/O.
//
// Promises. The logits of a position are bit-identical whatever the chunk size,
// the number of threads, the kernel set, the other sequences of the batch, and
// whether the prefix was computed, continued or restored (on one machine). A
// Forward that fails leaves every session of the batch exactly as it was before
// the call; it may be tried again after Rebuild. Nothing is allocated per
// decoded token.
//
// An Engine and its sessions are used by one goroutine at a time. A session that is in
// no batch may meanwhile be restored by another one.
package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"ds4/metal"
	"ds4/metal/quant"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/model"
)

const (
	// DefaultChunkTokens is the prefill chunk when Options names none.
	DefaultChunkTokens = 512
	// MaxChunkTokens bounds the scratch memory.
	MaxChunkTokens = 8192
	// MaxContextTokens is the largest context that positions are checked for.
	MaxContextTokens = 1 << 24
	// headRows is how many positions the output matrix is applied to at once.
	headRows = 32
	// packedBlock is how many tokens a threadgroup multiplies with a panel of
	// packed weights: few enough that one panel can keep all threads busy.
	packedBlock = 48
)

// Options configures an Engine.
type Options struct {
	ContextTokens int // positions per session
	ChunkTokens   int // new tokens per Forward, all sequences together; 0 means DefaultChunkTokens
	Numerics      model.Numerics
	// Pack keeps a copy of the weights in the layout that the device multiplies
	// fastest, if it has one. Results do not depend on it.
	Pack bool
	// PackK does the same with K-quants: nearly all of a model that has them.
	PackK bool
	// Packing hears how many bytes of how many are packed, before each matrix. Its
	// error ends New.
	Packing func(done, total uint64) error
}

func (o *Options) check() error {
	if o.ChunkTokens == 0 {
		o.ChunkTokens = DefaultChunkTokens
	}
	if o.ChunkTokens < 1 || o.ChunkTokens > MaxChunkTokens {
		return fmt.Errorf("engine: chunk of %d tokens: want 1 to %d", o.ChunkTokens, MaxChunkTokens)
	}
	if o.ContextTokens < 1 || o.ContextTokens > MaxContextTokens {
		return fmt.Errorf("engine: context of %d tokens: want 1 to %d", o.ContextTokens, MaxContextTokens)
	}
	return nil
}

// Engine runs one model on one device.
type Engine struct {
	model *model.Model
	dev   metal.Device
	opt   Options

	pipelines map[string]metal.Pipeline
	weights   map[*model.Matrix]metal.Binding
	packed    map[*model.Matrix]bool
	int8      map[*model.Matrix]bool // products take int8 activations
	constants constants
	scratch   scratch
	layout    stateLayout
	enc       encoder
	labels    []string // of the layers' command buffers
	traffic   traffic

	owned []metal.Buffer
	stuck *abandoned // by an earlier call, or nil
}

// New prepares m to run on dev. The device stays the caller's to close, after
// the engine.
func New(m *model.Model, dev metal.Device, opt Options) (*Engine, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	e := &Engine{model: m, dev: dev, opt: opt, int8: opt.int8Products(m), layout: newStateLayout(m, opt), traffic: newTraffic(m)}
	for i := range m.Layer {
		e.labels = append(e.labels, fmt.Sprintf("graph layer %d", i))
	}
	if err := e.setup(); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

func (e *Engine) setup() error {
	if err := e.loadPipelines(); err != nil {
		return err
	}
	if err := e.wrapWeights(); err != nil {
		return err
	}
	if err := e.constants.build(e); err != nil {
		return err
	}
	return e.scratch.build(e)
}

// Close releases the engine's buffers. Sessions must have been released. Abandoned
// work that still runs keeps all of it.
func (e *Engine) Close() error {
	if e.stuck != nil && e.settleSoon() != nil {
		e.owned = nil
		return nil
	}
	for _, b := range e.owned {
		b.Release()
	}
	e.owned = nil
	return nil
}

// Model is the model that the engine runs.
func (e *Engine) Model() *model.Model { return e.model }

// Device is the device that the engine runs on.
func (e *Engine) Device() metal.Device { return e.dev }

// ContextTokens is the number of positions of a session.
func (e *Engine) ContextTokens() int { return e.opt.ContextTokens }

// ChunkTokens is the most new tokens that one Forward takes.
func (e *Engine) ChunkTokens() int { return e.opt.ChunkTokens }

// Numerics are the flags of the forward pass.
func (e *Engine) Numerics() model.Numerics { return e.opt.Numerics }

// SessionBytes is the memory of one session at its full context.
func (e *Engine) SessionBytes() uint64 { return e.layout.bytes + e.layout.hostBytes() }

// ScratchBytes is the memory that all sessions share, weights not counted.
func (e *Engine) ScratchBytes() uint64 { return scratchBytes(e.model, e.opt) }

// EstimateBytes says what New and NewSession would take, weights not counted.
func EstimateBytes(m *model.Model, opt Options) (session, scratch uint64, err error) {
	if err := opt.check(); err != nil {
		return 0, 0, err
	}
	l := newStateLayout(m, opt)
	return l.bytes + l.hostBytes(), scratchBytes(m, opt), nil
}

// Layout describes a session's state to the segment format.
func (e *Engine) Layout() segment.Layout { return e.layout.segment() }

// Rebuild clears the device's poison and makes the engine usable again. Sessions
// keep their state: a failed Forward has not touched what was committed.
func (e *Engine) Rebuild(level metal.Level) error {
	if err := e.dev.Rebuild(level); err != nil {
		return fmt.Errorf("engine: rebuild: %w", err)
	}
	return e.loadPipelines()
}

var kernelNames = []string{
	metal.KernelEmbed, metal.KernelRopeTable, metal.KernelHyperMix, metal.KernelHyperHead,
	metal.KernelHyperApply, metal.KernelRMSNorm, metal.KernelQuantize, metal.KernelMatmul,
	metal.KernelMatmulInt8, metal.KernelQuery, metal.KernelKVStore, metal.KernelCompress,
	metal.KernelFrontier, metal.KernelIndexQuery, metal.KernelIndexSelect, metal.KernelAttention,
	metal.KernelRoute, metal.KernelGroup, metal.KernelExpertGateUp, metal.KernelExpertGateUpInt8,
	metal.KernelExpertDown, metal.KernelExpertDownInt8, metal.KernelCombine, metal.KernelGather,
}

func (e *Engine) loadPipelines() error {
	p := make(map[string]metal.Pipeline, len(kernelNames))
	for _, name := range kernelNames {
		var err error
		if p[name], err = e.dev.Pipeline(name); err != nil {
			return fmt.Errorf("engine: pipeline %s: %w", name, err)
		}
	}
	e.pipelines = p
	return nil
}

// allocate makes a buffer that lives as long as the engine.
func (e *Engine) allocate(n uint64, label string) (metal.Buffer, error) {
	b, err := e.dev.NewBuffer(n, label)
	if err != nil {
		return nil, fmt.Errorf("engine: %s: %w", label, err)
	}
	e.owned = append(e.owned, b)
	return b, nil
}

// wrapWeights binds every matrix: packed if that was asked for and the device can,
// else where the file is mapped.
func (e *Engine) wrapWeights() error {
	e.weights, e.packed = make(map[*model.Matrix]metal.Binding), make(map[*model.Matrix]bool)
	var done, total uint64
	if e.opt.Packing != nil {
		total = PackedBytes(e.model, e.opt, func(w metal.Weights) uint64 { return uint64(len(w.Data)) })
	}
	for _, m := range e.model.Matrices() {
		if e.opt.Packing != nil && e.opt.packs(e.model, m) {
			if err := e.opt.Packing(done, total); err != nil {
				return err
			}
			done += uint64(len(m.Data))
		}
		b, err := e.packWeights(m)
		if err == nil && b != nil {
			e.packed[m] = true
		} else if err == nil {
			b, err = e.dev.WrapBytes(m.Data, m.Name)
		}
		if err != nil {
			return fmt.Errorf("engine: weights %s: %w", m.Name, err)
		}
		e.owned = append(e.owned, b)
		e.weights[m] = metal.Binding{Buffer: b}
	}
	return nil
}

// packWeights packs one matrix, or returns nil if it stays as it is.
func (e *Engine) packWeights(m *model.Matrix) (metal.Buffer, error) {
	p, ok := e.dev.(metal.Packer)
	if !ok || !e.opt.packs(e.model, m) {
		return nil, nil
	}
	return p.PackWeights(weightsOf(m, e.int8[m]), m.Name)
}

func weightsOf(m *model.Matrix, int8 bool) metal.Weights {
	return metal.Weights{Data: m.Data, Type: uint32(m.Type), Rows: m.Rows, Cols: m.Cols, Count: m.Count, Int8: int8}
}

// packs reports whether a matrix is packed if the driver can.
func (o *Options) packs(m *model.Model, w *model.Matrix) bool {
	switch w.Type {
	case quant.Q4_K, quant.Q2_K, quant.IQ2_XXS:
		return o.PackK && w != m.Embed
	}
	return o.Pack && w != m.Embed
}

// PackedBytes is what Options.Pack and PackK take, for a driver that packs a matrix
// to size bytes.
func PackedBytes(m *model.Model, opt Options, size func(metal.Weights) uint64) (n uint64) {
	int8 := opt.int8Products(m)
	for _, w := range m.Matrices() {
		if opt.packs(m, w) {
			n += size(weightsOf(w, int8[w]))
		}
	}
	return n
}

// tokenBlock is how many tokens a threadgroup multiplies with a panel of m. A
// panel that is not packed is unpacked by each group, so there is one per panel.
func (e *Engine) tokenBlock(m *model.Matrix) int {
	if e.packed[m] {
		return packedBlock
	}
	return e.opt.ChunkTokens
}

// int8Products are the matrices whose products take int8 activations. Those that
// steer mixing and routing never do, and gate and up only together: they share a
// kernel.
func (o *Options) int8Products(m *model.Model) map[*model.Matrix]bool {
	set := make(map[*model.Matrix]bool)
	for _, w := range m.Matrices() {
		switch w.Type {
		case quant.Q8_0, quant.Q4_K, quant.Q2_K, quant.IQ2_XXS:
			set[w] = o.Numerics.ActInt8
		}
	}
	set[m.HeadHC.Fn] = false
	for i := range m.Layer {
		y := &m.Layer[i]
		set[y.AttnHC.Fn], set[y.FFNHC.Fn], set[y.Router] = false, false, false
		for _, p := range [2][2]*model.Matrix{{y.Gate, y.Up}, {y.SharedGate, y.SharedUp}} {
			both := set[p[0]] && set[p[1]]
			set[p[0]], set[p[1]] = both, both
		}
	}
	return set
}

// constants holds the small vectors of the model in one device buffer.
type constants struct {
	at     map[*float32]metal.Binding // by first element
	routes map[int]metal.Binding      // hash routes by layer
	freqs  metal.Binding              // rope frequencies, float64
	none   metal.Binding              // for arguments that a kernel does not read
}

func (c *constants) build(e *Engine) error {
	c.at, c.routes = map[*float32]metal.Binding{}, map[int]metal.Binding{}
	var data []byte
	var offsets []struct {
		v  []float32
		at uint64
	}
	freqs := e.model.RopeFrequencies()
	for _, f := range freqs {
		data = binary.LittleEndian.AppendUint64(data, math.Float64bits(f))
	}
	for _, v := range e.model.Vectors() {
		offsets = append(offsets, struct {
			v  []float32
			at uint64
		}{v, uint64(len(data))})
		for _, x := range v {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
		}
	}
	routesAt := map[int]uint64{}
	for i := range e.model.Layer {
		if r := e.model.Layer[i].HashRoutes; r != nil {
			routesAt[i] = uint64(len(data))
			for _, id := range r {
				data = binary.LittleEndian.AppendUint32(data, uint32(id))
			}
		}
	}
	b, err := e.allocate(uint64(len(data)), "constants")
	if err != nil {
		return err
	}
	copy(b.Bytes(), data)
	for _, o := range offsets {
		c.at[&o.v[0]] = metal.Binding{Buffer: b, Offset: o.at}
	}
	for i, at := range routesAt {
		c.routes[i] = metal.Binding{Buffer: b, Offset: at}
	}
	c.freqs, c.none = metal.Binding{Buffer: b}, metal.Binding{Buffer: b}
	return nil
}

func (c *constants) vector(v []float32) metal.Binding {
	if len(v) == 0 {
		return c.none
	}
	return c.at[&v[0]]
}

// maxExperts is the largest number of experts of any layer.
func maxExperts(m *model.Model) int {
	n := 0
	for i := range m.Layer {
		n = max(n, m.Layer[i].Experts)
	}
	return n
}

func hasRatio(m *model.Model, ratio int) bool { return slices.Contains(m.Ratios, ratio) }
