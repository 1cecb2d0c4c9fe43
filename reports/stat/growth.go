package stat

import (
	"fmt"
	"math"
	"slices"

	gstat "gonum.org/v1/gonum/stat"
)

// Interval is one measured piece of a growing context: the tokens From up to To
// were prefilled at MSPerToken milliseconds each.
type Interval struct {
	FromTokens, ToTokens int
	MSPerToken           float64
}

// Growth is prefill cost as a line: at a context of n tokens the next token costs
// BaseMS + SlopeMS*n/1000 milliseconds. The base is what every token costs
// (matrices), the slope what attention adds with each 1000 tokens before it.
// Where the model of a line does not hold, the residuals show it.
type Growth struct {
	BaseMS, SlopeMS float64
	R2              float64 // share of the variance explained, 1 is all
	Residuals       []Residual
	Knee            *Knee // where the line breaks, nil if one line explains the costs
	Warnings        []string
}

// Knee is a place where the growth of cost changes: two lines that meet there
// explain what one does not.
type Knee struct {
	ContextTokens int
	// SlopeBeforeMS and SlopeAfterMS are milliseconds per token for each 1000
	// tokens of context, on either side.
	SlopeBeforeMS, SlopeAfterMS float64
}

// Residual compares one interval with the line, at the interval's middle.
type Residual struct {
	ContextTokens int // middle of the interval
	MSPerToken    float64
	FittedMS      float64
	Relative      float64 // (measured - fitted) / fitted
	// RelativeLo and RelativeHi are the interval of the measured median, as
	// Relative is; both equal it where there are too few samples for one.
	RelativeLo, RelativeHi float64
}

// knee is the relative residual above which a row is reported as off the line.
const knee = 0.15

// FitGrowth fits the line to at least three intervals with different middles. An
// interval counts as much as it has tokens.
func FitGrowth(intervals []Interval) (Growth, error) {
	const need = 3
	var xs, ys, weights []float64
	middles := make(map[float64]bool)
	for i, v := range intervals {
		if v.FromTokens < 0 || v.ToTokens <= v.FromTokens {
			return Growth{}, fmt.Errorf("stat: interval %d runs from %d to %d tokens", i, v.FromTokens, v.ToTokens)
		}
		if math.IsNaN(v.MSPerToken) || math.IsInf(v.MSPerToken, 0) {
			return Growth{}, fmt.Errorf("stat: interval %d: %w", i, ErrNotFinite)
		}
		x := float64(v.FromTokens+v.ToTokens) / 2000
		middles[x] = true
		xs, ys = append(xs, x), append(ys, v.MSPerToken)
		weights = append(weights, float64(v.ToTokens-v.FromTokens))
	}
	if len(middles) < need {
		return Growth{}, fmt.Errorf("stat: %d different intervals, a line with residuals needs %d: %w", len(middles), need, ErrTooFew)
	}
	base, slope := gstat.LinearRegression(xs, ys, weights, false)
	g := Growth{BaseMS: base, SlopeMS: slope, R2: rSquared(xs, ys, weights, base, slope)}
	for i, x := range xs {
		r := Residual{ContextTokens: int(math.Round(x * 1000)), MSPerToken: ys[i], FittedMS: base + slope*x}
		if r.FittedMS > 0 {
			r.Relative = r.MSPerToken/r.FittedMS - 1
		}
		g.Residuals = append(g.Residuals, r)
		if math.Abs(r.Relative) > knee {
			g.Warnings = append(g.Warnings, fmt.Sprintf("at %d tokens the cost is %+.0f %% off the line: growth is not linear there", r.ContextTokens, 100*r.Relative))
		}
	}
	slices.SortStableFunc(g.Residuals, func(a, b Residual) int { return a.ContextTokens - b.ContextTokens })
	return g, nil
}

// rSquared guards gonum's figure, which is 0/0 when every measurement is equal.
func rSquared(xs, ys, weights []float64, base, slope float64) float64 {
	r2 := gstat.RSquared(xs, ys, weights, base, slope)
	if math.IsNaN(r2) || math.IsInf(r2, 0) {
		return 1
	}
	return r2
}

// TPS is the fitted prefill throughput at a context of n tokens, in tokens per
// second; 0 where the line is not positive.
func (g Growth) TPS(contextTokens int) float64 {
	ms := g.BaseMS + g.SlopeMS*float64(contextTokens)/1000
	if ms <= 0 {
		return 0
	}
	return 1000 / ms
}
