package stat

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
	gstat "gonum.org/v1/gonum/stat"
)

// Interval is one measured piece of a growing context: the tokens From up to To
// were prefilled at MSPerToken milliseconds each.
type Interval struct {
	FromTokens, ToTokens int
	MSPerToken           float64
	// LoMS and HiMS are the interval of MSPerToken, both 0 where there is none.
	LoMS, HiMS float64
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

// outside says that the line does not pass through the interval of the measurement:
// what does lies within the noise.
func (r Residual) outside() bool { return r.RelativeLo > 0 || r.RelativeHi < 0 }

// offLine is the relative residual above which a row is reported as off the line.
const offLine = 0.15

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
			r.RelativeLo, r.RelativeHi = r.Relative, r.Relative
			if v := intervals[i]; v.LoMS > 0 && v.HiMS >= v.LoMS {
				r.RelativeLo, r.RelativeHi = v.LoMS/r.FittedMS-1, v.HiMS/r.FittedMS-1
			}
		}
		g.Residuals = append(g.Residuals, r)
		if r.outside() && math.Abs(r.Relative) > offLine {
			g.Warnings = append(g.Warnings, fmt.Sprintf("at %d tokens the cost is %+.0f %% off the line: growth is not linear there", r.ContextTokens, 100*r.Relative))
		}
	}
	if g.Knee = findKnee(xs, ys, weights, g); g.Knee != nil {
		g.Warnings = append(g.Warnings, fmt.Sprintf("the growth changes at about %d tokens, from %+.4f to %+.4f ms for each 1000 tokens: one line does not describe it",
			g.Knee.ContextTokens, g.Knee.SlopeBeforeMS, g.Knee.SlopeAfterMS))
	}
	slices.SortStableFunc(g.Residuals, func(a, b Residual) int { return a.ContextTokens - b.ContextTokens })
	return g, nil
}

const (
	kneePoints  = 5    // intervals that two lines with a common point need to leave a residual
	kneeGain    = 0.25 // of the line's squared residuals, what a knee may leave at most
	kneeVisible = 0.05 // relative residual that the line must have somewhere
)

// findKnee looks for the place where two lines that meet explain the costs far
// better than one. It tries every measured place with two others on either side.
func findKnee(xs, ys, weights []float64, g Growth) *Knee {
	visible := slices.ContainsFunc(g.Residuals, func(r Residual) bool { return r.outside() && math.Abs(r.Relative) > kneeVisible })
	places := slices.Clone(xs)
	slices.Sort(places)
	places = slices.Compact(places)
	if !visible || len(places) < kneePoints {
		return nil
	}
	line := squares(xs, ys, weights, func(x float64) float64 { return g.BaseMS + g.SlopeMS*x })
	var best *Knee
	left := kneeGain * line
	for _, at := range places[2 : len(places)-2] {
		base, before, bend, ok := brokenLine(xs, ys, weights, at)
		if !ok {
			continue
		}
		sum := squares(xs, ys, weights, func(x float64) float64 { return base + before*x + bend*max(x-at, 0) })
		if sum < left {
			left = sum
			best = &Knee{ContextTokens: int(math.Round(at * 1000)), SlopeBeforeMS: before, SlopeAfterMS: before + bend}
		}
	}
	return best
}

// brokenLine fits base + before*x + bend*max(x-at, 0) by weighted least squares.
func brokenLine(xs, ys, weights []float64, at float64) (base, before, bend float64, ok bool) {
	a, b := mat.NewDense(len(xs), 3, nil), mat.NewVecDense(len(xs), nil)
	for i, x := range xs {
		w := math.Sqrt(weights[i])
		a.SetRow(i, []float64{w, w * x, w * max(x-at, 0)})
		b.SetVec(i, w*ys[i])
	}
	var c mat.VecDense
	if err := c.SolveVec(a, b); err != nil {
		return 0, 0, 0, false
	}
	return c.AtVec(0), c.AtVec(1), c.AtVec(2), true
}

func squares(xs, ys, weights []float64, fit func(float64) float64) float64 {
	sum := 0.0
	for i, x := range xs {
		d := ys[i] - fit(x)
		sum += weights[i] * d * d
	}
	return sum
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
