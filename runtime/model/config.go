package model

import (
	"fmt"
	"math"

	"ds4/runtime/gguf"
)

// Limits on hyperparameters. A file that exceeds one is refused before anything
// is allocated in proportion to it.
const (
	maxLayers   = 1024
	maxDim      = 1 << 17
	maxVocab    = 1 << 22
	maxExperts  = 4096
	maxUsed     = 64 // experts per token
	maxHC       = 8  // hyper-connection streams
	maxSinkhorn = 1000
	maxWindow   = 1 << 16
	maxTopK     = 1 << 16
	fp8Block    = 64  // values that share an FP8 scale
	hadamardDim = 128 // width of the indexer's Hadamard transform
)

// Config holds the hyperparameters of a deepseek4 model. All of them come from
// the file's metadata.
type Config struct {
	Layers   int // main layers; draft layers are not counted
	Dim      int // width of one stream
	Vocab    int
	Heads    int
	HeadDim  int // key and value width: one row serves as both
	RotDim   int // rotated tail of a row
	QRank    int // q_lora_rank
	ORank    int // output_lora_rank
	OGroups  int // output_group_count
	Window   int // sliding window in tokens, the current one included
	Ratios   []int
	TrainCtx int // context_length: informative

	RopeBase     float64 // layers without compression
	CompRopeBase float64 // layers with compression, with YaRN
	YarnFactor   float64
	YarnOrigCtx  float64
	YarnBetaFast float64
	YarnBetaSlow float64

	IndexHeads int
	IndexDim   int
	IndexTopK  int

	NormEps float64

	Experts      int
	ExpertsUsed  int
	ExpertDim    int // expert_feed_forward_length
	ExpertScale  float32
	HashLayers   int       // layers 0..HashLayers-1 route by token id
	Clamp        []float32 // SwiGLU limit of routed experts, per layer
	ClampShared  []float32 // the same for the shared expert
	HC           int       // hyper-connection streams
	SinkhornIter int
	HCEps        float64
}

// metaReader collects the first error, so that reading the metadata stays a list.
type metaReader struct {
	f   *gguf.File
	err error
}

func (r *metaReader) fail(key string, err error) {
	if r.err == nil {
		r.err = fmt.Errorf("model: metadata %s: %w", key, err)
	}
}

func (r *metaReader) value(key string) (gguf.Value, bool) {
	v, ok := r.f.Value(key)
	if !ok {
		r.fail(key, ErrMissing)
	}
	return v, ok
}

func (r *metaReader) int(key string, lo, hi int) int {
	v, ok := r.value(key)
	if !ok {
		return 0
	}
	u, err := v.Uint()
	if err == nil && (u < uint64(lo) || u > uint64(hi)) {
		err = fmt.Errorf("is %d, want %d to %d", u, lo, hi)
	}
	if err != nil {
		r.fail(key, err)
		return 0
	}
	return int(u)
}

func (r *metaReader) intOr(key string, def, lo, hi int) int {
	if _, ok := r.f.Value(key); !ok {
		return def
	}
	return r.int(key, lo, hi)
}

func (r *metaReader) float(key string, lo, hi float64) float64 {
	v, ok := r.value(key)
	if !ok {
		return 0
	}
	x, err := v.Float()
	if err == nil && !(x >= lo && x <= hi) {
		err = fmt.Errorf("is %g, want %g to %g", x, lo, hi)
	}
	if err != nil {
		r.fail(key, err)
		return 0
	}
	return x
}

// floats reads an array of at least n numbers and drops what lies past n.
func (r *metaReader) floats(key string, n int) []float32 {
	v, ok := r.value(key)
	if !ok {
		return make([]float32, n)
	}
	xs, err := v.Floats()
	if err == nil && len(xs) < n {
		err = fmt.Errorf("has %d entries, want at least %d", len(xs), n)
	}
	if err != nil {
		r.fail(key, err)
		return make([]float32, n)
	}
	out := make([]float32, n)
	for i := range out {
		if math.IsNaN(xs[i]) || xs[i] <= 0 {
			r.fail(key, fmt.Errorf("entry %d is %g, want a positive number", i, xs[i]))
			return out
		}
		out[i] = float32(xs[i])
	}
	return out
}

const keyPrefix = "deepseek4."

