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
	case PanelF16, PanelBF16:
		return 2 * PanelRows * cols
	}
	return 4 * PanelRows * cols
}

// Panels is how many panels rows take.
func Panels(rows int) int { return (rows + PanelRows - 1) / PanelRows }

// Pack packs n rows (at most PanelRows) that start at src as a panel p, and zeros
// for the missing ones. p is the type's own panel, or PanelF32, which needs
// scratch for a row. PackK is for the others.
func Pack(dst, src []byte, p PanelType, t quant.Type, n, cols int, scratch []float32) {
	rowBytes, err := quant.RowBytes(t, cols)
	if err != nil {
		panic(err) // the loader admits only whole rows of known types
	}
	if n < PanelRows {
		clear(dst[:p.Bytes(cols)])
	}
	for r := range n {
		row := src[r*rowBytes : (r+1)*rowBytes]
		switch {
		case p == PanelQ8:
			packQ8(dst, row, r)
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
			packDecoded(dst, row, t, r, scratch[:cols])
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

// packQ8 places row r. A panel that has fewer rows holds zeros for the others:
// their scale is zero.
func packQ8(dst, row []byte, r int) {
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
