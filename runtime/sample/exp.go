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

// expNeg returns exp(x) for x <= 0, and 0 below expMin. The polynomial is the Taylor
// series up to degree 13: for |r| <= ln(2)/2 the remainder is below 1e-17. Nothing in
// it waits for the previous call, so that the processor does several at a time:
// math.Floor would, and the end of a loop that it cannot foresee.
func expNeg(x float64) float64 {
	const magic = 3 << 51 // adding it rounds to an integer, which then is in the low bits
	if x < expMin {
		return 0
	}
	t := float64(x*log2E) + magic
	k := t - magic
	r := (x - float64(k*ln2High)) - float64(k*ln2Low)
	p := float64((1.0/6227020800)*r) + 1.0/479001600
	p = float64(p*r) + 1.0/39916800
	p = float64(p*r) + 1.0/3628800
	p = float64(p*r) + 1.0/362880
	p = float64(p*r) + 1.0/40320
	p = float64(p*r) + 1.0/5040
	p = float64(p*r) + 1.0/720
	p = float64(p*r) + 1.0/120
	p = float64(p*r) + 1.0/24
	p = float64(p*r) + 1.0/6
	p = float64(p*r) + 1.0/2
	p = float64(p*r) + 1
	p = float64(p*r) + 1
	// p is between 1/2 and 2: adding k to its exponent cannot leave the normal range.
	return math.Float64frombits(math.Float64bits(p) + math.Float64bits(t)<<52)
}

// batch is how many logits are looked at before their exponentials are computed.
const batch = 64

// expNegs is expNeg of every value, in place: a loop with nothing else in it, whose
// turns the processor overlaps.
func expNegs(v []float64) {
	for i, x := range v {
		v[i] = expNeg(x)
	}
}
