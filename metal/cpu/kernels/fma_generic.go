//go:build !arm64

package kernels

import "math"

// fma is a*b+c with one rounding, as vector units do it. The product of two
// float32 is exact in float64, so only the sum rounds; that rounding can mislead
// the one to float32 only if it ends on a tie, or below the normal numbers.
func fma(a, b, c float32) float32 {
	p, z := float64(a)*float64(b), float64(c)
	s := p + z
	if bits := math.Float64bits(s); bits<<tieShift == tie || bits<<1 < normal {
		return fmaTie(p, z, s)
	}
	return float32(s)
}

const (
	tieShift = 64 - 29 // leaves what float32 drops
	tie      = 1 << 63
	normal   = (1023 - 126) << 53 // the smallest, without its sign
)

// fmaRow is dst[i] = fma(x[i], w, dst[i]), without a call per value.
func fmaRow(dst, x []float32, w float32) {
	dst = dst[:len(x)]
	wide := float64(w)
	for i, v := range x {
		p, z := float64(v)*wide, float64(dst[i])
		s := p + z
		r := float32(s)
		if bits := math.Float64bits(s); bits<<tieShift == tie || bits<<1 < normal {
			r = fmaTie(p, z, s)
		}
		dst[i] = r
	}
}

// fmaLanes is acc[i] = fma(a[i], b[i], acc[i]).
func fmaLanes(acc, a, b *[rowLanes]float32) {
	for i, v := range a {
		p, z := float64(v)*float64(b[i]), float64(acc[i])
		s := p + z
		r := float32(s)
		if bits := math.Float64bits(s); bits<<tieShift == tie || bits<<1 < normal {
			r = fmaTie(p, z, s)
		}
		acc[i] = r
	}
}

// fmaTie rounds the sum of p and z to odd before it rounds it to float32.
//
//go:noinline
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
