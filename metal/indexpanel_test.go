package metal

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

// fp4Row is a row of FP4 values with a scale per block, some of them zero.
func fp4Row(rng *rand.Rand, width int) []float32 {
	row := make([]float32, width)
	var scale float32
	for i := range row {
		if i%Int8Block == 0 {
			scale = float32(math.Ldexp(1, rng.IntN(60)-40))
		}
		row[i] = [8]float32{0, .5, 1, 1.5, 2, 3, 4, 6}[rng.IntN(8)] * scale * float32(1-2*rng.IntN(2))
		if row[i] == 0 {
			row[i] = 0 // without a sign
		}
	}
	return row
}

// TestIndexPanel: rows come back from a panel with every bit, whatever is in the
// others.
func TestIndexPanel(t *testing.T) {
	const width = 4 * Int8Block
	rng := rand.New(rand.NewPCG(1, 2))
	panel := make([]byte, IndexPanelBytes(width))
	var rows [IndexPanel][]float32
	for _, r := range rng.Perm(IndexPanel) {
		rows[r] = fp4Row(rng, width)
		PutIndexRow(panel, r, rows[r])
	}
	again := make([]byte, len(panel))
	codes, scales, got := make([]byte, width), make([]float32, width/Int8Block), make([]float32, width)
	for r, want := range rows {
		IndexCodes(codes, scales, panel, r)
		PutIndexCodes(again, r, codes, scales)
		for i := range got {
			got[i] = float32(int8(codes[i])) * scales[i/Int8Block]
		}
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Fatalf("row %d, value %d is %v, want %v", r, i, got[i], want[i])
			}
		}
	}
	if !bytes.Equal(again, panel) {
		t.Error("codes and scales make another panel than values")
	}
}

// TestIndexPanelKeepsDamage: a block with a value that is not finite reads as
// values that are not, and only it.
func TestIndexPanelKeepsDamage(t *testing.T) {
	const width = 2 * Int8Block
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		row, got := make([]float32, width), make([]float32, width)
		row[Int8Block+5], row[3] = float32(bad), 2
		panel := make([]byte, IndexPanelBytes(width))
		PutIndexRow(panel, 7, row)
		codes, scales := make([]byte, width), make([]float32, width/Int8Block)
		IndexCodes(codes, scales, panel, 7)
		for i := range got {
			got[i] = float32(int8(codes[i])) * scales[i/Int8Block]
		}
		for i, v := range got {
			if want := i < Int8Block; (v-v == 0) != want {
				t.Errorf("%v: value %d is %v", bad, i, v)
			}
		}
		if got[3] != 2 {
			t.Errorf("%v: the other block has %v, want 2", bad, got[3])
		}
	}
}
