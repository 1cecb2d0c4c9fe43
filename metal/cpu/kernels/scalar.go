package kernels

import (
	"encoding/binary"
	"math"
	"unsafe"

	"ds4/metal/quant"
)

// Scalar is the set in plain Go: what every other set must equal.
var Scalar = Set{
	Name:     "scalar",
	quantRow: quantRow, quantExact: quantExact,
	gemmQ8:   scalarGemm(gemmQ8),
	gemmK:    scalarGemm(gemmK),
	gemmI8:   scalarGemm(gemmI8),
	gemmF32:  scalarGemm(gemmF32),
	gemmF16:  scalarGemm(gemmF16),
	gemmBF16: scalarGemm(gemmBF16),

	attendScores:  [...]scoresFunc{attendScores, attendScoresF16},
	attendSoftmax: attendSoftmax,
	attendSum:     [...]sumFunc{attendSum, attendSumF16},
	indexSum:      indexSum, indexAdd: indexAdd,

	rowRMS:     rowRMS,
	rowNorm:    rowNorm,
	swiglu:     swiglu,
	axpy:       axpy,
	rotate:     rotate,
	mix4:       mix4,
	apply4:     apply4,
	pool:       pool,
	roundFP8:   roundFP8,
	roundF16:   roundF16,
	narrowF16:  narrowF16,
	hyperGates: hyperGates,
	roundFP4:   roundFP4,
	hadamard:   hadamard,
	above:      above,
	unpackQ4:   unpackQ4,
	unpackQ2:   unpackQ2,
	unpackIQ2:  unpackIQ2,
	spread:     spread,
	expandQ4K:  expandQ4K,
	expandQ2K:  expandQ2K,
	expandIQ2:  expandIQ2,
}

func scalarGemm(f func(w unsafe.Pointer, t *Tile, tokens, n int)) (g [TileTokens + 1]gemmFunc) {
	for tokens := 1; tokens <= TileTokens; tokens++ {
		g[tokens] = func(w unsafe.Pointer, t *Tile, n int) { f(w, t, tokens, n) }
	}
	return g
}

// mul is a rounded product: the conversion keeps the compiler from fusing it
// with an addition.
func mul(a, b float32) float32 { return float32(a * b) }

// floats views n values at p.
func floats(p unsafe.Pointer, n int) []float32 { return unsafe.Slice((*float32)(p), n) }

// quantRow rounds x to int8 per block: scale = max/127, ties to even.
func quantRow(dst unsafe.Pointer, x *float32, blocks int) {
	quantBlocks(dst, x, blocks, func(amax float32) (scale, inv float32) {
		const tiny = 0x1p-100 // keeps the inverse finite
		scale = amax / 127
		return scale, 1 / max(scale, tiny)
	})
}

func quantExact(dst unsafe.Pointer, x *float32, blocks int) { quantBlocks(dst, x, blocks, exactScale) }

