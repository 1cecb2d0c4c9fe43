// Package quant knows the weight formats of GGUF files: their sizes, their
// decoders, and encoders that make valid files.
//
// A row is a run of values stored block by block, little endian. The package
// promises that decoding never reads or writes outside the slices it is given,
// that it does not allocate, and that it gives the same bits on every machine.
// Blocks hold no redundancy: any bytes decode to something, and a damaged scale
// may decode to an infinity or NaN. Encoders are meant for tests and for
// synthetic models. They choose codes close to the best ones by squared error
// and know nothing of importance weights.
package quant

import (
	"fmt"
	"math"
)

// Type is a GGUF tensor type, with the numbers of the file format.
type Type uint32

// The types that this package decodes and encodes.
const (
	F32     Type = 0
	F16     Type = 1
	Q8_0    Type = 8  // 32 int8 codes, one F16 scale
	Q2_K    Type = 10 // 256 2-bit codes, 16 sub-blocks with 4-bit scale and minimum
	Q4_K    Type = 12 // 256 4-bit codes, 8 sub-blocks with 6-bit scale and minimum
	IQ2_XXS Type = 16 // 256 values: grid points of 8, even sign patterns, 4-bit scales
	I32     Type = 26
	BF16    Type = 30 // the upper half of an F32
)

// Values per block.
const (
	BlockQ8 = 32  // of Q8_0
	BlockK  = 256 // of Q2_K, Q4_K and IQ2_XXS
)

// Bytes per block.
const (
	bytesQ8_0    = 2 + 32
	bytesQ2_K    = 16 + 64 + 2 + 2
	bytesQ4_K    = 2 + 2 + 12 + 128
	bytesIQ2_XXS = 2 + 8*8
)

// names are the types that GGUF files may hold; only a few are implemented, the
// others are named so that an error can say what was found.
var names = map[Type]string{
	F32: "F32", F16: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", Q8_0: "Q8_0", 9: "Q8_1",
	Q2_K: "Q2_K", 11: "Q3_K", Q4_K: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K",
	IQ2_XXS: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
	22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", I32: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
	BF16: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}

// Types lists the supported types in ascending order.
func Types() []Type { return []Type{F32, F16, Q8_0, Q2_K, Q4_K, IQ2_XXS, I32, BF16} }

// String is the type's usual name, or its number if it has none.
func (t Type) String() string {
	if s, ok := names[t]; ok {
		return s
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// Supported reports whether this package can decode t.
func (t Type) Supported() bool { return t.BlockSize() != 0 }

// BlockSize is the number of values in a block, 0 if t is not supported.
func (t Type) BlockSize() int {
	switch t {
	case F32, F16, BF16, I32:
		return 1
	case Q8_0:
		return BlockQ8
	case Q2_K, Q4_K, IQ2_XXS:
		return BlockK
	}
	return 0
}

// BlockBytes is the number of bytes in a block, 0 if t is not supported.
func (t Type) BlockBytes() int {
	switch t {
	case F32, I32:
		return 4
	case F16, BF16:
		return 2
	case Q8_0:
		return bytesQ8_0
	case Q2_K:
		return bytesQ2_K
	case Q4_K:
		return bytesQ4_K
	case IQ2_XXS:
		return bytesIQ2_XXS
	}
	return 0
}

// RowBytes is the size of a row of n values. It fails with ErrUnknownType, with
// ErrBlock when n is negative or no multiple of the block, and with ErrTooLarge
// when the size does not fit an int.
func RowBytes(t Type, n int) (int, error) {
	bs := t.BlockSize()
	if bs == 0 {
		return 0, fmt.Errorf("quant: %v: %w", t, ErrUnknownType)
	}
	if n < 0 || n%bs != 0 {
		return 0, fmt.Errorf("quant: row of %d values, %v has blocks of %d: %w", n, t, bs, ErrBlock)
	}
	bb := t.BlockBytes()
	if n/bs > math.MaxInt/bb {
		return 0, fmt.Errorf("quant: row of %d values of %v: %w", n, t, ErrTooLarge)
	}
	return n / bs * bb, nil
}
