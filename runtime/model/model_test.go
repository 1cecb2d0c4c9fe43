package model_test

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"ds4/metal/quant"
	"ds4/runtime/gguf"
	"ds4/runtime/model"
	"ds4/runtime/model/synth"
	"ds4/runtime/model/tiny"
)

// change says what to do differently when a file is written again.
type change struct {
	values map[string]gguf.Value // replaced or added
	drop   string                // key or tensor left out
	tensor func(*gguf.Tensor)    // edits a copy
}

// smallFile writes a small random model with a change.
func smallFile(t *testing.T, c change) *gguf.File {
	t.Helper()
	w, err := synth.Writer(synth.Small(1))
	if err != nil {
		t.Fatal(err)
	}
	f := parse(t, w)
	out := gguf.NewWriter()
	set := func(key string, v gguf.Value) {
		if err := out.Set(key, v); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range f.Keys() {
		v, _ := f.Value(key)
		if n, ok := c.values[key]; ok {
			v = n
		}
		if key != c.drop {
			set(key, v)
		}
	}
	for key, v := range c.values {
		if _, ok := f.Value(key); !ok {
			set(key, v)
		}
	}
	for _, p := range f.Tensors() {
		tensor := *p
		if c.tensor != nil {
			c.tensor(&tensor)
		}
		if tensor.Name == c.drop {
			continue
		}
		if err := out.AddBytes(tensor.Name, tensor.Type, tensor.Dims, tensor.Data); err != nil {
			t.Fatal(err)
		}
	}
	return parse(t, out)
}

func parse(t *testing.T, w *gguf.Writer) *gguf.File {
	t.Helper()
	var buf bytes.Buffer
	if _, err := w.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(buf.Bytes(), "small")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLoadTiny(t *testing.T) {
	f, err := tiny.Open()
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "ds4-tiny" || m.Layers != 7 || m.Dim != 256 || m.Vocab != 8192 || m.HeadDim != 192 || m.Window != 128 {
		t.Errorf("unexpected hyperparameters: %+v", m.Config)
	}
	// The entry past block_count is that of a draft layer and does not count.
	if len(m.Ratios) != 7 || m.Layer[6].Index == nil || m.Layer[5].Comp == nil || m.Layer[0].Comp != nil {
		t.Errorf("ratios %v do not match the layers' parts", m.Ratios)
	}
}

func TestLoadRefuses(t *testing.T) {
	const k = "deepseek4."
	u := gguf.Uint32
	value := func(key string, v gguf.Value) change {
		return change{values: map[string]gguf.Value{key: v}}
	}
	for _, c := range []struct {
		name   string
		change change
		want   error  // wrapped, if not nil
		text   string // part of the message
	}{
		{"other architecture", value("general.architecture", gguf.String("llama")), model.ErrArchitecture, "llama"},
		{"no architecture", change{drop: "general.architecture"}, model.ErrMissing, "general.architecture"},
		{"no window", change{drop: k + "attention.sliding_window"}, model.ErrMissing, "attention.sliding_window"},
		{"no layers", value(k+"block_count", u(0)), nil, "want 1 to"},
		{"too many layers", value(k+"block_count", u(1<<30)), nil, "want 1 to 1024"},
		{"more layers than tensors", value(k+"block_count", u(5)), nil, "has 4 entries, want at least 5"},
		{"text for a number", value(k+"embedding_length", gguf.String("64")), nil, "embedding_length"},
		{"several key heads", value(k+"attention.head_count_kv", u(2)), nil, "head_count_kv"},
		{"value width", value(k+"attention.value_length", u(64)), nil, "value_length"},
		{"unknown ratio", value(k+"attention.compress_ratios", gguf.Int32s([]int32{0, 4, 64, 4})), nil, "entry 2 is 64"},
		{"short ratios", value(k+"attention.compress_ratios", gguf.Int32s([]int32{0, 4})), nil, "has 2 entries"},
		{"odd rope", value(k+"rope.dimension_count", u(63)), model.ErrUnsupported, "odd"},
		{"rope wider than a row", value(k+"rope.dimension_count", u(256)), model.ErrUnsupported, "multiple of 64"},
		{"rope wider than a row of the indexer", change{values: map[string]gguf.Value{
			k + "attention.key_length": u(256), k + "attention.value_length": u(256), k + "rope.dimension_count": u(192),
		}}, model.ErrUnsupported, "indexer.key_length 128"},
		{"groups", value(k+"attention.output_group_count", u(3)), model.ErrUnsupported, "output_group_count"},
		{"too many experts used", value(k+"expert_used_count", u(9)), model.ErrUnsupported, "expert_used_count"},
		{"gating", value(k+"expert_gating_func", u(1)), nil, "expert_gating_func"},
		{"expert groups", value(k+"expert_group_count", u(8)), nil, "expert_group_count"},
		{"indexer width", value(k+"attention.indexer.key_length", u(64)), nil, "indexer.key_length"},
		{"negative clamp", value(k+"swiglu_clamp_exp", gguf.Float32s([]float32{10, -1, 10, 10})), nil, "entry 1"},
		{"NaN epsilon", value(k+"attention.layer_norm_rms_epsilon", gguf.Float32(float32(math.NaN()))), nil, "epsilon"},
		{"missing tensor", change{drop: "blk.1.indexer.proj.weight"}, model.ErrMissing, "blk.1.indexer.proj.weight"},
		{"missing output", change{drop: "output.weight"}, model.ErrMissing, "output.weight"},
		{"wrong shape", change{tensor: func(t *gguf.Tensor) {
			if t.Name == "blk.0.attn_kv.weight" {
				t.Dims = []uint64{t.Dims[1], t.Dims[0]}
			}
		}}, model.ErrShape, "blk.0.attn_kv.weight"},
		{"integers for weights", change{tensor: func(t *gguf.Tensor) {
			if t.Name == "blk.2.attn_sinks.weight" {
				t.Type = quant.I32
			}
		}}, nil, "attn_sinks"},
		{"route out of range", change{tensor: func(t *gguf.Tensor) {
			if t.Name == "blk.0.ffn_gate_tid2eid.weight" {
				t.Data = bytes.Clone(t.Data)
				t.Data[8] = 200
			}
		}}, model.ErrUnsupported, "expert 200"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := model.Load(smallFile(t, c.change))
			if err == nil {
				t.Fatal("the file is accepted")
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error %v, want it to wrap %v", err, c.want)
			}
			if !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %q does not mention %q", err, c.text)
			}
		})
	}
}

