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
	quantRow: quantRow,
	gemmQ8:   scalarGemm(gemmQ8),
	gemmF32:  scalarGemm(gemmF32),
	gemmF16:  scalarGemm(gemmF16),
	gemmBF16: scalarGemm(gemmBF16),

	attendScores: attendScores, attendSoftmax: attendSoftmax, attendSum: attendSum, indexSum: indexSum,

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
	hyperGates: hyperGates,
	roundFP4:   roundFP4,
	hadamard:   hadamard,
	above:      above,
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
	out, in := unsafe.Slice((*byte)(dst), blocks*ActBytes), unsafe.Slice(x, blocks*Block)
	for range blocks {
		v := in[:Block]
		var amax float32
		for _, f := range v {
			amax = max(amax, abs(f))
		}
		const tiny = 0x1p-100 // keeps the inverse finite
		scale := amax / 127
		inv := 1 / max(scale, tiny)
		var sum int32
		for i, f := range v {
			// Adding 1.5*2^23 rounds to the nearest integer, ties to even.
			const magic = 3 << 22
			q := int32(math.Float32bits(mul(f, inv)+magic)) - int32(math.Float32bits(magic))
			out[8+i] = byte(int8(q))
			sum += int32(int8(q))
		}
		binary.LittleEndian.PutUint32(out, math.Float32bits(scale))
		binary.LittleEndian.PutUint32(out[4:], uint32(-128*sum))
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
		codes := unsafe.Slice((*int8)(unsafe.Add(t.In[i], b*ActBytes+8)), Block)
		shift := uint(laneBits * (i % lanes))
		for k, c := range codes {
			q[k][i/lanes] += int64(c) << shift
		}
	}
}

func gemmQ8(w unsafe.Pointer, t *Tile, tokens, blocks int) {
	var acc [PanelRows][TileTokens]float32
	var q [Block][words]int64
	var scales [TileTokens]float32
	panel := unsafe.Slice((*byte)(w), blocks*q8PanelBytes)
	for b := range blocks {
		packWords(&q, t, tokens, b)
		for i := range tokens {
			scales[i] = *(*float32)(unsafe.Add(t.In[i], b*ActBytes))
		}
		p := (*[q8PanelBytes]byte)(panel[b*q8PanelBytes:])
		for r := range PanelRows {
			var s [words]int64
			for g := range Block / 4 {
				at := 2*PanelRows + g*4*PanelRows + 4*r
				c := p[at : at+4 : at+4]
				for k, u := range c {
					x, y := int64(int8(u^0x80)), &q[4*g+k]
					s[0] += x * y[0]
					s[1] += x * y[1]
				}
			}
			d := quant.F16ToF32(binary.LittleEndian.Uint16(p[2*r:]))
			a := &acc[r]
			for i := range tokens {
				const up = 64 - laneBits
				v := s[i/lanes] << up >> up
				s[i/lanes] = (s[i/lanes] - v) >> laneBits
				a[i] = fma(mul(d, scales[i]), float32(v), a[i])
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

// gemmColumns adds column by column; load gives a column of the panel.
func gemmColumns(t *Tile, tokens, cols int, load func(dst *[PanelRows]float32, k int)) {
	var acc [TileTokens][PanelRows]float32
	var w [PanelRows]float32
	for k := range cols {
		load(&w, k)
		for i := range tokens {
			x := *(*float32)(unsafe.Add(t.In[i], 4*k))
			fmaRow(acc[i][:], w[:], x)
		}
	}
	for i := range tokens {
		copy(floats(t.Out[i], PanelRows), acc[i][:])
	}
}

func gemmF32(w unsafe.Pointer, t *Tile, tokens, cols int) {
	panel := floats(w, cols*PanelRows)
	gemmColumns(t, tokens, cols, func(dst *[PanelRows]float32, k int) { copy(dst[:], panel[k*PanelRows:]) })
}

func gemmF16(w unsafe.Pointer, t *Tile, tokens, cols int) {
	panel := unsafe.Slice((*uint16)(w), cols*PanelRows)
	gemmColumns(t, tokens, cols, func(dst *[PanelRows]float32, k int) {
		for r, h := range panel[k*PanelRows:][:PanelRows] {
			dst[r] = quant.F16ToF32(h)
		}
	})
}

func gemmBF16(w unsafe.Pointer, t *Tile, tokens, cols int) {
	panel := unsafe.Slice((*uint16)(w), cols*PanelRows)
	gemmColumns(t, tokens, cols, func(dst *[PanelRows]float32, k int) {
		for r, h := range panel[k*PanelRows:][:PanelRows] {
			dst[r] = quant.BF16ToF32(h)
		}
	})
}
