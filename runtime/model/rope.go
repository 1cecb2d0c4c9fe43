package model

import "math"

// RopeFrequencies returns the angle per position of every rotated pair, first
// for layers without compression, then for layers with it: [2][RotDim/2]. The
// latter follow YaRN: pairs that turn often keep their frequency, slow ones are
// stretched by the factor. No attention temperature goes with it.
func (c *Config) RopeFrequencies() []float64 {
	pairs := c.RotDim / 2
	rot := float64(c.RotDim)
	out := make([]float64, 2*pairs)
	correction := func(beta float64) float64 {
		return rot * math.Log(c.YarnOrigCtx/(2*math.Pi*beta)) / (2 * math.Log(c.CompRopeBase))
	}
	lo := max(0, math.Floor(correction(c.YarnBetaFast)))
	hi := min(rot-1, math.Ceil(correction(c.YarnBetaSlow)))
	for i := range pairs {
		exponent := -2 * float64(i) / rot
		out[i] = math.Pow(c.RopeBase, exponent)
		f := math.Pow(c.CompRopeBase, exponent)
		u := min(max((float64(i)-lo)/max(0.001, hi-lo), 0), 1)
		out[pairs+i] = f * ((1 - u) + u/c.YarnFactor)
	}
	return out
}
