package synth

import (
	"bytes"
	"crypto/sha256"
	"math"
	"testing"

	"ds4/metal/quant"
	"ds4/runtime/gguf"
	"ds4/runtime/model"
)

// TestNamed: every combination is a file that loads, or an error that says why not;
// the same seed gives the same bytes.
func TestNamed(t *testing.T) {
	sums := map[[32]byte]string{}
	for _, shape := range Shapes() {
		for _, mix := range Quants() {
			if shape == "flash-slice" {
				continue // gigabytes
			}
			s, err := Named(shape, mix, 7)
			if err != nil {
				t.Fatalf("%s %s: %v", shape, mix, err)
			}
			data := written(t, s)
			f, err := gguf.Parse(data, shape)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := model.Load(f); err != nil {
				t.Errorf("%s %s: %v", shape, mix, err)
			}
			sum := sha256.Sum256(data)
			if sha256.Sum256(written(t, s)) != sum || sums[sum] != "" {
				t.Errorf("%s %s: other bytes the second time, or those of %q", shape, mix, sums[sum])
			}
			sums[sum] = shape + " " + mix
		}
	}
	if _, err := Named("huge", "q4", 1); err == nil {
		t.Error("an unknown shape was accepted")
	}
	if _, err := Named("tiny", "q3", 1); err == nil {
		t.Error("an unknown mix was accepted")
	}
}

func written(t *testing.T, s Spec) []byte {
	t.Helper()
	w, err := Writer(s)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := w.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestBlocks: drawn blocks decode to values with the mean and deviation asked for.
func TestBlocks(t *testing.T) {
	const blocks, std = 5000, 0.02 // more than one chunk
	for _, typ := range []quant.Type{quant.Q8_0, quant.Q4_K, quant.Q2_K, quant.IQ2_XXS} {
		var buf bytes.Buffer
		if err := emitBlocks(typ, blocks, std, 3)(&buf); err != nil {
			t.Fatal(err)
		}
		v := make([]float32, blocks*typ.BlockSize())
		if err := quant.DecodeRow(typ, v, buf.Bytes()); err != nil {
			t.Fatal(err)
		}
		var sum, squares float64
		for _, x := range v {
			sum += float64(x)
			squares += float64(x) * float64(x)
		}
		n := float64(len(v))
		if mean, dev := sum/n, math.Sqrt(squares/n); math.Abs(mean) > 0.02*std || math.Abs(dev-std) > 0.03*std {
			t.Errorf("%v: mean %v, deviation %v, want 0 and %v", typ, mean, dev, std)
		}
	}
}