func TestNumericsRoundTrip(t *testing.T) {
	for i := range 16 {
		n := model.Numerics{KVFP8: i&1 != 0, KVF16: i&2 != 0, IndexerFP4: i&4 != 0, ActInt8: i&8 != 0}
		got, err := model.ParseNumerics(n.String())
		if err != nil || got != n {
			t.Errorf("%+v prints as %q and reads as %+v, %v", n, n.String(), got, err)
		}
	}
	var bad *model.NumericsError
	if _, err := model.ParseNumerics("kvFP8,int4"); !errors.As(err, &bad) || bad.Word != "int4" {
		t.Errorf("error %v, want one about int4", err)
	}
}

func TestRopeFrequencies(t *testing.T) {
	c := model.Config{
		RotDim: 64, RopeBase: 10000, CompRopeBase: 160000,
		YarnFactor: 16, YarnOrigCtx: 65536, YarnBetaFast: 32, YarnBetaSlow: 1,
	}
	f := c.RopeFrequencies()
	if f[0] != 1 || math.Abs(f[16]-0.01) > 1e-12 {
		t.Errorf("plain frequencies %v, %v, want 1 and 0.01", f[0], f[16])
	}
	// Correction borders of the published configuration: pairs up to 15 keep their
	// frequency, from 25 on they are slower by the whole factor.
	for _, p := range []struct {
		pair  int
		scale float64
	}{{0, 1}, {15, 1}, {25, 1. / 16}, {31, 1. / 16}} {
		want := math.Pow(160000, -2*float64(p.pair)/64) * p.scale
		if math.Abs(f[32+p.pair]-want) > 1e-12*want {
			t.Errorf("pair %d: frequency %v, want %v", p.pair, f[32+p.pair], want)
		}
	}
	if mid := f[32+20] / math.Pow(160000, -40./64); mid <= 1./16 || mid >= 1 {
		t.Errorf("pair 20 is scaled by %v, want between 1/16 and 1", mid)
	}
}
