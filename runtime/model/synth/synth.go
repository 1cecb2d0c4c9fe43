// Package synth writes models with random weights in the published layout, for
// tests and benchmarks where real weights are not wanted. The files are valid
// in every respect but sense: what such a model says means nothing.
//
// The same Spec gives the same bytes.
package synth

import (
	"fmt"
	"math"
	"math/rand/v2"

	"ds4/metal/quant"
	"ds4/runtime/gguf"
)

// Spec describes a model. Zero values of Matrix, Experts, Down and Control mean F32.
type Spec struct {
	Seed   uint64
	Ratios []int // one per layer: 0, 4 or 128

	Dim, Vocab             int
	Heads, HeadDim, RotDim int
	QRank, ORank, OGroups  int
	Window                 int
	IndexHeads, IndexTopK  int
	Experts, ExpertsUsed   int
	ExpertDim              int
	HashLayers             int
	HC                     int

	Matrix  quant.Type // attention, shared expert and output matrices
	Control quant.Type // embedding, hyper-connections, router, compressors
	Expert  quant.Type // routed gate and up
	Down    quant.Type // routed down

	// Blocks draws the blocks of quantised matrices, in place of values that are
	// then encoded: gigabytes in seconds, at the price of less natural codes.
	Blocks bool
}

// Small is a model of the whole architecture that runs thousands of tokens a
// second, with a window and a top-k that a hundred tokens outgrow.
func Small(seed uint64) Spec {
	return Spec{
		Seed: seed, Ratios: []int{0, 4, 128, 4}, Dim: 64, Vocab: 96,
		Heads: 4, HeadDim: 128, RotDim: 64, QRank: 32, ORank: 32, OGroups: 2,
		Window: 16, IndexHeads: 2, IndexTopK: 8,
		Experts: 4, ExpertsUsed: 2, ExpertDim: 64, HashLayers: 2, HC: 4,
		Matrix: quant.Q8_0, Control: quant.F16, Expert: quant.Q8_0, Down: quant.Q8_0,
	}
}

const indexDim = 128

// builder adds tensors and remembers the first error.
type builder struct {
	w      *gguf.Writer
	rng    *rand.Rand
	blocks bool
	err    error
}

// tensor adds random values of mean and standard deviation.
func (b *builder) tensor(name string, t quant.Type, mean, std float64, dims ...int) {
	n := 1
	ne := make([]uint64, len(dims))
	for i, d := range dims {
		n *= d
		ne[i] = uint64(d)
	}
	if b.blocks && t.BlockSize() > 1 {
		b.add(b.w.Add(name, t, ne, emitBlocks(t, n/t.BlockSize(), std, b.rng.Uint64())))
		return
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(mean + std*b.rng.NormFloat64())
	}
	b.add(b.w.AddFloats(name, t, ne, v))
}

// matrix adds weights scaled to keep activations at unit size: ne = [cols, rows, ...].
func (b *builder) matrix(name string, t quant.Type, dims ...int) {
	b.tensor(name, t, 0, 1/math.Sqrt(float64(dims[0])), dims...)
}

func (b *builder) norm(name string, n int) { b.tensor(name, quant.F32, 1, 0.1, n) }

func (b *builder) set(key string, v gguf.Value) { b.add(b.w.Set(key, v)) }

func (b *builder) add(err error) {
	if b.err == nil {
		b.err = err
	}
}

// Writer returns a writer that holds the model.
func Writer(s Spec) (*gguf.Writer, error) {
	b := &builder{w: gguf.NewWriter(), rng: rand.New(rand.NewPCG(s.Seed, 0x6473_3473_796e_7468)), blocks: s.Blocks}
	b.metadata(&s)
	b.matrix("token_embd.weight", s.Control, s.Dim, s.Vocab)
	b.matrix("output.weight", s.Matrix, s.Dim, s.Vocab)
	b.norm("output_norm.weight", s.Dim)
	b.hyper("output_hc", &s, s.HC, 1)
	for i := range s.Ratios {
		b.layer(&s, i)
	}
	if b.err != nil {
		return nil, fmt.Errorf("synth: %w", b.err)
	}
	return b.w, nil
}

func (b *builder) hyper(prefix string, s *Spec, mix, scales int) {
	b.matrix(prefix+"_fn.weight", s.Control, s.HC*s.Dim, mix)
	b.tensor(prefix+"_base.weight", quant.F32, 0, 0.7, mix)
	b.tensor(prefix+"_scale.weight", quant.F32, 1, 0.1, scales)
}

func (b *builder) layer(s *Spec, i int) {
	p := fmt.Sprintf("blk.%d.", i)
	mix := 2*s.HC + s.HC*s.HC
	b.hyper(p+"hc_attn", s, mix, 3)
	b.hyper(p+"hc_ffn", s, mix, 3)
	b.norm(p+"attn_norm.weight", s.Dim)
	b.norm(p+"ffn_norm.weight", s.Dim)
	b.matrix(p+"attn_q_a.weight", s.Matrix, s.Dim, s.QRank)
	b.norm(p+"attn_q_a_norm.weight", s.QRank)
	b.matrix(p+"attn_q_b.weight", s.Matrix, s.QRank, s.Heads*s.HeadDim)
	b.matrix(p+"attn_kv.weight", s.Matrix, s.Dim, s.HeadDim)
	b.norm(p+"attn_kv_a_norm.weight", s.HeadDim)
	b.tensor(p+"attn_sinks.weight", quant.F32, 0, 1, s.Heads)
	b.matrix(p+"attn_output_a.weight", s.Matrix, s.Heads*s.HeadDim/s.OGroups, s.OGroups*s.ORank)
	b.matrix(p+"attn_output_b.weight", s.Matrix, s.OGroups*s.ORank, s.Dim)
	if r := s.Ratios[i]; r != 0 {
		b.compressor(p+"attn_compressor", s, r, s.HeadDim)
	}
	if s.Ratios[i] == 4 {
		b.matrix(p+"indexer.attn_q_b.weight", s.Control, s.QRank, s.IndexHeads*indexDim)
		b.matrix(p+"indexer.proj.weight", s.Control, s.Dim, s.IndexHeads)
		b.compressor(p+"indexer_compressor", s, 4, indexDim)
	}
	b.moe(p, s, i)
}

