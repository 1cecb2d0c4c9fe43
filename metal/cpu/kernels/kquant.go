package kernels

import (
	"encoding/binary"
	"unsafe"

	"ds4/metal/quant"
)

// IsK reports whether PanelK takes the type.
func IsK(t quant.Type) bool { return t == quant.Q4_K || t == quant.Q2_K || t == quant.IQ2_XXS }

// Scratch is the memory of Pack: 256 codes of every row.
type Scratch [PanelRows * quant.BlockK]byte

// packK packs a PanelK.
func (s *Set) packK(dst, src []byte, t quant.Type, n, cols int, mem *Scratch) {
	size := t.BlockBytes()
	rowBytes := cols / quant.BlockK * size
	clear(mem[n*quant.BlockK:])
	unpack := s.unpackIQ2
	switch t {
	case quant.Q4_K:
		unpack = s.unpackQ4
	case quant.Q2_K:
		unpack = s.unpackQ2
	}
	const blocks = quant.BlockK / Block
	for b := range cols / quant.BlockK {
		out := dst[b*blocks*kPanelBytes : (b+1)*blocks*kPanelBytes]
		for r := range n {
			row := src[r*rowBytes+b*size:][:size]
			packHeaders(out, row, t, r)
			unpack(unsafe.Pointer(&mem[r*quant.BlockK]), unsafe.Pointer(&row[0]))
		}
		s.spread(unsafe.Pointer(&out[kHeader*PanelRows]), unsafe.Pointer(mem), kPanelBytes)
	}
}

// kHeaders views the headers of eight blocks of a panel: block b, part p and row r
// are at b*kBlockFloats + p*PanelRows + r.
type kHeaders [quant.BlockK / Block * kBlockFloats]float32

const kBlockFloats = kPanelBytes / 4

// packHeaders writes scale and offsets of row r for the eight blocks of dst.
func packHeaders(dst, row []byte, t quant.Type, r int) {
	_ = dst[quant.BlockK/Block*kPanelBytes-1]
	h := (*kHeaders)(unsafe.Pointer(&dst[0]))
	half := func(at int) float32 { return quant.F16ToF32(binary.LittleEndian.Uint16(row[at:])) }
	at := r
	switch t {
	case quant.Q4_K:
		d, dmin := half(0), half(2)
		scales, minima := scalesQ4K(row)
		for range quant.BlockK / Block {
			offset := -mul(dmin, float32(minima&63))
			h[at], h[at+PanelRows], h[at+2*PanelRows] = mul(d, float32(scales&63)), offset, offset
			scales, minima, at = scales>>8, minima>>8, at+kBlockFloats
		}
	case quant.Q2_K:
		d, dmin := half(80), half(82)
		var offsets [16]float32
		for m := range offsets {
			offsets[m] = -mul(dmin, float32(m))
		}
		for b := range quant.BlockK / Block {
			h[at], h[at+PanelRows], h[at+2*PanelRows] = d, offsets[row[2*b]>>4], offsets[row[2*b+1]>>4]
			at += kBlockFloats
		}
	default:
		d := half(0)
		for b := range quant.BlockK / Block {
			h[at], h[at+PanelRows], h[at+2*PanelRows] = mul(d, 0.5+float32(row[2+8*b+7]>>4))*0.25, 0, 0
			at += kBlockFloats
		}
	}
}

// scalesQ4K unpacks the eight 6-bit scales and minima of a block of Q4_K, a byte each.
func scalesQ4K(row []byte) (scales, minima uint64) {
	const six, four, two = 0x3f3f3f3f, 0x0f0f0f0f, 0x03030303
	a, b, c := binary.LittleEndian.Uint32(row[4:]), binary.LittleEndian.Uint32(row[8:]), binary.LittleEndian.Uint32(row[12:])
	scales = uint64(a&six) | uint64(c&four|a>>6&two<<4)<<32
	minima = uint64(b&six) | uint64(c>>4&four|b>>6&two<<4)<<32
	return scales, minima
}

const signs64 = 0x8080808080808080

