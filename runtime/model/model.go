// Package model reads a DeepSeek-V4-architecture model from a GGUF file:
// hyperparameters, checked weights, and the identity that keys its KV cache.
// Weights stay where the file is mapped; nothing is copied but small vectors.
package model

import (
	"fmt"

	"ds4/metal/quant"
	"ds4/runtime/gguf"
)

// Matrix is a weight matrix, or a stack of equally shaped ones (experts), in
// the file's own encoding.
type Matrix struct {
	Name  string
	Type  quant.Type
	Rows  int // output width
	Cols  int // input width
	Count int // matrices in the stack; 1 unless experts
	Data  []byte
}

// Layer holds the weights of one layer. Pointers are nil where the layer has no
// such part.
type Layer struct {
	Ratio int // 0, 4 or 128 tokens per compressed row

	AttnHC, FFNHC HyperConnection

	AttnNorm, FFNNorm []float32 // [Dim]
	QA                *Matrix   // [QRank, Dim]
	QANorm            []float32 // [QRank]
	QB                *Matrix   // [Heads*HeadDim, QRank]
	KV                *Matrix   // [HeadDim, Dim]
	KVNorm            []float32 // [HeadDim]
	Sinks             []float32 // [Heads]
	OutA              *Matrix   // [OGroups*ORank, Heads*HeadDim/OGroups]
	OutB              *Matrix   // [Dim, OGroups*ORank]

	Comp  *Compressor // ratio 4 and 128
	Index *Indexer    // ratio 4

	Router     *Matrix   // [Experts, Dim]
	RouterBias []float32 // [Experts], selection only; nil if absent
	HashRoutes []int32   // [Vocab*ExpertsUsed]; nil unless a hash layer
	Experts    int       // experts of this layer: some files drop some
	Gate, Up   *Matrix   // [ExpertDim, Dim] x Experts
	Down       *Matrix   // [Dim, ExpertDim] x Experts
	SharedGate *Matrix   // [ExpertDim, Dim]
	SharedUp   *Matrix
	SharedDown *Matrix // [Dim, ExpertDim]
}

// HyperConnection holds the mixing parameters before and after a sublayer.
type HyperConnection struct {
	Fn    *Matrix   // [MixDim, HC*Dim]
	Base  []float32 // [MixDim]
	Scale []float32 // [3]: pre, post, comb
}

// Compressor pools windows of tokens into rows.
type Compressor struct {
	KV, Gate *Matrix   // [lanes*width, Dim]
	APE      []float32 // [ratio][lanes*width]: added to the gate by slot in the window
	Norm     []float32 // [width]
}

// Indexer chooses which compressed rows a query attends to.
type Indexer struct {
	QB   *Matrix // [IndexHeads*IndexDim, QRank]
	Proj *Matrix // [IndexHeads, Dim]
	Comp Compressor
}

// Model is a loaded model.
type Model struct {
	Config
	Name   string
	File   *gguf.File
	Layer  []Layer
	Embed  *Matrix // [Vocab, Dim]
	Output *Matrix // [Vocab, Dim]

	OutputNorm []float32       // [Dim]
	HeadHC     HyperConnection // Fn [HC, HC*Dim], Base [HC], Scale [1]
}

// loader finds tensors and remembers the first error.
type loader struct {
	f   *gguf.File
	err error
}

func (l *loader) fail(err error) {
	if l.err == nil {
		l.err = err
	}
}

func (l *loader) tensor(name string, dims ...int) *gguf.Tensor {
	t, ok := l.f.Tensor(name)
	if !ok {
		l.fail(fmt.Errorf("model: tensor %s: %w", name, ErrMissing))
		return nil
	}
	ok = len(t.Dims) == len(dims)
	for i := 0; ok && i < len(dims); i++ {
		ok = t.Dims[i] == uint64(dims[i])
	}
	if !ok {
		l.fail(fmt.Errorf("model: tensor %s has dimensions %v, want %v: %w", name, t.Dims, dims, ErrShape))
		return nil
	}
	return t
}

// matrix finds a weight of rows x cols; count > 0 asks for a stack of matrices.
func (l *loader) matrix(name string, rows, cols, count int) *Matrix {
	dims := []int{cols, rows}
	if count > 0 {
		dims = append(dims, count)
	}
	t := l.tensor(name, dims...)
	if t == nil {
		return nil
	}
	if !l.floating(t) {
		return nil
	}
	return &Matrix{Name: name, Type: t.Type, Rows: rows, Cols: cols, Count: max(count, 1), Data: t.Data}
}

