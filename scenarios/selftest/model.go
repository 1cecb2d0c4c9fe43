package selftest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"ds4/metal/quant"
	"ds4/runtime/gguf"
	"ds4/runtime/model/tiny"
)

// Metadata that decides how many layers there are, and the merges.
const (
	keyLayers = "deepseek4.block_count"
	keyRatios = "deepseek4.attention.compress_ratios"
	keyClamp  = "deepseek4.swiglu_clamp_exp"
	keyMerges = "tokenizer.ggml.merges"
)

// OtherModel writes a model file that differs from the embedded one in the
// respect that kind names (see scenarios.ModelKinds), and in no other. The same
// kind and seed make the same file.
func OtherModel(path, kind string, seed uint64) error {
	f, err := tiny.Open()
	if err != nil {
		return fmt.Errorf("selftest: other model: %w", err)
	}
	var data []byte
	switch kind {
	case "weights":
		data, err = otherWeights(f, seed)
	case "tokenizer":
		data, err = otherTokenizer(f)
	case "more-layers":
		data, err = otherLayers(f, 1)
	case "fewer-layers":
		data, err = otherLayers(f, -1)
	default:
		err = fmt.Errorf("kind %q is not known", kind)
	}
	if err == nil {
		err = writeFile(path, data)
	}
	if err != nil {
		return fmt.Errorf("selftest: other model: %w", err)
	}
	return nil
}

// otherWeights keeps shapes, tokenizer and metadata: the quantised values of
// every Q8_0 tensor lose or gain one step here and there.
func otherWeights(f *gguf.File, seed uint64) ([]byte, error) {
	data := bytes.Clone(tiny.Bytes())
	rng := rand.New(rand.NewPCG(seed, 0))
	changed := 0
	for _, t := range f.Tensors() {
		if t.Type != quant.Q8_0 {
			continue
		}
		block := quant.Q8_0.BlockBytes()
		values := data[t.Offset : t.Offset+uint64(len(t.Data))]
		for at := 0; at+block <= len(values); at += block {
			// Behind the block's scale: one of its 32 values, by its lowest bit.
			const scaleBytes = 2
			values[at+scaleBytes+rng.IntN(block-scaleBytes)] ^= 1
			changed++
		}
	}
	if changed == 0 {
		return nil, fmt.Errorf("the embedded model has no Q8_0 tensor")
	}
	return data, nil
}

// otherTokenizer lets the most and the least frequent merge change places: same
// tokens, same size of the file, same weights, and other tokens of most texts.
func otherTokenizer(f *gguf.File) ([]byte, error) {
	v, _ := f.Value(keyMerges)
	merges, err := v.Strs()
	if err != nil {
		return nil, err
	}
	last := len(merges) - 1
	merges[0], merges[last] = merges[last], merges[0]
	return rewrite(f, map[string]gguf.Value{keyMerges: gguf.Strings(merges)}, 0, 0)
}

// otherLayers repeats the last layer, or leaves it out.
func otherLayers(f *gguf.File, more int) ([]byte, error) {
	count, _ := f.Value(keyLayers)
	layers, err := count.Uint()
	if err != nil {
		return nil, err
	}
	ratios, err := lastOf(f, keyRatios, int(layers), more, gguf.Value.Ints)
	if err != nil {
		return nil, err
	}
	clamp, err := lastOf(f, keyClamp, int(layers), more, gguf.Value.Floats)
	if err != nil {
		return nil, err
	}
	return rewrite(f, map[string]gguf.Value{
		keyLayers: gguf.Uint32(uint32(int(layers) + more)),
		keyRatios: gguf.Int32s(convert[int32](ratios)),
		keyClamp:  gguf.Float32s(convert[float32](clamp)),
	}, int(layers), more)
}

// lastOf repeats or drops the last layer's element of a list of one per layer;
// what lies behind it stays.
func lastOf[T any](f *gguf.File, key string, layers, more int, read func(gguf.Value) ([]T, error)) ([]T, error) {
	v, _ := f.Value(key)
	list, err := read(v)
	if err != nil || len(list) < layers {
		return nil, fmt.Errorf("%s: %d entries for %d layers: %w", key, len(list), layers, err)
	}
	if more < 0 {
		return slices.Delete(list, layers-1, layers), nil
	}
	return slices.Insert(list, layers, list[layers-1]), nil
}

func convert[To, From int32 | int64 | float32 | float64](list []From) []To {
	out := make([]To, len(list))
	for i, v := range list {
		out[i] = To(v)
	}
	return out
}

// rewrite copies a model file with some metadata replaced and the last of its
// layers repeated (more is 1) or left out (-1).
func rewrite(f *gguf.File, replace map[string]gguf.Value, layers, more int) ([]byte, error) {
	w := gguf.NewWriter()
	for _, key := range f.Keys() {
		v, _ := f.Value(key)
		if r, ok := replace[key]; ok {
			v = r
		}
		if err := w.Set(key, v); err != nil {
			return nil, err
		}
	}
	last := fmt.Sprintf("blk.%d.", layers-1)
	for _, t := range f.Tensors() {
		rest, ofLast := strings.CutPrefix(t.Name, last)
		if !ofLast || more >= 0 {
			if err := w.AddBytes(t.Name, t.Type, t.Dims, t.Data); err != nil {
				return nil, err
			}
		}
		if ofLast && more > 0 {
			if err := w.AddBytes(fmt.Sprintf("blk.%d.%s", layers, rest), t.Type, t.Dims, t.Data); err != nil {
				return nil, err
			}
		}
	}
	var out bytes.Buffer
	_, err := w.WriteTo(&out)
	return out.Bytes(), err
}