func quantBlocks(dst unsafe.Pointer, x *float32, blocks int, scaleOf func(amax float32) (scale, inv float32)) {
	out, in := unsafe.Slice((*byte)(dst), blocks*ActBytes), unsafe.Slice(x, blocks*Block)
	for range blocks {
		v := in[:Block]
		var amax float32
		for _, f := range v {
			amax = max(amax, abs(f))
		}
		scale, inv := scaleOf(amax)
		scale += amax - amax // NaN if a value is not finite
		var sums [2]int32    // of the halves
		for i, f := range v {
			// Adding 1.5*2^23 rounds to the nearest integer, ties to even.
			const magic = 3 << 22
			q := int32(math.Float32bits(mul(f, inv)+magic)) - int32(math.Float32bits(magic))
			out[actCodes+i] = byte(int8(q))
			sums[i/(Block/2)] += int32(int8(q))
		}
		binary.LittleEndian.PutUint32(out, math.Float32bits(scale))
		binary.LittleEndian.PutUint32(out[4:], uint32(-128*(sums[0]+sums[1])))
		for i, sum := range sums {
			binary.LittleEndian.PutUint32(out[8+4*i:], math.Float32bits(mul(float32(sum), scale)))
		}
		out, in = out[ActBytes:], in[Block:]
	}
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

// A 64-bit multiplication can serve three tokens: a block's sum is at most
// 32*128*127 < 2^20 in magnitude, so three signed sums fit into one word, 21 bits
// apart. That makes plain Go three times as fast.
const (
	lanes    = 3
	laneBits = 21
	words    = TileTokens / lanes
)

// packWords puts the codes of one block side by side. Lanes come in order; the
// sign of a lane borrows from those above it.
func packWords(q *[Block][words]int64, t *Tile, tokens, b int) {
	*q = [Block][words]int64{}
	for i := range tokens {
		codes := unsafe.Slice((*int8)(unsafe.Add(t.In[i], b*ActBytes+actCodes)), Block)
		shift := uint(laneBits * (i % lanes))
		for k, c := range codes {
			q[k][i/lanes] += int64(c) << shift
		}
	}
}

func gemmQ8(w unsafe.Pointer, t *Tile, tokens, blocks int) {
	gemmInt8(w, t, tokens, blocks, q8PanelBytes, 2*PanelRows, func(p []byte, r int) (scale, first, second float32) {
		return quant.F16ToF32(binary.LittleEndian.Uint16(p[2*r:])), 0, 0
	})
}

func gemmI8(w unsafe.Pointer, t *Tile, tokens, blocks int) {
	gemmInt8(w, t, tokens, blocks, i8PanelBytes, 4*PanelRows, func(p []byte, r int) (scale, first, second float32) {
		return math.Float32frombits(binary.LittleEndian.Uint32(p[4*r:])), 0, 0
	})
}

func gemmK(w unsafe.Pointer, t *Tile, tokens, blocks int) {
	gemmInt8(w, t, tokens, blocks, kPanelBytes, kHeader*PanelRows, func(p []byte, r int) (scale, first, second float32) {
		h := unsafe.Slice((*float32)(unsafe.Pointer(&p[0])), 3*PanelRows)
		return h[r], h[PanelRows+r], h[2*PanelRows+r]
	})
}

// gemmInt8 works on blocks of size bytes; header gives the scale of a row, and the
// offsets of the halves of its columns.
func gemmInt8(w unsafe.Pointer, t *Tile, tokens, blocks, size, codes int, header func(p []byte, r int) (scale, first, second float32)) {
	var acc [PanelRows][TileTokens]float32
	var q [Block][words]int64
	panel := unsafe.Slice((*byte)(w), blocks*size)
	for b := range blocks {
		packWords(&q, t, tokens, b)
		p := panel[b*size : (b+1)*size]
		for r := range PanelRows {
			var s [words]int64
			for g := range Block / 4 {
				at := codes + g*4*PanelRows + 4*r
				c := p[at : at+4 : at+4]
				for k, u := range c {
					x, y := int64(int8(u^0x80)), &q[4*g+k]
					s[0] += x * y[0]
					s[1] += x * y[1]
				}
			}
			scale, first, second := header(p, r)
			for i := range tokens {
				const up = 64 - laneBits
				v := s[i/lanes] << up >> up
				s[i/lanes] = (s[i/lanes] - v) >> laneBits
				h := (*[4]float32)(unsafe.Add(t.In[i], b*ActBytes)) // the second is an integer
				a := fma(mul(scale, h[0]), float32(v), acc[r][i])
				acc[r][i] = fma(second, h[3], fma(first, h[2], a))
			}
		}
	}
	for i := range tokens {
		out := floats(t.Out[i], PanelRows)
		for r := range out {
			out[r] = acc[r][i]
		}
	}
}

// gemmColumns adds column by column. One column at a time is widened to w.
func gemmColumns(panel unsafe.Pointer, t *Tile, tokens, cols int, p PanelType) {
	var acc [TileTokens][PanelRows]float32
	var w [PanelRows]float32
	for k := range cols {
		switch p {
		case PanelF32:
			w = *(*[PanelRows]float32)(unsafe.Add(panel, 4*PanelRows*k))
		case PanelF16:
			for r, h := range (*[PanelRows]uint16)(unsafe.Add(panel, 2*PanelRows*k)) {
				w[r] = quant.F16ToF32(h)
			}
		default:
			for r, h := range (*[PanelRows]uint16)(unsafe.Add(panel, 2*PanelRows*k)) {
				w[r] = quant.BF16ToF32(h)
			}
		}
		for i := range tokens {
			fmaRow(acc[i][:], w[:], *(*float32)(unsafe.Add(t.In[i], 4*k)))
		}
	}
	for i := range tokens {
		copy(floats(t.Out[i], PanelRows), acc[i][:])
	}
}

func gemmF32(w unsafe.Pointer, t *Tile, tokens, cols int) {
	gemmColumns(w, t, tokens, cols, PanelF32)
}

func gemmF16(w unsafe.Pointer, t *Tile, tokens, cols int) {
	gemmColumns(w, t, tokens, cols, PanelF16)
}

func gemmBF16(w unsafe.Pointer, t *Tile, tokens, cols int) {
	gemmColumns(w, t, tokens, cols, PanelBF16)
}