// unpackQ4 unpacks codes 0 to 15.
func unpackQ4(codes, row unsafe.Pointer) {
	out, in := (*[quant.BlockK]byte)(codes), (*[16 + quant.BlockK/2]byte)(row)
	for t := range 4 {
		for i := 0; i < 32; i += 8 {
			c := binary.LittleEndian.Uint64(in[16+32*t+i:])
			binary.LittleEndian.PutUint64(out[64*t+i:], c&0x0f0f0f0f0f0f0f0f|signs64)
			binary.LittleEndian.PutUint64(out[64*t+32+i:], c>>4&0x0f0f0f0f0f0f0f0f|signs64)
		}
	}
}

// unpackQ2 unpacks codes 0 to 3, multiplied with the scales of their 16.
func unpackQ2(codes, row unsafe.Pointer) {
	out, in := (*[quant.BlockK]byte)(codes), (*[16 + quant.BlockK/4]byte)(row)
	for sub := range 16 {
		scale, shift := uint64(in[sub]&15), uint(2*(sub%8/2))
		for i := 0; i < 16; i += 8 {
			c := binary.LittleEndian.Uint64(in[16+32*(sub/8)+16*(sub%2)+i:])
			// 3*15 fits a byte: eight products in one.
			binary.LittleEndian.PutUint64(out[16*sub+i:], (c>>shift&0x0303030303030303)*scale|signs64)
		}
	}
}

// unpackIQ2 looks up the points of the grid and gives them their signs.
func unpackIQ2(codes, row unsafe.Pointer) {
	out, in := (*[quant.BlockK]byte)(codes), (*[2 + quant.BlockK/4]byte)(row)
	for g := range quant.BlockK / Block {
		group := in[2+8*g:][:8]
		w := binary.LittleEndian.Uint32(group[4:])
		for j := range 4 {
			v := withSigns(gridWords[group[j]], signWords[w>>(7*uint(j))&127])
			binary.LittleEndian.PutUint64(out[32*g+8*j:], v^signs64)
		}
	}
}

// gridWords are the points of the grid, a byte per coordinate; signWords have all
// bits of the negative coordinates. gridCodes have two bits for the level of
// a coordinate: coordinates k and 4+k of a point side by side, those of k < 2 in the
// first table, of an odd k in the upper half of a byte.
var (
	gridWords [256]uint64
	signWords [128]uint64
	gridCodes [2][256]byte
	// spreadSigns have the sign of coordinate 4g+k in bit g of byte k.
	spreadSigns [128]uint32
)

func init() {
	level := map[int8]byte{8: 0, 25: 1, 43: 2}
	for i := range gridWords {
		for j, v := range quant.GridPoint(uint8(i)) {
			gridWords[i] |= uint64(v) << (8 * j)
			k := j % 4
			gridCodes[k/2][i] |= level[v] << (4*(k%2) + 2*(j/4))
		}
	}
	for s := range signWords {
		minus := quant.SignBits(uint8(s))
		for j := range 8 {
			signWords[s] |= uint64(minus>>j&1) * 0xff << (8 * j)
			spreadSigns[s] |= uint32(minus>>j&1) << (8*(j%4) + j/4)
		}
	}
}

// withSigns negates bytes: -v is ^v + 1, which stays within a byte as v is not 0.
func withSigns(point, minus uint64) uint64 {
	return (point ^ minus) + minus&0x0101010101010101
}

// spread moves the codes of 32 rows of 256, four bytes of a row at a time, to eight
// blocks that are block bytes apart.
func spread(dst, codes unsafe.Pointer, block int) {
	const blocks = quant.BlockK / Block
	out, in := unsafe.Slice((*byte)(dst), (blocks-1)*block+Block*PanelRows), (*Scratch)(codes)
	for r := range PanelRows {
		row := in[r*quant.BlockK:][:quant.BlockK]
		for g := range quant.BlockK / 4 {
			at := g/8*block + g%8*4*PanelRows + 4*r
			binary.LittleEndian.PutUint32(out[at:], binary.LittleEndian.Uint32(row[4*g:]))
		}
	}
}
