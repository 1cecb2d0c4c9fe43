package quant

import (
	"encoding/binary"
	"fmt"
	"math"
)

// DecodeRow decodes len(dst) values of type t. src must be exactly the
// RowBytes(t, len(dst)) bytes of the row. Integers of I32 are converted to the
// nearest float32. dst is unchanged when an error is returned.
func DecodeRow(t Type, dst []float32, src []byte) error {
	if err := checkRow(t, len(dst), len(src)); err != nil {
		return err
	}
	switch t {
	case F32:
		decodeF32(dst, src)
	case F16:
		decodeF16(dst, src)
	case BF16:
		decodeBF16(dst, src)
	case I32:
		for i := range dst {
			dst[i] = float32(int32(binary.LittleEndian.Uint32(src[4*i:])))
		}
	case Q8_0:
		decodeQ8_0(dst, src)
	case Q2_K:
		decodeQ2_K(dst, src)
	case Q4_K:
		decodeQ4_K(dst, src)
	case IQ2_XXS:
		decodeIQ2_XXS(dst, src)
	}
	return nil
}

// DecodeInt32 reads len(dst) integers of an I32 row of exactly 4*len(dst) bytes.
func DecodeInt32(dst []int32, src []byte) error {
	if err := checkRow(I32, len(dst), len(src)); err != nil {
		return err
	}
	for i := range dst {
		dst[i] = int32(binary.LittleEndian.Uint32(src[4*i:]))
	}
	return nil
}

// checkRow compares a number of values with a number of bytes.
func checkRow(t Type, values, bytes int) error {
	want, err := RowBytes(t, values)
	if err != nil {
		return err
	}
	if bytes != want {
		return fmt.Errorf("quant: %d bytes for %d values of %v, want %d: %w", bytes, values, t, want, ErrLength)
	}
	return nil
}

func decodeF32(dst []float32, src []byte) {
	src = src[:4*len(dst)]
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

// halves holds the value of every half. A row of F16 weights is decoded for each
// token of an answer, and the table is three times as fast as the arithmetic.
var halves = func() (t [1 << 16]float32) {
	for h := range t {
		t[h] = F16ToF32(uint16(h))
	}
	return t
}()

func decodeF16(dst []float32, src []byte) {
	for len(dst) >= 4 {
		b, out := binary.LittleEndian.Uint64(src), (*[4]float32)(dst)
		out[0], out[1] = halves[uint16(b)], halves[uint16(b>>16)]
		out[2], out[3] = halves[uint16(b>>32)], halves[uint16(b>>48)]
		dst, src = dst[4:], src[8:]
	}
	for i := range dst {
		dst[i] = halves[binary.LittleEndian.Uint16(src[2*i:])]
	}
}

func decodeBF16(dst []float32, src []byte) {
	for len(dst) >= 8 {
		b, out := (*[16]byte)(src), (*[8]float32)(dst)
		for i := range out {
			out[i] = BF16ToF32(uint16(b[2*i]) | uint16(b[2*i+1])<<8)
		}
		dst, src = dst[8:], src[16:]
	}
	for i := range dst {
		dst[i] = BF16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// The block decoders below convert to arrays once per block, so that the inner
// loops run without bounds checks. Products are rounded to float32 before they
// are added: without the conversion some machines would fuse the two and give
// other bits.

func decodeQ8_0(dst []float32, src []byte) {
	for len(dst) >= BlockQ8 {
		b := (*[bytesQ8_0]byte)(src)
		out := (*[BlockQ8]float32)(dst)
		d := F16ToF32(uint16(b[0]) | uint16(b[1])<<8)
		for i := range out {
			out[i] = d * float32(int8(b[2+i]))
		}
		dst, src = dst[BlockQ8:], src[bytesQ8_0:]
	}
}

func decodeQ2_K(dst []float32, src []byte) {
	for len(dst) >= BlockK {
		b := (*[bytesQ2_K]byte)(src)
		out := (*[BlockK]float32)(dst)
		d := F16ToF32(uint16(b[80]) | uint16(b[81])<<8)
		dmin := F16ToF32(uint16(b[82]) | uint16(b[83])<<8)
		for sub := range 16 {
			scale := d * float32(b[sub]&15)
			offset := dmin * float32(b[sub]>>4)
			// 16 sub-blocks: 8 per half, two of them share a 2-bit plane of 32 bytes.
			codes := (*[16]byte)(b[16+32*(sub/8)+16*(sub%2):])
			shift := uint(2 * (sub % 8 / 2))
			o := (*[16]float32)(out[16*sub:])
			for i := range o {
				o[i] = float32(scale*float32(codes[i]>>shift&3)) - offset
			}
		}
		dst, src = dst[BlockK:], src[bytesQ2_K:]
	}
}

// scaleMinQ4K unpacks the 6-bit scale and minimum of sub-block j (0..7).
func scaleMinQ4K(s *[12]byte, j int) (scale, minimum byte) {
	if j < 4 {
		return s[j] & 63, s[j+4] & 63
	}
	return s[j+4]&15 | s[j-4]>>6<<4, s[j+4]>>4 | s[j]>>6<<4
}

func decodeQ4_K(dst []float32, src []byte) {
	for len(dst) >= BlockK {
		b := (*[bytesQ4_K]byte)(src)
		out := (*[BlockK]float32)(dst)
		d := F16ToF32(uint16(b[0]) | uint16(b[1])<<8)
		dmin := F16ToF32(uint16(b[2]) | uint16(b[3])<<8)
		packed := (*[12]byte)(b[4:])
		for t := range 4 {
			a0, m0 := scaleMinQ4K(packed, 2*t)
			a1, m1 := scaleMinQ4K(packed, 2*t+1)
			s0, o0 := d*float32(a0), dmin*float32(m0)
			s1, o1 := d*float32(a1), dmin*float32(m1)
			codes := (*[32]byte)(b[16+32*t:])
			lo := (*[32]float32)(out[64*t:])
			hi := (*[32]float32)(out[64*t+32:])
			for i, c := range codes {
				lo[i] = float32(s0*float32(c&15)) - o0
				hi[i] = float32(s1*float32(c>>4)) - o1
			}
		}
		dst, src = dst[BlockK:], src[bytesQ4_K:]
	}
}

func decodeIQ2_XXS(dst []float32, src []byte) {
	for len(dst) >= BlockK {
		b := (*[bytesIQ2_XXS]byte)(src)
		out := (*[BlockK]float32)(dst)
		d := F16ToF32(uint16(b[0]) | uint16(b[1])<<8)
		for g := range 8 {
			grp := (*[8]byte)(b[2+8*g:])
			w := binary.LittleEndian.Uint32(grp[4:])
			scale := float32(d*(0.5+float32(w>>28))) * 0.25
			for k := range 4 {
				point := &gridF32[grp[k]]
				sign := &signF32[w>>(7*uint(k))&127]
				o := (*[8]float32)(out[32*g+8*k:])
				for j := range o {
					o[j] = scale * point[j] * sign[j]
				}
			}
		}
		dst, src = dst[BlockK:], src[bytesIQ2_XXS:]
	}
}
