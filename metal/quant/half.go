package quant

import "math"

// F16ToF32 widens an IEEE 754 half; the conversion is exact, and NaN stays NaN.
func F16ToF32(h uint16) float32 {
	const (
		expGap  = 0xE0 << 23         // lifts the exponent so that 0x1F becomes 0xFF
		unscale = 0x1p-112           // undoes the lift for finite numbers
		halfOne = uint32(0x3F000000) // 0.5f: its mantissa takes a subnormal's bits
	)
	sign := uint32(h&0x8000) << 16
	mag := uint32(h & 0x7FFF)
	var f float32
	if mag >= 0x0400 {
		f = math.Float32frombits(mag<<13+expGap) * unscale
	} else {
		f = math.Float32frombits(mag|halfOne) - 0.5
	}
	return math.Float32frombits(math.Float32bits(f) | sign)
}

// F32ToF16 rounds to the nearest half, ties to even. Values beyond the largest
// half become infinities; NaN becomes a quiet NaN of the same sign.
func F32ToF16(f float32) uint16 {
	const (
		infinity  = 0x7F800000
		overflow  = 0x477FF000 // 65520: halfway between the largest half and the next power of two
		minNormal = 0x38800000 // 2^-14
	)
	bits := math.Float32bits(f)
	sign := uint16(bits >> 16 & 0x8000)
	mag := bits & 0x7FFFFFFF
	switch {
	case mag > infinity:
		return sign | 0x7E00
	case mag >= overflow:
		return sign | 0x7C00
	case mag < minNormal:
		// Adding 0.5 leaves exactly the subnormal's ten bits in the mantissa, and
		// the addition itself rounds to even.
		r := math.Float32frombits(mag) + 0.5
		return sign | uint16(math.Float32bits(r)-0x3F000000)
	}
	rounded := mag + 0xFFF + mag>>13&1
	return sign | uint16((rounded-(112<<23))>>13)
}

// BF16ToF32 widens a bfloat16; the conversion is exact.
func BF16ToF32(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// F32ToBF16 rounds to the nearest bfloat16, ties to even; NaN stays NaN.
func F32ToBF16(f float32) uint16 {
	bits := math.Float32bits(f)
	if f != f {
		return uint16(bits>>16) | 0x0040
	}
	return uint16((bits + 0x7FFF + bits>>16&1) >> 16)
}
