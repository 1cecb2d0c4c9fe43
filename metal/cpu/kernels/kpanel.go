package kernels

import (
	"encoding/binary"
	"unsafe"

	"ds4/metal/quant"
)

// K-quants packed at start keep their bits, in about their own size: what 32 rows
// have in 256 columns lies together, so that vector lanes are rows. A kernel for
// few input rows reads that directly. For more of them a panel is expanded to a
// PanelK, which is also the definition of what such a product is.

const (
	kBlocks = quant.BlockK / Block

	// Q4_K: scales d and dmin of the rows as F16. Then per block a byte of scale and
	// one of minimum for each row, and four vectors of codes: byte k of row r in
	// vector v has column 4v+k in its low half, and column 16+4v+k in the other.
	q4Head, q4Block = 2 * 2 * PanelRows, (2 + Block/2) * PanelRows
	// Q2_K: d and dmin. Then per block a byte of scale and minimum, as in the file,
	// for each row and half of the columns, and a vector of codes for each half:
	// byte k of row r has column 4s+k in bits 2s.
	q2Head, q2Block = 2 * 2 * PanelRows, (2 + Block/4) * PanelRows
	// IQ2_XXS: d, and four vectors of scales, those of two blocks in a byte. Then per
	// block the four grid points of each row, and the signs of its 32 columns: column
	// 4g+k has bit g of byte k.
	iq2Head, iq2Block = (2 + kBlocks/2) * PanelRows, (4 + 4) * PanelRows
)

// superBytes is the size of 256 columns of a packed panel.
func (p PanelType) superBytes() int {
	switch p {
	case PanelQ4K:
		return q4Head + kBlocks*q4Block
	case PanelQ2K:
		return q2Head + kBlocks*q2Block
	}
	return iq2Head + kBlocks*iq2Block
}

// IsPackedK reports whether Expand takes the panel.
func (p PanelType) IsPackedK() bool { return p == PanelQ4K || p == PanelQ2K || p == PanelIQ2 }

// packKPanel packs n rows of a K-quant as the file has them.
func packKPanel(dst, src []byte, p PanelType, t quant.Type, n, cols int) {
	size, super := t.BlockBytes(), p.superBytes()
	rowBytes := cols / quant.BlockK * size
	for b := range cols / quant.BlockK {
		out := dst[b*super : (b+1)*super]
		for r := range n {
			row := src[r*rowBytes+b*size:][:size]
			switch p {
			case PanelQ4K:
				packQ4K(out, row, r)
			case PanelQ2K:
				packQ2K(out, row, r)
			default:
				packIQ2(out, row, r)
			}
		}
	}
}

// put32 writes dword i of dst, which the caller knows to be there.
func put32(dst unsafe.Pointer, i int, v uint32) { *(*uint32)(unsafe.Add(dst, 4*i)) = v }

func packQ4K(dst, row []byte, r int) {
	copy(dst[2*r:2*r+2], row[0:2])
	copy(dst[2*PanelRows+2*r:][:2], row[2:4])
	scales, minima := scalesQ4K(row)
	codes := (*[quant.BlockK / 2]byte)(row[16:])
	for b := range kBlocks {
		out := (*[q4Block]byte)(dst[q4Head+b*q4Block:])
		out[r], out[PanelRows+r] = byte(scales>>(8*b)), byte(minima>>(8*b))
		at := unsafe.Pointer(&out[2*PanelRows])
		in, shift := codes[b/2*32:][:32], uint(b%2*4) // the file has two blocks in the halves of 32 bytes
		for v := range 2 {
			const low = 0x0f0f0f0f0f0f0f0f
			x, y := binary.LittleEndian.Uint64(in[8*v:]), binary.LittleEndian.Uint64(in[16+8*v:])
			word := x>>shift&low | y>>shift&low<<4
			put32(at, 2*v*PanelRows+r, uint32(word))
			put32(at, (2*v+1)*PanelRows+r, uint32(word>>32))
		}
	}
}

func packQ2K(dst, row []byte, r int) {
	copy(dst[2*r:2*r+2], row[80:82])
	copy(dst[2*PanelRows+2*r:][:2], row[82:84])
	planes := (*[quant.BlockK / 4]byte)(row[16:])
	for b := range kBlocks {
		out := (*[q2Block]byte)(dst[q2Head+b*q2Block:])
		at, shift := unsafe.Pointer(&out[2*PanelRows]), uint(2*(b%4))
		for half := range 2 {
			out[half*PanelRows+r] = row[2*b+half]
			in := planes[32*(b/4)+16*half:][:16] // half a plane of four blocks
			const low = 0x0303030303030303
			x, y := binary.LittleEndian.Uint64(in)>>shift&low, binary.LittleEndian.Uint64(in[8:])>>shift&low
			put32(at, half*PanelRows+r, uint32(x)|uint32(x>>32)<<2|uint32(y)<<4|uint32(y>>32)<<6)
		}
	}
}

