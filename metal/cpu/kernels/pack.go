package kernels

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"ds4/metal/quant"
)

// PanelType is the layout of a packed panel of PanelRows rows: values of one
// column lie next to each other, so that vector lanes are rows.
type PanelType int

const (
	PanelF32  PanelType = iota // [cols][32] float32
	PanelF16                   // [cols][32] F16
	PanelBF16                  // [cols][32] BF16
	// PanelQ8 has, per Block of columns, 32 F16 scales, then 8 groups of 4 columns
	// of 32 rows. A code is stored with its sign bit flipped, as the integer dot
	// product of AVX-512 wants it.
	PanelQ8
	// PanelK has float32 headers, 32 scales and 32 offsets for either half of the
	// Block, and codes as above. A value is scale*code + offset.
	PanelK
	// PanelI8 has float32 scales, and codes as above.
	PanelI8
	// K-quants as packed at start.
	PanelQ4K
	PanelQ2K
	PanelIQ2
)

// PanelOf is the layout that a weight type is packed to. Types that have none of
// their own become float32.
func PanelOf(t quant.Type) (p PanelType, own bool) {
	switch t {
	case quant.Q8_0:
		return PanelQ8, true
	case quant.F16:
		return PanelF16, true
	case quant.BF16:
		return PanelBF16, true
	case quant.F32:
		return PanelF32, true
	case quant.Q4_K:
		return PanelQ4K, true
	case quant.Q2_K:
		return PanelQ2K, true
	case quant.IQ2_XXS:
		return PanelIQ2, true
	}
	return PanelF32, false
}

// Bytes is the size of one panel.
func (p PanelType) Bytes(cols int) int {
	switch p {
	case PanelQ8:
		return cols / Block * q8PanelBytes
	case PanelK:
		return cols / Block * kPanelBytes
	case PanelI8:
		return cols / Block * i8PanelBytes
	case PanelF16, PanelBF16:
		return 2 * PanelRows * cols
	case PanelQ4K, PanelQ2K, PanelIQ2:
		return cols / quant.BlockK * p.superBytes()
	}
	return 4 * PanelRows * cols
}

// Panels is how many panels rows take.
func Panels(rows int) int { return (rows + PanelRows - 1) / PanelRows }

// Pack packs n rows (at most PanelRows) that start at src as a panel p, and zeros
// for the missing ones. p is the type's own panel; PanelK for a K-quant; or
// PanelF32, for which values has room for a row.
func (s *Set) Pack(dst, src []byte, p PanelType, t quant.Type, n, cols int, mem *Scratch, values []float32) {
	rowBytes, err := quant.RowBytes(t, cols)
	if err != nil {
		panic(err) // the loader admits only whole rows of known types
	}
	if n < PanelRows {
		clear(dst[:p.Bytes(cols)])
	}
	switch p {
	case PanelK:
		s.packK(dst, src, t, n, cols, mem)
		return
	case PanelQ4K, PanelQ2K, PanelIQ2:
		packKPanel(dst, src, p, t, n, cols)
		return
	case PanelQ8:
		s.packQ8(dst, src, n, cols, mem)
		return
	}
	for r := range n {
		row := src[r*rowBytes : (r+1)*rowBytes]
		switch {
		case p == PanelF16 || p == PanelBF16:
			out := unsafe.Slice((*uint16)(unsafe.Pointer(&dst[0])), PanelRows*cols)
			for k := range cols {
				out[k*PanelRows+r] = binary.LittleEndian.Uint16(row[2*k:])
			}
		case t == quant.F32:
			out := unsafe.Slice((*uint32)(unsafe.Pointer(&dst[0])), PanelRows*cols)
			for k := range cols {
				out[k*PanelRows+r] = binary.LittleEndian.Uint32(row[4*k:])
			}
		default:
			packDecoded(dst, row, t, r, values[:cols])
		}
	}
}

func packDecoded(dst, row []byte, t quant.Type, r int, values []float32) {
	if err := quant.DecodeRow(t, values, row); err != nil {
		panic(fmt.Sprintf("decode a row of %v: %v", t, err))
	}
	out := unsafe.Slice((*float32)(unsafe.Pointer(&dst[0])), PanelRows*len(values))
	for k, v := range values {
		out[k*PanelRows+r] = v
	}
}

// UnpackQ8 expands a panel to PanelF32.
func UnpackQ8(dst, src []byte, cols int) {
	out := unsafe.Slice((*float32)(unsafe.Pointer(&dst[0])), PanelRows*cols)
	for k := range cols {
		b := src[k/Block*q8PanelBytes:][:q8PanelBytes]
		codes := b[2*PanelRows+k%Block/4*4*PanelRows+k%4:]
		for r := range PanelRows {
			d := quant.F16ToF32(binary.LittleEndian.Uint16(b[2*r:]))
			out[k*PanelRows+r] = d * float32(int8(codes[4*r]^0x80))
		}
	}
}

// packQ8 packs a PanelQ8, 256 columns at a time and then block by block.
func (s *Set) packQ8(dst, src []byte, n, cols int, mem *Scratch) {
	const size, blocks = 2 + Block, quant.BlockK / Block
	rowBytes := cols / Block * size
	clear(mem[n*quant.BlockK:])
	b := 0
	for ; b+blocks <= cols/Block; b += blocks {
		out := dst[b*q8PanelBytes : (b+blocks)*q8PanelBytes]
		for r := range n {
			row := src[r*rowBytes+b*size:][:blocks*size]
			for i := range blocks {
				q := (*[size]byte)(row[i*size:])
				h, codes := out[i*q8PanelBytes+2*r:], mem[r*quant.BlockK+i*Block:][:Block]
				h[0], h[1] = q[0], q[1]
				for k := 0; k < Block; k += 8 {
					binary.LittleEndian.PutUint64(codes[k:], binary.LittleEndian.Uint64(q[2+k:])^signs64)
				}
			}
		}
		s.spread(unsafe.Pointer(&out[2*PanelRows]), unsafe.Pointer(mem), q8PanelBytes)
	}
	for r := range n {
		packQ8Blocks(dst[b*q8PanelBytes:], src[r*rowBytes+b*size:(r+1)*rowBytes], r)
	}
}

// packQ8Blocks places row r block by block.
func packQ8Blocks(dst, row []byte, r int) {
	const signs = 0x80808080
	for len(row) > 0 {
		b := dst[:q8PanelBytes]
		b[2*r], b[2*r+1] = row[0], row[1]
		for g := range Block / 4 {
			at := 2*PanelRows + g*4*PanelRows + 4*r
			binary.LittleEndian.PutUint32(b[at:], binary.LittleEndian.Uint32(row[2+4*g:])^signs)
		}
		dst, row = dst[q8PanelBytes:], row[2+Block:]
	}
}
