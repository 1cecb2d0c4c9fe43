package kvrow

import (
	"encoding/binary"
	"math"
	"slices"

	"ds4/metal/quant"
)

// Scales. A block of FP8 or FP4 was rounded to c*2^t, with a code c and the
// scale 2^t of the forward pass, which a row does not tell. Pack takes the
// smallest s with max|v| <= M*2^s, where M is the largest code, 448 or 6, and
// then every value of the block is a code times 2^s:
//
//   - s <= t, since max|v| <= M*2^t. So v, a multiple of the smallest code times
//     2^t, is one of the smallest code times 2^s too.
//   - v = c*2^t has at most 4 significant bits (2 for FP4), and codes are exactly
//     the multiples of the smallest one, up to M, with so many significant bits.
//     Going from t to s only turns subnormal codes into normal ones.
//   - Rounding to F16 after that does not change it. From 2^-14 on a half has 11
//     significant bits, enough for v (beyond the largest half the row is not
//     finite and refused). Below, halves are the multiples of 2^-24: v is one and
//     stays, or it has bits below 2^-24 and, as it has at most 4 significant bits,
//     is under 2^-21; then it becomes k*2^-24 with k <= 8, of at most 4
//     significant bits, and still a multiple of the smallest code times 2^t,
//     because that is less than 2^-24. It does not pass the largest code: the
//     forward pass has no FP8 scale under 2^-22. (FP4 rows are not rounded again.)
//
// What is not of this shape is found by unpacking each code and comparing bits.

const (
	infinity    = 0x7F800000
	minExponent = -126 // of a scale: the smallest normal float32
	bias        = 127
)

// scaleOf returns the exponent s of a block's scale: the smallest, not under
// minExponent, with top <= (1+fraction/2^23)*2^(s+shift). top is the largest
// magnitude, as bits of a finite float32.
func scaleOf(top uint32, shift int, fraction uint32) int {
	s := int(top>>23) - bias - shift
	if top&0x7FFFFF > fraction {
		s++
	}
	return max(s, minExponent)
}

// magnitude returns the largest |v| as bits. NaN and infinity are the largest of
// all.
func magnitude(v []float32) uint32 {
	var top uint32
	for _, x := range v {
		top = max(top, math.Float32bits(x)&^(1<<31))
	}
	return top
}

// power returns 2^e, for e from -126 to 127.
func power(e int) float32 { return math.Float32frombits(uint32(e+bias) << 23) }

// packPart returns the index of the first value that is not of the part's form,
// or -1.
func packPart(p Part, dst []byte, src []float32) int {
	switch p.Form {
	case E4M3:
		codes, exps := dst[:p.Values], dst[p.Values:]
		for i := range exps {
			block := (*[e4m3Block]float32)(src[i*e4m3Block:])
			e, ok := packE4M3((*[e4m3Block]byte)(codes[i*e4m3Block:]), block)
			if !ok {
				return i*e4m3Block + firstBad(block[:], e, &e4m3)
			}
			exps[i] = e
		}
	case E2M1:
		codes, exps := dst[:p.Values/2], dst[p.Values/2:]
		for i := range exps {
			block := (*[e2m1Block]float32)(src[i*e2m1Block:])
			e, ok := packE2M1((*[e2m1Block / 2]byte)(codes[i*e2m1Block/2:]), block)
			if !ok {
				return i*e2m1Block + firstBad(block[:], e, &e2m1)
			}
			exps[i] = e
		}
	case F16:
		for i, v := range src {
			h := quant.F32ToF16(v)
			if !isFinite(v) || math.Float32bits(quant.F16ToF32(h)) != math.Float32bits(v) {
				return i
			}
			binary.LittleEndian.PutUint16(dst[2*i:], h)
		}
	default:
		for i, v := range src {
			if !isFinite(v) {
				return i
			}
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(v))
		}
	}
	return -1
}

func isFinite(v float32) bool { return math.Float32bits(v)&infinity != infinity }

// packE4M3 packs a block. It returns the exponent byte, or false if a value is
// not a code times that scale.
func packE4M3(dst *[e4m3Block]byte, src *[e4m3Block]float32) (byte, bool) {
	top := magnitude(src[:])
	s := scaleOf(top, 8, 0x600000) // 448 is 1.75*2^8
	if top >= infinity || s+bias > maxE4M3 {
		return maxE4M3, false
	}
	scale, inverse := power(s), power(-s)
	var wrong uint32
	for i, v := range src {
		x := math.Float32bits(v * inverse)
		code := x >> 20 & 0x7FF
		if code >= 121<<3 { // from 2^-6 on: exponent and three bits of mantissa
			code -= 120 << 3
		} else { // multiples of 2^-9: adding 2^14 puts them into the lowest bits
			code = math.Float32bits(math.Float32frombits(x&^(1<<31))+1<<14) & 7
		}
		code |= x >> 24 & 0x80
		wrong |= math.Float32bits(e4m3[byte(code)]*scale) ^ math.Float32bits(v)
		dst[i] = byte(code)
	}
	return byte(s + bias), wrong == 0
}

// e2m1Codes are the FP4 codes by twice their magnitude; those that none has are
// wrong and found so.
var e2m1Codes = [16]byte{0, 1, 2, 3, 4, 0, 5, 0, 6, 0, 0, 0, 7}

// packE2M1 packs a block. It returns the exponent byte, or false if a value is
// not a code times that scale.
func packE2M1(dst *[e2m1Block / 2]byte, src *[e2m1Block]float32) (byte, bool) {
	top := magnitude(src[:])
	s := scaleOf(top, 2, 0x400000) // 6 is 1.5*2^2
	if top >= infinity || s+bias > maxE2M1 {
		return maxE2M1, false
	}
	scale, inverse := power(s), power(-s)
	var wrong uint32
	code := func(v float32) byte {
		x := math.Float32bits(v)
		twice := int32(math.Float32frombits(x&^(1<<31)) * inverse * 2) // at most 12
		c := e2m1Codes[twice&15] | byte(x>>28&8)
		wrong |= math.Float32bits(e2m1[c]*scale) ^ x
		return c
	}
	for i := range dst {
		dst[i] = code(src[2*i]) | code(src[2*i+1])<<4
	}
	return byte(s + bias), wrong == 0
}

// firstBad finds the first value of a block that is no code times the scale of
// exponent byte e, for the error.
func firstBad(block []float32, e byte, codes *[256]float32) int {
	if i := slices.IndexFunc(block, func(v float32) bool { return !isFinite(v) }); i >= 0 {
		return i
	}
	scale := power(int(e) - bias)
	return max(0, slices.IndexFunc(block, func(v float32) bool {
		return !slices.ContainsFunc(codes[:], func(c float32) bool { return math.Float32bits(c*scale) == math.Float32bits(v) })
	}))
}
