package kernels

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// Scores of the indexer are products of values that FP4 has left four bits of. As
// integers their sums over a block are exact, so they go through the same panels
// as weights: 32 rows side by side, each block with its power of two.

const (
	// i8PanelBytes is the size of one block of all rows of a PanelI8.
	i8PanelBytes = PanelRows * (4 + Block)
	// exactBits is how many bits below its highest one a value of a block may have.
	exactBits = 5
)

// QuantizeExact writes what QuantizeRow would, with a power of two for a scale:
// values of a block that are within exactBits of the largest are kept exactly.
func (s *Set) QuantizeExact(dst []byte, x []float32) {
	n := len(x) / Block
	if n == 0 {
		return
	}
	_ = dst[n*ActBytes-1]
	s.quantExact(unsafe.Pointer(&dst[0]), &x[0], n)
}

// exactScale is the scale of QuantizeExact, and its inverse.
func exactScale(amax float32) (scale, inv float32) {
	const tiny, exponent, expBits, reciprocal = 0x1p-100, 0xff << 23, 23, 254 << 23
	bits := math.Float32bits(max(amax, tiny))&exponent - exactBits<<expBits
	return math.Float32frombits(bits), math.Float32frombits(reciprocal - bits)
}

// PackI8Row makes row r of a PanelI8 of what QuantizeExact wrote.
func PackI8Row(panel, blocks []byte, r int) {
	for ; len(blocks) >= ActBytes; panel, blocks = panel[i8PanelBytes:], blocks[ActBytes:] {
		_ = panel[i8PanelBytes-1]
		at := unsafe.Pointer(&panel[0])
		put32(at, r, binary.LittleEndian.Uint32(blocks))
		for g := range Block / 4 {
			put32(at, (1+g)*PanelRows+r, binary.LittleEndian.Uint32(blocks[actCodes+4*g:])^signs32)
		}
	}
}

// IndexAdd adds w[h] * max(sc[h*PanelRows+j], 0) to dst[j], head by head.
func (s *Set) IndexAdd(dst, sc, w []float32) {
	if len(w) == 0 {
		return
	}
	_, _ = dst[PanelRows-1], sc[len(w)*PanelRows-1]
	s.indexAdd(&dst[0], &sc[0], &w[0], len(w))
}

func indexAdd(dst, s, w *float32, heads int) {
	out, sc := unsafe.Slice(dst, PanelRows), unsafe.Slice(s, heads*PanelRows)
	for h, x := range unsafe.Slice(w, heads) {
		var positive [PanelRows]float32
		for j, v := range sc[h*PanelRows:][:PanelRows] {
			if v < 0 {
				v = 0
			}
			positive[j] = v
		}
		fmaRow(out, positive[:], x)
	}
}