// floating refuses tensors that do not hold numbers with a fraction.
func (l *loader) floating(t *gguf.Tensor) bool {
	ok := t.Type.Supported() && t.Type != quant.I32
	if !ok {
		l.fail(fmt.Errorf("model: tensor %s has type %s: %w", t.Name, t.Type, ErrUnsupported))
	}
	return ok
}

// floats decodes a small tensor of any float type.
func (l *loader) floats(name string, dims ...int) []float32 {
	t := l.tensor(name, dims...)
	if t == nil || !l.floating(t) {
		return nil
	}
	n := 1
	for _, d := range dims {
		n *= d
	}
	out := make([]float32, n)
	if err := quant.DecodeRow(t.Type, out, t.Data); err != nil {
		l.fail(fmt.Errorf("model: tensor %s: %w", name, err))
		return nil
	}
	return out
}

// Load checks f and returns its model. f must stay open as long as the model is
// used: the weights are views of it.
func Load(f *gguf.File) (*Model, error) {
	c, err := readConfig(f)
	if err != nil {
		return nil, err
	}
	m := &Model{Config: c, File: f, Name: "deepseek4"}
	if v, ok := f.Value("general.name"); ok {
		if s, err := v.Str(); err == nil && s != "" {
			m.Name = s
		}
	}
	l := &loader{f: f}
	m.Embed = l.matrix("token_embd.weight", c.Vocab, c.Dim, 0)
	m.Output = l.matrix("output.weight", c.Vocab, c.Dim, 0)
	m.OutputNorm = l.floats("output_norm.weight", c.Dim)
	m.HeadHC = HyperConnection{
		Fn:    l.matrix("output_hc_fn.weight", c.HC, c.HC*c.Dim, 0),
		Base:  l.floats("output_hc_base.weight", c.HC),
		Scale: l.floats("output_hc_scale.weight", 1),
	}
	m.Layer = make([]Layer, c.Layers)
	for i := range m.Layer {
		l.layer(&c, i, &m.Layer[i])
	}
	if l.err != nil {
		return nil, l.err
	}
	return m, nil
}

func (l *loader) layer(c *Config, i int, y *Layer) {
	p := fmt.Sprintf("blk.%d.", i)
	hc := func(part string) HyperConnection {
		return HyperConnection{
			Fn:    l.matrix(p+"hc_"+part+"_fn.weight", c.MixDim(), c.HC*c.Dim, 0),
			Base:  l.floats(p+"hc_"+part+"_base.weight", c.MixDim()),
			Scale: l.floats(p+"hc_"+part+"_scale.weight", 3),
		}
	}
	y.Ratio = c.Ratios[i]
	y.AttnHC, y.FFNHC = hc("attn"), hc("ffn")
	y.AttnNorm = l.floats(p+"attn_norm.weight", c.Dim)
	y.FFNNorm = l.floats(p+"ffn_norm.weight", c.Dim)
	y.QA = l.matrix(p+"attn_q_a.weight", c.QRank, c.Dim, 0)
	y.QANorm = l.floats(p+"attn_q_a_norm.weight", c.QRank)
	y.QB = l.matrix(p+"attn_q_b.weight", c.Heads*c.HeadDim, c.QRank, 0)
	y.KV = l.matrix(p+"attn_kv.weight", c.HeadDim, c.Dim, 0)
	y.KVNorm = l.floats(p+"attn_kv_a_norm.weight", c.HeadDim)
	y.Sinks = l.floats(p+"attn_sinks.weight", c.Heads)
	y.OutA = l.matrix(p+"attn_output_a.weight", c.OGroups*c.ORank, c.Heads*c.HeadDim/c.OGroups, 0)
	y.OutB = l.matrix(p+"attn_output_b.weight", c.Dim, c.OGroups*c.ORank, 0)
	if y.Ratio != 0 {
		comp := l.compressor(p+"attn_compressor", c, y.Ratio, c.HeadDim)
		y.Comp = &comp
	}
	if y.Ratio == 4 {
		y.Index = &Indexer{
			QB:   l.matrix(p+"indexer.attn_q_b.weight", c.IndexHeads*c.IndexDim, c.QRank, 0),
			Proj: l.matrix(p+"indexer.proj.weight", c.IndexHeads, c.Dim, 0),
			Comp: l.compressor(p+"indexer_compressor", c, y.Ratio, c.IndexDim),
		}
	}
	l.moe(p, c, i, y)
}

