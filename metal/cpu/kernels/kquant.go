package kernels

import (
	"encoding/binary"
	"unsafe"

	"ds4/metal/quant"
)

// IsK reports whether PanelK takes the type.
func IsK(t quant.Type) bool { return t == quant.Q4_K || t == quant.Q2_K || t == quant.IQ2_XXS }

// kBlock is a block of 256 values of one row on its way into a panel.
type kBlock struct {
	codes   [quant.BlockK]byte // with flipped sign bits
	scales  [quant.BlockK / Block]float32
	offsets [quant.BlockK / Block][2]float32
}

// packK places row r.
func packK(dst, row []byte, t quant.Type, r int) {
	var k kBlock
	size := t.BlockBytes()
	for ; len(row) > 0; row = row[size:] {
		switch t {
		case quant.Q4_K:
			k.q4(row)
		case quant.Q2_K:
			k.q2(row)
		default:
			k.iq2(row)
		}
		for b := range k.scales {
			h := unsafe.Slice((*float32)(unsafe.Pointer(&dst[0])), 3*PanelRows)
			h[r], h[PanelRows+r], h[2*PanelRows+r] = k.scales[b], k.offsets[b][0], k.offsets[b][1]
			codes := dst[kHeader*PanelRows+4*r:]
			for g := range Block / 4 {
				binary.LittleEndian.PutUint32(codes[4*PanelRows*g:], binary.LittleEndian.Uint32(k.codes[b*Block+4*g:]))
			}
			dst = dst[kPanelBytes:]
		}
	}
}

const signs64 = 0x8080808080808080

// q4 unpacks a block of Q4_K: codes 0 to 15.
func (k *kBlock) q4(row []byte) {
	d, dmin := quant.F16ToF32(binary.LittleEndian.Uint16(row)), quant.F16ToF32(binary.LittleEndian.Uint16(row[2:]))
	for j := range k.scales {
		scale, minimum := quant.ScaleMinQ4K((*[12]byte)(row[4:]), j)
		offset := -mul(dmin, float32(minimum))
		k.scales[j], k.offsets[j] = mul(d, float32(scale)), [2]float32{offset, offset}
	}
	for t := range 4 {
		for i := 0; i < 32; i += 8 {
			c := binary.LittleEndian.Uint64(row[16+32*t+i:])
			binary.LittleEndian.PutUint64(k.codes[64*t+i:], c&0x0f0f0f0f0f0f0f0f|signs64)
			binary.LittleEndian.PutUint64(k.codes[64*t+32+i:], c>>4&0x0f0f0f0f0f0f0f0f|signs64)
		}
	}
}

// q2 unpacks a block of Q2_K: codes 0 to 3, multiplied with the scales of their 16.
func (k *kBlock) q2(row []byte) {
	d, dmin := quant.F16ToF32(binary.LittleEndian.Uint16(row[80:])), quant.F16ToF32(binary.LittleEndian.Uint16(row[82:]))
	for sub := range 16 {
		k.scales[sub/2], k.offsets[sub/2][sub%2] = d, -mul(dmin, float32(row[sub]>>4))
		scale, shift := uint64(row[sub]&15), uint(2*(sub%8/2))
		for i := 0; i < 16; i += 8 {
			c := binary.LittleEndian.Uint64(row[16+32*(sub/8)+16*(sub%2)+i:])
			// 3*15 fits a byte: eight products in one.
			binary.LittleEndian.PutUint64(k.codes[16*sub+i:], (c>>shift&0x0303030303030303)*scale|signs64)
		}
	}
}

// iq2 unpacks a block of IQ2_XXS: the points of the grid with their signs.
func (k *kBlock) iq2(row []byte) {
	d := quant.F16ToF32(binary.LittleEndian.Uint16(row))
	for g := range k.scales {
		group := row[2+8*g:][:8]
		w := binary.LittleEndian.Uint32(group[4:])
		k.scales[g], k.offsets[g] = mul(d, 0.5+float32(w>>28))*0.25, [2]float32{}
		for j := range 4 {
			binary.LittleEndian.PutUint64(k.codes[32*g+8*j:], withSigns(gridWords[group[j]], signWords[w>>(7*uint(j))&127])^signs64)
		}
	}
}

// gridWords are the points of the grid, a byte per coordinate; signWords have all
// bits of the negative coordinates.
var (
	gridWords [256]uint64
	signWords [128]uint64
)

func init() {
	for i := range gridWords {
		for j, v := range quant.GridPoint(uint8(i)) {
			gridWords[i] |= uint64(v) << (8 * j)
		}
	}
	for s := range signWords {
		minus := quant.SignBits(uint8(s))
		for j := range 8 {
			signWords[s] |= uint64(minus>>j&1) * 0xff << (8 * j)
		}
	}
}

// withSigns negates bytes: -v is ^v + 1, which stays within a byte as v is not 0.
func withSigns(point, minus uint64) uint64 {
	return (point ^ minus) + minus&0x0101010101010101
}
