package metal

import (
	"encoding/binary"
	"math"
)

// Rows of the indexer that FP4 has rounded are kept in panels: IndexPanel rows
// side by side. For each Int8Block values of all rows there are
//
//	scales [IndexPanel] float32
//	codes  [Int8Block/4][IndexPanel][4] bytes, int8 with the sign bit flipped
//
// A value is its code times the scale of its row's block, which is a power of
// two: so much below the block's largest value that FP4 loses nothing. The sign
// of a zero is not kept. Every row has bytes of its own, so rows can be written
// at the same time.
const (
	// IndexPanel is how many rows are in a panel.
	IndexPanel = 32

	indexBlockBytes = IndexPanel * (4 + Int8Block)
	indexGroup      = 4    // values of a row that are side by side
	indexSign       = 0x80 // of a code
	indexSigns      = 0x80808080
	// indexBits is how many bits a code has below the highest one of the block's
	// largest value. FP4 needs three.
	indexBits = 5
)

// IndexPanelBytes is the size of a panel of rows of width values.
func IndexPanelBytes(width int) int { return width / Int8Block * indexBlockBytes }

// PutIndexRow makes row r of a panel of values that FP4 has rounded, as
// KernelCompress does. A block that is not finite gets a scale that is not.
func PutIndexRow(panel []byte, r int, values []float32) {
	for ; len(values) >= Int8Block; panel, values = panel[indexBlockBytes:], values[Int8Block:] {
		var top uint32
		for _, v := range values[:Int8Block] {
			top = max(top, math.Float32bits(v)&^(1<<31))
		}
		scale, inverse := indexScale(math.Float32frombits(top))
		binary.LittleEndian.PutUint32(panel[4*r:], math.Float32bits(scale))
		codes := panel[4*IndexPanel+indexGroup*r:]
		for i, v := range values[:Int8Block] {
			codes[i/indexGroup*indexGroup*IndexPanel+i%indexGroup] = byte(int8(math.RoundToEven(float64(v*inverse)))) ^ indexSign
		}
	}
}

// indexScale is the scale of a block whose largest magnitude is given, and its
// inverse.
func indexScale(largest float32) (scale, inverse float32) {
	const least, exponent, expBits, reciprocal = 0x1p-100, 0xff << 23, 23, 254 << 23
	bits := math.Float32bits(max(largest, least)) & exponent
	if bits == exponent {
		return float32(math.NaN()), 0
	}
	bits -= indexBits << expBits
	return math.Float32frombits(bits), math.Float32frombits(reciprocal - bits)
}

// PutIndexCodes makes row r of a panel of codes and scales, one per Int8Block.
func PutIndexCodes(panel []byte, r int, codes []byte, scales []float32) {
	for _, scale := range scales {
		binary.LittleEndian.PutUint32(panel[4*r:], math.Float32bits(scale))
		at := panel[4*IndexPanel+indexGroup*r : indexBlockBytes]
		for i := 0; i < Int8Block; i += indexGroup {
			binary.LittleEndian.PutUint32(at[i*IndexPanel:], binary.LittleEndian.Uint32(codes[i:])^indexSigns)
		}
		panel, codes = panel[indexBlockBytes:], codes[Int8Block:]
	}
}

// IndexCodes reads codes and scales of row r of a panel.
func IndexCodes(codes []byte, scales []float32, panel []byte, r int) {
	for b := range scales {
		scales[b] = math.Float32frombits(binary.LittleEndian.Uint32(panel[4*r:]))
		at := panel[4*IndexPanel+indexGroup*r : indexBlockBytes]
		for i := 0; i < Int8Block; i += indexGroup {
			binary.LittleEndian.PutUint32(codes[i:], binary.LittleEndian.Uint32(at[i*IndexPanel:])^indexSigns)
		}
		panel, codes = panel[indexBlockBytes:], codes[Int8Block:]
	}
}