func (l *loader) compressor(p string, c *Config, ratio, width int) Compressor {
	w := CompressorLanes(ratio) * width
	return Compressor{
		KV:   l.matrix(p+"_kv.weight", w, c.Dim, 0),
		Gate: l.matrix(p+"_gate.weight", w, c.Dim, 0),
		APE:  l.floats(p+"_ape.weight", w, ratio),
		Norm: l.floats(p+"_norm.weight", width),
	}
}

func (l *loader) moe(p string, c *Config, i int, y *Layer) {
	// Some files have fewer experts in some layers than the metadata says: the
	// router's own shape decides.
	y.Experts = c.Experts
	if t, ok := l.f.Tensor(p + "ffn_gate_inp.weight"); ok && len(t.Dims) == 2 {
		if n := t.Dims[1]; n >= uint64(c.ExpertsUsed) && n <= maxExperts {
			y.Experts = int(n)
		}
	}
	y.Router = l.matrix(p+"ffn_gate_inp.weight", y.Experts, c.Dim, 0)
	if _, ok := l.f.Tensor(p + "exp_probs_b.bias"); ok {
		y.RouterBias = l.floats(p+"exp_probs_b.bias", y.Experts)
	}
	if i < c.HashLayers {
		y.HashRoutes = l.hashRoutes(p+"ffn_gate_tid2eid.weight", c, y.Experts)
	}
	y.Gate = l.matrix(p+"ffn_gate_exps.weight", c.ExpertDim, c.Dim, y.Experts)
	y.Up = l.matrix(p+"ffn_up_exps.weight", c.ExpertDim, c.Dim, y.Experts)
	y.Down = l.matrix(p+"ffn_down_exps.weight", c.Dim, c.ExpertDim, y.Experts)
	y.SharedGate = l.matrix(p+"ffn_gate_shexp.weight", c.ExpertDim, c.Dim, 0)
	y.SharedUp = l.matrix(p+"ffn_up_shexp.weight", c.ExpertDim, c.Dim, 0)
	y.SharedDown = l.matrix(p+"ffn_down_shexp.weight", c.Dim, c.ExpertDim, 0)
}

// hashRoutes reads the token-to-expert table and checks every entry: a kernel
// would index with it.
func (l *loader) hashRoutes(name string, c *Config, experts int) []int32 {
	t := l.tensor(name, c.ExpertsUsed, c.Vocab)
	if t == nil {
		return nil
	}
	if t.Type != quant.I32 {
		l.fail(fmt.Errorf("model: tensor %s has type %s, want I32: %w", name, t.Type, ErrUnsupported))
		return nil
	}
	out := make([]int32, c.ExpertsUsed*c.Vocab)
	if err := quant.DecodeInt32(out, t.Data); err != nil {
		l.fail(fmt.Errorf("model: tensor %s: %w", name, err))
		return nil
	}
	for j, e := range out {
		if e < 0 || int(e) >= experts {
			l.fail(fmt.Errorf("model: tensor %s: token %d routes to expert %d of %d: %w", name, j/c.ExpertsUsed, e, experts, ErrUnsupported))
			return nil
		}
	}
	return out
}

// Matrices lists every weight matrix once.
func (m *Model) Matrices() []*Matrix {
	out := []*Matrix{m.Embed, m.Output, m.HeadHC.Fn}
	for i := range m.Layer {
		y := &m.Layer[i]
		out = append(out, y.AttnHC.Fn, y.FFNHC.Fn, y.QA, y.QB, y.KV, y.OutA, y.OutB,
			y.Router, y.Gate, y.Up, y.Down, y.SharedGate, y.SharedUp, y.SharedDown)
		if y.Comp != nil {
			out = append(out, y.Comp.KV, y.Comp.Gate)
		}
		if y.Index != nil {
			out = append(out, y.Index.QB, y.Index.Proj, y.Index.Comp.KV, y.Index.Comp.Gate)
		}
	}
	return out
}

// Vectors lists every decoded vector once.
func (m *Model) Vectors() [][]float32 {
	out := [][]float32{m.OutputNorm, m.HeadHC.Base, m.HeadHC.Scale}
	for i := range m.Layer {
		y := &m.Layer[i]
		out = append(out, y.AttnHC.Base, y.AttnHC.Scale, y.FFNHC.Base, y.FFNHC.Scale,
			y.AttnNorm, y.FFNNorm, y.QANorm, y.KVNorm, y.Sinks)
		if y.RouterBias != nil {
			out = append(out, y.RouterBias)
		}
		if y.Comp != nil {
			out = append(out, y.Comp.APE, y.Comp.Norm)
		}
		if y.Index != nil {
			out = append(out, y.Index.Comp.APE, y.Index.Comp.Norm)
		}
	}
	return out
}
