//go:build !arm64

package kernels

import "math"

// fma is a*b+c with one rounding, as vector units do it. The product of two
// float32 is exact in float64, so only the sum rounds; that rounding can mislead
// the one to float32 only if it ends on a tie, or below the normal numbers.
func fma(a, b, c float32) float32 {
	p, z := float64(a)*float64(b), float64(c)
	s := p + z
	if bits := math.Float64bits(s); bits&(1<<29-1) == 1<<28 || bits>>52&0x7ff < 1023-126 {
		return fmaTie(p, z, s)
	}
	return float32(s)
}

// fmaTie rounds the sum of p and z to odd before it rounds it to float32.
func fmaTie(p, z, s float64) float32 {
	t := s - p
	e := (p - (s - t)) + (z - t) // what s lacks, exactly
	if bits := math.Float64bits(s); bits&1 == 0 && (e > 0 || e < 0) {
		if e > 0 == (s > 0) {
			bits++
		} else {
			bits--
		}
		s = math.Float64frombits(bits)
	}
	return float32(s)
}
