package kernels

import (
	"math"
	"unsafe"

	"ds4/metal/quant"
)

// Simulated low precision: the rounding that the model saw in training. A block with
// a value that is not finite becomes NaN throughout.

const (
	fp8Block = 64
	fp8Max   = 448
	fp8Floor = 1e-4 // smallest block maximum
	fp4Block = 32
	fp4Max   = 6
	fp4Floor = fp4Max * 0x1p-126

	hadamardWide = 128 // the width that sets have a kernel for
)

// RoundFP8 rounds v through E4M3 in blocks of 64 with power-of-two scales. What
// is left of a block stays as it is.
func (s *Set) RoundFP8(v []float32) {
	if n := len(v) / fp8Block; n > 0 {
		s.roundFP8(&v[0], n)
	}
}

// RoundFP4 rounds v through FP4 in blocks of 32 with power-of-two scales.
func (s *Set) RoundFP4(v []float32) {
	if n := len(v) / fp4Block; n > 0 {
		s.roundFP4(&v[0], n)
	}
}

// RoundF16 rounds every value to F16.
func (s *Set) RoundF16(v []float32) {
	if len(v) > 0 {
		s.whole(len(v)).roundF16(&v[0], len(v))
	}
}

// NarrowF16 writes x as F16, rounded to the nearest.
func (s *Set) NarrowF16(dst []uint16, x []float32) {
	if len(x) > 0 {
		_ = dst[len(x)-1]
		s.whole(len(x)).narrowF16(&dst[0], &x[0], len(x))
	}
}

// Hadamard applies the orthonormal Walsh-Hadamard transform in natural order.
// The length is a power of two.
func (s *Set) Hadamard(v []float32) {
	if len(v) != hadamardWide {
		transform(v)
		return
	}
	s.hadamard(&v[0])
}

// pow2Ceil is 2^ceil(log2(x)) for positive normal x, exact.
func pow2Ceil(x float32) float32 {
	return math.Float32frombits((math.Float32bits(x) + 0x7fffff) &^ 0x7fffff)
}

// roundE4M3 is the nearest E4M3FN value of |v| <= 448, ties to even mantissa.
func roundE4M3(v float32) float32 {
	b := math.Float32bits(v)
	sign, mag := b&0x80000000, b&0x7fffffff
	if mag < 0x3c800000 { // below 2^-6: subnormal steps of 2^-9
		const magic = 1 << 14 // 2^-9 * 2^23: the sum has a unit of 2^-9
		m := float32(math.Float32frombits(mag)+magic) - magic
		return math.Float32frombits(math.Float32bits(m) | sign)
	}
	mag += 0x7ffff + mag>>20&1 // keep 3 mantissa bits
	return math.Float32frombits(mag&^0xfffff | sign)
}

// blockScale is the power of two that brings the block below limit, or NaN if a
// value is not finite: then no value of the block will be.
func blockScale(v []float32, floor, limit float32) float32 {
	amax := floor
	for _, x := range v {
		amax = max(amax, abs(x))
	}
	return pow2Ceil(amax/limit) + (amax - amax)
}

func roundFP8(x *float32, blocks int) {
	for v := unsafe.Slice(x, blocks*fp8Block); len(v) > 0; v = v[fp8Block:] {
		scale := blockScale(v[:fp8Block], fp8Floor, fp8Max)
		inv := 1 / scale // exact: a power of two
		for i, x := range v[:fp8Block] {
			v[i] = roundE4M3(min(max(x*inv, -fp8Max), fp8Max)) * scale
		}
	}
}

// roundE2M1 is the nearest of 0, .5, 1, 1.5, 2, 3, 4, 6, ties to the even code.
func roundE2M1(x float32) float32 {
	a := abs(x)
	var r float32
	switch {
	case a <= 0.25:
		r = 0
	case a < 0.75:
		r = 0.5
	case a <= 1.25:
		r = 1
	case a < 1.75:
		r = 1.5
	case a <= 2.5:
		r = 2
	case a < 3.5:
		r = 3
	case a <= 5:
		r = 4
	default:
		r = 6
	}
	return math.Float32frombits(math.Float32bits(r) | math.Float32bits(x)&(1<<31))
}

func roundFP4(x *float32, blocks int) {
	for v := unsafe.Slice(x, blocks*fp4Block); len(v) > 0; v = v[fp4Block:] {
		scale := blockScale(v[:fp4Block], fp4Floor, fp4Max)
		inv := 1 / scale
		for i, x := range v[:fp4Block] {
			v[i] = roundE2M1(x*inv) * scale
		}
	}
}

func roundF16(x *float32, n int) {
	v := unsafe.Slice(x, n)
	for i, f := range v {
		v[i] = quant.F16ToF32(quant.F32ToF16(f))
	}
}

func narrowF16(dst *uint16, x *float32, n int) {
	out := unsafe.Slice(dst, n)
	for i, f := range unsafe.Slice(x, n) {
		out[i] = quant.F32ToF16(f)
	}
}

func hadamard(x *float32) { transform(unsafe.Slice(x, hadamardWide)) }

func transform(v []float32) {
	for h := 1; h < len(v); h *= 2 {
		for i := 0; i < len(v); i += 2 * h {
			a, b := v[i:i+h], v[i+h:i+2*h]
			for j, x := range a {
				y := b[j]
				a[j], b[j] = x+y, x-y
			}
		}
	}
	s := float32(1 / math.Sqrt(float64(len(v))))
	for i := range v {
		v[i] *= s
	}
}
