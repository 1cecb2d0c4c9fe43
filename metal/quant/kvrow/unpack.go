package kvrow

import (
	"encoding/binary"
	"math"
)

// e4m3 is the value of every FP8 code: 4 bits of exponent, bias 7, 3 of
// mantissa. 0x7F and 0xFF are NaN, and never get here.
var e4m3 = func() (t [256]float32) {
	for c := range t {
		exp, man := c>>3&15, float64(c&7)
		v := math.Ldexp(8+man, exp-10)
		if exp == 0 {
			v = math.Ldexp(man, -9)
		}
		if c >= 0x80 {
			v = math.Copysign(v, -1)
		}
		t[c] = float32(v)
	}
	t[0x7F], t[0xFF] = float32(math.NaN()), float32(math.NaN())
	return t
}()

// e2m1 is the value of every FP4 code, by its low 4 bits.
var e2m1 = func() (t [256]float32) {
	for c := range t {
		t[c] = [8]float32{0, 0.5, 1, 1.5, 2, 3, 4, 6}[c&7]
		if c&8 != 0 {
			t[c] = float32(math.Copysign(float64(t[c]), -1))
		}
	}
	return t
}()

// e2m1Pairs is the two values of every byte of FP4 codes.
var e2m1Pairs = func() (t [256][2]float32) {
	for c := range t {
		t[c] = [2]float32{e2m1[c&15], e2m1[c>>4]}
	}
	return t
}()

// unpackPart reports false for bytes that hold a NaN, an infinity or a scale
// that Pack never writes.
func unpackPart(p Part, dst []float32, src []byte) bool {
	switch p.Form {
	case E4M3:
		codes, exps := src[:p.Values], src[p.Values:]
		for i, e := range exps {
			if !unpackE4M3((*[e4m3Block]float32)(dst[i*e4m3Block:]), (*[e4m3Block]byte)(codes[i*e4m3Block:]), e) {
				return false
			}
		}
		return true
	case E2M1:
		codes, exps := src[:p.Values/2], src[p.Values/2:]
		for i, e := range exps {
			if !unpackE2M1((*[e2m1Block]float32)(dst[i*e2m1Block:]), (*[e2m1Block / 2]byte)(codes[i*e2m1Block/2:]), e) {
				return false
			}
		}
		return true
	case F16:
		return unpackF16(dst, src)
	}
	return unpackF32(dst, src)
}

// Largest exponent bytes whose scale leaves the largest code finite.
const (
	maxE4M3 = bias + 127 - 8
	maxE2M1 = bias + 127 - 2
)

func unpackE4M3(dst *[e4m3Block]float32, src *[e4m3Block]byte, e byte) bool {
	if e < minExponent+bias || e > maxE4M3 {
		return false
	}
	scale := math.Float32frombits(uint32(e) << 23)
	var nan uint64
	for i := 0; i < e4m3Block; i += 8 {
		x := binary.LittleEndian.Uint64(src[i:])
		nan |= x&0x7F7F7F7F7F7F7F7F + 0x0101010101010101
		d := (*[8]float32)(dst[i:])
		d[0] = e4m3[byte(x)] * scale
		d[1] = e4m3[byte(x>>8)] * scale
		d[2] = e4m3[byte(x>>16)] * scale
		d[3] = e4m3[byte(x>>24)] * scale
		d[4] = e4m3[byte(x>>32)] * scale
		d[5] = e4m3[byte(x>>40)] * scale
		d[6] = e4m3[byte(x>>48)] * scale
		d[7] = e4m3[byte(x>>56)] * scale
	}
	return nan&0x8080808080808080 == 0
}

func unpackE2M1(dst *[e2m1Block]float32, src *[e2m1Block / 2]byte, e byte) bool {
	if e < minExponent+bias || e > maxE2M1 {
		return false
	}
	scale := math.Float32frombits(uint32(e) << 23)
	for i := 0; i < len(src); i += 4 {
		x := binary.LittleEndian.Uint32(src[i:])
		a, b, c, d := &e2m1Pairs[byte(x)], &e2m1Pairs[byte(x>>8)], &e2m1Pairs[byte(x>>16)], &e2m1Pairs[byte(x>>24)]
		v := (*[8]float32)(dst[2*i:])
		v[0], v[1] = a[0]*scale, a[1]*scale
		v[2], v[3] = b[0]*scale, b[1]*scale
		v[4], v[5] = c[0]*scale, c[1]*scale
		v[6], v[7] = d[0]*scale, d[1]*scale
	}
	return true
}

// unpackF16 looks for exponents of all ones, four halves at a time.
func unpackF16(dst []float32, src []byte) bool {
	var nan uint64
	i := 0
	for ; i+4 <= len(dst); i += 4 {
		x := binary.LittleEndian.Uint64(src[2*i:])
		nan |= x&0x7C007C007C007C00 + 0x0400040004000400
		d := (*[4]float32)(dst[i:])
		d[0], d[1], d[2], d[3] = half(x), half(x>>16), half(x>>32), half(x>>48)
	}
	for ; i < len(dst); i++ {
		x := uint64(binary.LittleEndian.Uint16(src[2*i:]))
		nan |= x&0x7C00 + 0x0400
		dst[i] = half(x)
	}
	return nan&0x8000800080008000 == 0
}

// half is the value of the half in the low 16 bits. Its bits move to where
// float32 has them, and a multiplication corrects the exponent, which is exact
// and right for subnormal halves and the sign of zero too.
func half(h uint64) float32 {
	const correct = 0x1p112 // 2^(127-15)
	return math.Float32frombits(uint32(int32(int16(h))<<13)&0x8FFFE000) * correct
}

func unpackF32(dst []float32, src []byte) bool {
	ok := true
	for i := range dst {
		x := binary.LittleEndian.Uint32(src[4*i:])
		ok = ok && x&infinity != infinity
		dst[i] = math.Float32frombits(x)
	}
	return ok
}
