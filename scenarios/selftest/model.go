package selftest

import (
	"bytes"
	"fmt"
	"math/rand/v2"

	"ds4/metal/quant"
	"ds4/runtime/model/tiny"
)

// OtherModel writes a model file that has the shapes, the tokenizer and the
// metadata of the embedded model, and other weights: the quantised values of
// every Q8_0 tensor lose or gain one step here and there. The same seed makes
// the same file.
func OtherModel(path string, seed uint64) error {
	f, err := tiny.Open()
	if err != nil {
		return fmt.Errorf("selftest: other model: %w", err)
	}
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
		return fmt.Errorf("selftest: other model: the embedded model has no Q8_0 tensor")
	}
	if err := writeFile(path, data); err != nil {
		return fmt.Errorf("selftest: other model: %w", err)
	}
	return nil
}