// readConfig reads and checks the hyperparameters of f.
func readConfig(f *gguf.File) (Config, error) {
	if v, ok := f.Value("general.architecture"); !ok {
		return Config{}, fmt.Errorf("model: metadata general.architecture: %w", ErrMissing)
	} else if arch, err := v.Str(); err != nil || arch != "deepseek4" {
		return Config{}, fmt.Errorf("model: general.architecture is %q: %w", arch, ErrArchitecture)
	}
	r := &metaReader{f: f}
	k := func(s string) string { return keyPrefix + s }
	c := Config{
		Layers:   r.int(k("block_count"), 1, maxLayers),
		Dim:      r.int(k("embedding_length"), 1, maxDim),
		Vocab:    r.int(k("vocab_size"), 1, maxVocab),
		Heads:    r.int(k("attention.head_count"), 1, 4096),
		HeadDim:  r.int(k("attention.key_length"), 2, 8192),
		RotDim:   r.int(k("rope.dimension_count"), 2, 8192),
		QRank:    r.int(k("attention.q_lora_rank"), 1, maxDim),
		ORank:    r.int(k("attention.output_lora_rank"), 1, maxDim),
		OGroups:  r.int(k("attention.output_group_count"), 1, 4096),
		Window:   r.int(k("attention.sliding_window"), 1, maxWindow),
		TrainCtx: r.intOr(k("context_length"), 0, 0, math.MaxInt32),

		RopeBase:     r.float(k("rope.freq_base"), 1, 1e12),
		CompRopeBase: r.float(k("attention.compress_rope_freq_base"), 1, 1e12),
		YarnFactor:   r.float(k("rope.scaling.factor"), 1e-3, 1e6),
		YarnOrigCtx:  r.float(k("rope.scaling.original_context_length"), 1, 1e9),
		YarnBetaFast: r.float(k("rope.scaling.yarn_beta_fast"), 1e-6, 1e6),
		YarnBetaSlow: r.float(k("rope.scaling.yarn_beta_slow"), 1e-6, 1e6),

		IndexHeads: r.int(k("attention.indexer.head_count"), 1, 4096),
		IndexDim:   r.int(k("attention.indexer.key_length"), hadamardDim, hadamardDim),
		IndexTopK:  r.int(k("attention.indexer.top_k"), 1, maxTopK),

		NormEps: r.float(k("attention.layer_norm_rms_epsilon"), 0, 1),

		Experts:      r.int(k("expert_count"), 1, maxExperts),
		ExpertsUsed:  r.int(k("expert_used_count"), 1, maxUsed),
		ExpertDim:    r.int(k("expert_feed_forward_length"), 1, maxDim),
		ExpertScale:  float32(r.float(k("expert_weights_scale"), 1e-6, 1e6)),
		HashLayers:   r.intOr(k("hash_layer_count"), 0, 0, maxLayers),
		HC:           r.int(k("hyper_connection.count"), 1, maxHC),
		SinkhornIter: r.int(k("hyper_connection.sinkhorn_iterations"), 1, maxSinkhorn),
		HCEps:        r.float(k("hyper_connection.epsilon"), 0, 1),
	}
	if r.err != nil {
		return Config{}, r.err
	}
	c.Clamp = r.floats(k("swiglu_clamp_exp"), c.Layers)
	c.ClampShared = c.Clamp
	if _, ok := f.Value(k("swiglu_clamp_shexp")); ok {
		c.ClampShared = r.floats(k("swiglu_clamp_shexp"), c.Layers)
	}
	c.Ratios = r.ratios(k("attention.compress_ratios"), c.Layers)
	r.int(k("attention.head_count_kv"), 1, 1)
	r.int(k("attention.value_length"), c.HeadDim, c.HeadDim)
	r.intOr(k("expert_gating_func"), 4, 4, 4)
	r.intOr(k("expert_shared_count"), 1, 1, 1)
	r.intOr(k("expert_group_count"), 0, 0, 0)
	r.intOr(k("expert_group_used_count"), 0, 0, 0)
	if r.err != nil {
		return Config{}, r.err
	}
	return c, c.check()
}

func (r *metaReader) ratios(key string, n int) []int {
	v, ok := r.value(key)
	if !ok {
		return nil
	}
	us, err := v.Uints()
	if err == nil && len(us) < n {
		err = fmt.Errorf("has %d entries, want at least %d", len(us), n)
	}
	if err != nil {
		r.fail(key, err)
		return nil
	}
	out := make([]int, n)
	for i := range out {
		switch us[i] {
		case 0, 4, 128:
			out[i] = int(us[i])
		default:
			r.fail(key, fmt.Errorf("entry %d is %d, want 0, 4 or 128", i, us[i]))
			return nil
		}
	}
	return out
}

// check verifies the relations between hyperparameters that the kernels rely on.
func (c *Config) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("model: "+format+": %w", append(args, ErrUnsupported)...)
	}
	switch nope := c.HeadDim - c.RotDim; {
	case c.RotDim%2 != 0:
		return bad("rope.dimension_count %d is odd", c.RotDim)
	case nope < 0 || nope%fp8Block != 0:
		return bad("key_length %d minus rope.dimension_count %d is not a multiple of %d", c.HeadDim, c.RotDim, fp8Block)
	case c.IndexDim < c.RotDim:
		return bad("indexer.key_length %d is less than rope.dimension_count %d", c.IndexDim, c.RotDim)
	case c.Heads%c.OGroups != 0:
		return bad("head_count %d is not a multiple of output_group_count %d", c.Heads, c.OGroups)
	case c.ExpertsUsed > c.Experts:
		return bad("expert_used_count %d exceeds expert_count %d", c.ExpertsUsed, c.Experts)
	}
	return nil
}

// MixDim is the number of mixing values of one hyper-connection: pre and post
// per stream, and the stream-to-stream matrix.
func (c *Config) MixDim() int { return 2*c.HC + c.HC*c.HC }

// CompressorLanes is how many rows' worth of values a token contributes to the
// compressor of a layer with the given ratio: 2 where windows overlap.
func CompressorLanes(ratio int) int {
	switch ratio {
	case 4:
		return 2
	case 0:
		return 0
	}
	return 1
}
