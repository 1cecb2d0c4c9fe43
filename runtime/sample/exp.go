package sample

import "math"

// math.Exp has assembler variants that differ in the last bit between platforms,
// and compilers may fuse a multiplication with an addition. Explicit conversions
// forbid the latter, so this one gives the same bits everywhere.

const (
	// ln 2 in two parts; the first has enough trailing zeros that its product with
	// any exponent is exact.
	ln2High = 6.93147180369123816490e-01
	ln2Low  = 1.90821492927058770002e-10
	log2E   = 1 / math.Ln2

	// expMin is where exp(x) is so small that no sum with 1 notices it.
	expMin = -700
)

// inverseFactorials are the coefficients of the Taylor series up to degree 13,
// highest first: on |r| <= ln(2)/2 the remainder is below 1e-17.
var inverseFactorials = [...]float64{
	1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880,
	1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 1.0 / 2, 1, 1,
}

// expNeg returns exp(x) for x <= 0, and 0 below expMin.
func expNeg(x float64) float64 {
	if x < expMin {
		return 0
	}
	k := math.Floor(float64(x*log2E) + 0.5)
	r := (x - float64(k*ln2High)) - float64(k*ln2Low)
	p := inverseFactorials[0]
	for _, c := range inverseFactorials[1:] {
		p = float64(p*r) + c
	}
	// p is between 1/2 and 2: adding k to its exponent cannot leave the normal range.
	return math.Float64frombits(math.Float64bits(p) + uint64(int64(k))<<52)
}