func (b *builder) compressor(p string, s *Spec, ratio, width int) {
	if ratio == 4 {
		b.matrix(p+"_kv.weight", s.Control, s.Dim, 2*width)
		b.matrix(p+"_gate.weight", s.Control, s.Dim, 2*width)
		b.tensor(p+"_ape.weight", s.Control, 0, 0.5, 2*width, ratio)
	} else {
		b.matrix(p+"_kv.weight", s.Control, s.Dim, width)
		b.matrix(p+"_gate.weight", s.Control, s.Dim, width)
		b.tensor(p+"_ape.weight", s.Control, 0, 0.5, width, ratio)
	}
	b.norm(p+"_norm.weight", width)
}

func (b *builder) moe(p string, s *Spec, i int) {
	b.tensor(p+"ffn_gate_inp.weight", s.Control, 0, 2/math.Sqrt(float64(s.Dim)), s.Dim, s.Experts)
	if i < s.HashLayers {
		b.routes(p+"ffn_gate_tid2eid.weight", s)
	} else {
		b.tensor(p+"exp_probs_b.bias", quant.F32, 0, 0.3, s.Experts)
	}
	b.matrix(p+"ffn_gate_exps.weight", s.Expert, s.Dim, s.ExpertDim, s.Experts)
	b.matrix(p+"ffn_up_exps.weight", s.Expert, s.Dim, s.ExpertDim, s.Experts)
	b.matrix(p+"ffn_down_exps.weight", s.Down, s.ExpertDim, s.Dim, s.Experts)
	b.matrix(p+"ffn_gate_shexp.weight", s.Matrix, s.Dim, s.ExpertDim)
	b.matrix(p+"ffn_up_shexp.weight", s.Matrix, s.Dim, s.ExpertDim)
	b.matrix(p+"ffn_down_shexp.weight", s.Matrix, s.ExpertDim, s.Dim)
}

// routes adds a table that gives every token distinct experts.
func (b *builder) routes(name string, s *Spec) {
	ids := make([]float32, 0, s.Vocab*s.ExpertsUsed)
	for range s.Vocab {
		for _, e := range b.rng.Perm(s.Experts)[:s.ExpertsUsed] {
			ids = append(ids, float32(e))
		}
	}
	b.add(b.w.AddFloats(name, quant.I32, []uint64{uint64(s.ExpertsUsed), uint64(s.Vocab)}, ids))
}

func (b *builder) metadata(s *Spec) {
	const k = "deepseek4."
	u := func(key string, v int) { b.set(k+key, gguf.Uint32(uint32(v))) }
	f := func(key string, v float32) { b.set(k+key, gguf.Float32(v)) }
	b.set("general.architecture", gguf.String("deepseek4"))
	b.set("general.name", gguf.String(fmt.Sprintf("random weights, seed %d", s.Seed)))
	u("block_count", len(s.Ratios))
	u("context_length", 1<<20)
	u("embedding_length", s.Dim)
	u("vocab_size", s.Vocab)
	u("attention.head_count", s.Heads)
	u("attention.head_count_kv", 1)
	u("attention.key_length", s.HeadDim)
	u("attention.value_length", s.HeadDim)
	u("rope.dimension_count", s.RotDim)
	u("attention.q_lora_rank", s.QRank)
	u("attention.output_lora_rank", s.ORank)
	u("attention.output_group_count", s.OGroups)
	u("attention.sliding_window", s.Window)
	ratios := make([]int32, len(s.Ratios))
	clamps := make([]float32, len(s.Ratios))
	for i, r := range s.Ratios {
		ratios[i], clamps[i] = int32(r), 10
	}
	b.set(k+"attention.compress_ratios", gguf.Int32s(ratios))
	b.set(k+"swiglu_clamp_exp", gguf.Float32s(clamps))
	f("attention.compress_rope_freq_base", 160000)
	u("attention.indexer.head_count", s.IndexHeads)
	u("attention.indexer.key_length", indexDim)
	u("attention.indexer.top_k", s.IndexTopK)
	f("attention.layer_norm_rms_epsilon", 1e-6)
	f("rope.freq_base", 10000)
	b.set(k+"rope.scaling.type", gguf.String("yarn"))
	f("rope.scaling.factor", 16)
	u("rope.scaling.original_context_length", 65536)
	f("rope.scaling.yarn_beta_fast", 32)
	f("rope.scaling.yarn_beta_slow", 1)
	u("expert_count", s.Experts)
	u("expert_used_count", s.ExpertsUsed)
	u("expert_shared_count", 1)
	u("expert_feed_forward_length", s.ExpertDim)
	f("expert_weights_scale", 1.5)
	b.set(k+"expert_weights_norm", gguf.Bool(true))
	u("expert_gating_func", 4)
	u("hash_layer_count", s.HashLayers)
	u("hyper_connection.count", s.HC)
	u("hyper_connection.sinkhorn_iterations", 20)
	f("hyper_connection.epsilon", 1e-6)
}