func packIQ2(dst, row []byte, r int) {
	copy(dst[2*r:2*r+2], row[0:2])
	for b := 0; b < kBlocks; b += 2 {
		var scales [2]byte
		for i := range scales {
			group := binary.LittleEndian.Uint64(row[2+8*(b+i):])
			out := (*[iq2Block]byte)(dst[iq2Head+(b+i)*iq2Block:])
			w := uint32(group >> 32)
			scales[i] = byte(w >> 28)
			put32(unsafe.Pointer(out), r, uint32(group))
			signs := spreadSigns[w&127] | spreadSigns[w>>7&127]<<2 | spreadSigns[w>>14&127]<<4 | spreadSigns[w>>21&127]<<6
			put32(unsafe.Pointer(out), PanelRows+r, signs)
		}
		dst[(2+b/2)*PanelRows+r] = scales[0] | scales[1]<<4
	}
}

// Direct reports whether n input rows are multiplied with a packed K-quant as it
// is. If not, the panel has to be expanded.
func (s *Set) Direct(p PanelType, n int) bool {
	g := s.direct(p)
	return g != nil && n < len(g) && g[n] != nil
}

// direct are the kernels of Direct.
func (s *Set) direct(p PanelType) *[DirectTokens + 1]gemmFunc {
	switch p {
	case PanelQ4K:
		return &s.gemmQ4K
	case PanelQ2K:
		return &s.gemmQ2K
	case PanelIQ2:
		return &s.gemmIQ2
	}
	return nil
}

// Expand turns a packed K-quant into a PanelK.
func (s *Set) Expand(dst, src []byte, p PanelType, cols int) {
	_, _ = dst[PanelK.Bytes(cols)-1], src[p.Bytes(cols)-1]
	expand := s.expandIQ2
	switch p {
	case PanelQ4K:
		expand = s.expandQ4K
	case PanelQ2K:
		expand = s.expandQ2K
	}
	expand(unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), cols/quant.BlockK)
}

// kBlock is one block of a PanelK.
type kBlock struct {
	scale, first, second [PanelRows]float32
	codes                [Block / 4][PanelRows]uint32
}

const signs32 = 0x80808080

func halfAt(p []byte, i int) float32 {
	return quant.F16ToF32(binary.LittleEndian.Uint16(p[2*i:]))
}

func dwordAt(p []byte, i int) uint32 { return binary.LittleEndian.Uint32(p[4*i:]) }

func expandQ4K(dst, src unsafe.Pointer, supers int) {
	out := unsafe.Slice((*kBlock)(dst), supers*kBlocks)
	in := unsafe.Slice((*byte)(src), supers*PanelQ4K.superBytes())
	for ; len(out) > 0; out, in = out[kBlocks:], in[PanelQ4K.superBytes():] {
		for b := range kBlocks {
			o, p := &out[b], in[q4Head+b*q4Block:][:q4Block]
			for r := range PanelRows {
				o.scale[r] = mul(halfAt(in, r), float32(p[r]))
				o.first[r] = -mul(halfAt(in, PanelRows+r), float32(p[PanelRows+r]))
				o.second[r] = o.first[r]
				for v := range 4 {
					c := dwordAt(p[2*PanelRows+4*PanelRows*v:], r)
					o.codes[v][r], o.codes[4+v][r] = c&0x0f0f0f0f|signs32, c>>4&0x0f0f0f0f|signs32
				}
			}
		}
	}
}

func expandQ2K(dst, src unsafe.Pointer, supers int) {
	out := unsafe.Slice((*kBlock)(dst), supers*kBlocks)
	in := unsafe.Slice((*byte)(src), supers*PanelQ2K.superBytes())
	for ; len(out) > 0; out, in = out[kBlocks:], in[PanelQ2K.superBytes():] {
		for b := range kBlocks {
			o, p := &out[b], in[q2Head+b*q2Block:][:q2Block]
			for r := range PanelRows {
				dmin := halfAt(in, PanelRows+r)
				o.scale[r] = halfAt(in, r)
				o.first[r], o.second[r] = -mul(dmin, float32(p[r]>>4)), -mul(dmin, float32(p[PanelRows+r]>>4))
				for half := range 2 {
					scale := uint32(p[half*PanelRows+r] & 15)
					c := dwordAt(p[2*PanelRows+4*PanelRows*half:], r)
					for s := range 4 {
						// 3*15 fits a byte: four products in one.
						o.codes[4*half+s][r] = (c>>(2*s)&0x03030303)*scale | signs32
					}
				}
			}
		}
	}
}

func expandIQ2(dst, src unsafe.Pointer, supers int) {
	out := unsafe.Slice((*kBlock)(dst), supers*kBlocks)
	in := unsafe.Slice((*byte)(src), supers*PanelIQ2.superBytes())
	for ; len(out) > 0; out, in = out[kBlocks:], in[PanelIQ2.superBytes():] {
		for b := range kBlocks {
			o, p := &out[b], in[iq2Head+b*iq2Block:][:iq2Block]
			for r := range PanelRows {
				scale := in[(2+b/2)*PanelRows+r] >> (4 * (b % 2)) & 15
				o.scale[r] = mul(halfAt(in, r), 0.5+float32(scale)) * 0.25
				o.first[r], o.second[r] = 0, 0
				points, signs := p[4*r:4*r+4], dwordAt(p[4*PanelRows:], r)
				for g := range Block / 4 {
					minus := signs >> g & 0x01010101
					v := uint32(gridWords[points[g/2]] >> (32 * (g % 2)))
					o.codes[g][r] = ((v ^ minus*0xff) + minus) ^ signs32
				}
			}
		}
	}
}
