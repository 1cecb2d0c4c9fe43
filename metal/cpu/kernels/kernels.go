// Package kernels holds the inner loops of the CPU driver, once in plain Go and
// once per instruction set in generated assembler.
//
// Promises. Every kernel adds in one fixed order, and all sets give the same
// bits for the same input: a set changes how long a result takes and nothing
// else. (Which NaN comes out of a NaN is the one exception, and which codes are beside
// a scale of NaN.) Kernels allocate nothing. They trust their callers: a slice that is too short is a panic where
// that costs nothing, and a fault otherwise.
//
// The plain Go form is the definition. Additions of a row follow one of three
// orders: integers are exact; a matrix product adds its columns (blocks, for
// Q8_0) one after the other with fused multiply-adds; a sum across a row has 16
// lanes, value i in lane i%16, which are then folded in halves.
package kernels

//go:generate go run ./gen

import (
	"fmt"
	"os"
	"strings"
	"unsafe"

	"ds4/metal/quant"
)

const (
	// PanelRows is how many rows of a matrix are packed and multiplied together.
	PanelRows = 32
	// TileTokens is how many input rows one call of a product takes at most.
	TileTokens = 6
	// DirectTokens is how many input rows one call of a product with a packed
	// K-quant takes at most.
	DirectTokens = 4
	// Block is how many int8 values share a scale.
	Block = 32
	// ActBytes is the size of an int8 block of activations: its scale, -128 times
	// the sum of the codes, the scaled sums of either half, and the codes.
	ActBytes = actCodes + Block
	actCodes = 16
	// q8PanelBytes is the size of one block of all rows of a Q8_0 panel.
	q8PanelBytes = PanelRows * (2 + Block)
	// kPanelBytes is that of a panel of a K-quant.
	kPanelBytes = PanelRows * (kHeader + Block)
	kHeader     = 3 * 4 // scale and two offsets
)

// EnvSet names the variable that forces a set, for tests and for comparisons.
const EnvSet = "DS4_CPU"

// Tile points at the input rows of a product, and at where the PanelRows results
// of each go.
type Tile struct {
	In, Out [TileTokens]unsafe.Pointer
}

type gemmFunc func(w unsafe.Pointer, t *Tile, n int)

// Set is one implementation of all kernels.
type Set struct {
	Name string

	gemmQ8   [TileTokens + 1]gemmFunc
	gemmK    [TileTokens + 1]gemmFunc
	gemmI8   [TileTokens + 1]gemmFunc
	gemmF32  [TileTokens + 1]gemmFunc
	gemmF16  [TileTokens + 1]gemmFunc
	gemmBF16 [TileTokens + 1]gemmFunc
	gemmQ4K  [DirectTokens + 1]gemmFunc
	gemmQ2K  [DirectTokens + 1]gemmFunc
	gemmIQ2  [DirectTokens + 1]gemmFunc
	// prefetch is nil in a set that has none.
	prefetch func(p uintptr, lines int)
	quantRow func(dst unsafe.Pointer, x *float32, blocks int)
	// quantExact is quantRow with powers of two.
	quantExact func(dst unsafe.Pointer, x *float32, blocks int)

	attendScores  [rowForms]scoresFunc
	attendSoftmax func(s, sinks, inv *float32, n int)
	attendSum     [rowForms]sumFunc
	indexSum      func(s, w, dst *float32, n int)
	indexAdd      func(dst, s, w *float32, heads int)

	rowRMS     func(x *float32, n int, eps float32) float32
	rowNorm    func(x, w *float32, n int, eps float32)
	swiglu     func(gate, up *float32, n int, clamp float32)
	axpy       func(y, x *float32, n int, w float32)
	rotate     func(x, table *float32, n int, sign float32)
	mix4       func(x, streams, pre *float32, n int)
	apply4     func(streams, y, post, comb *float32, n int)
	hyperGates func(dst, mix, base, p *float32, iterations int)
	pool       func(z, kv, gate *float32, entries, width int)
	roundFP8   func(x *float32, blocks int)
	roundFP4   func(x *float32, blocks int)
	roundF16   func(x *float32, n int)
	narrowF16  func(dst *uint16, x *float32, n int)
	hadamard   func(x *float32)
	unpackQ4   func(codes, row unsafe.Pointer)
	unpackQ2   func(codes, row unsafe.Pointer)
	unpackIQ2  func(codes, row unsafe.Pointer)
	expandQ4K  func(dst, src unsafe.Pointer, supers int)
	expandQ2K  func(dst, src unsafe.Pointer, supers int)
	expandIQ2  func(dst, src unsafe.Pointer, supers int)
	spread     func(dst, codes unsafe.Pointer, block int)
	above      func(dst *int32, x *float32, first, n int, least float32) int
}

// Select finds the set that DS4_CPU names, or the best one of this machine.
func Select() (*Set, error) {
	name := os.Getenv(EnvSet)
	sets := Available()
	if name == "" {
		return sets[0], nil
	}
	var names []string
	for _, s := range sets {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return nil, fmt.Errorf("%s=%s: this machine has %s", EnvSet, name, strings.Join(names, ", "))
}

// Available lists the sets that this machine can run, the fastest first. The
// last one is Scalar.
func Available() []*Set { return append(archSets(), &Scalar) }

// Prefetch asks for n bytes of memory that will be read soon, to come as far as the
// second-level cache, and says whether the set can. The memory need not be there.
func (s *Set) Prefetch(p uintptr, n int) bool {
	const line = 64
	if s.prefetch == nil {
		return false
	}
	if n >= line {
		s.prefetch(p, n/line)
	}
	return true
}

// QuantizeRow rounds x to int8: for each Block of it ActBytes in dst, with a scale
// that is NaN if a value is not finite.
func (s *Set) QuantizeRow(dst []byte, x []float32) {
	n := len(x) / Block
	if n == 0 {
		return
	}
	_ = dst[n*ActBytes-1]
	s.quantRow(unsafe.Pointer(&dst[0]), &x[0], n)
}

// Product multiplies one panel, as Pack made it, with n rows of cols values:
// float32, or what QuantizeRow made if the panel has integer codes. Of a packed
// K-quant n must be Direct.
func (s *Set) Product(p PanelType, w []byte, t *Tile, n, cols int) {
	_ = w[p.Bytes(cols)-1]
	at := unsafe.Pointer(&w[0])
	switch p {
	case PanelQ8:
		s.gemmQ8[n](at, t, cols/Block)
	case PanelK:
		s.gemmK[n](at, t, cols/Block)
	case PanelI8:
		s.gemmI8[n](at, t, cols/Block)
	case PanelQ4K, PanelQ2K, PanelIQ2:
		s.direct(p)[n](at, t, cols/quant.BlockK)
	case PanelF16:
		pick(&s.gemmF16, &Scalar.gemmF16, cols)[n](at, t, cols)
	case PanelBF16:
		pick(&s.gemmBF16, &Scalar.gemmBF16, cols)[n](at, t, cols)
	default:
		pick(&s.gemmF32, &Scalar.gemmF32, cols)[n](at, t, cols)
	}
}

// pick leaves odd widths to plain Go.
func pick(fast, plain *[TileTokens + 1]gemmFunc, cols int) *[TileTokens + 1]gemmFunc {
	const unroll = 4
	if cols%unroll != 0 {
		return plain
	}
	return fast
}
