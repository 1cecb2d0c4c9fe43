// Package sample draws the next token from logits: temperature, top-k, top-p and
// min-p, with a seed.
//
// Promises. Equal parameters and equal logits give equal tokens on every
// platform: the random stream is specified (PCG), the exponential is computed
// here in one fixed order of operations, and one random number is used for every
// token, however many candidates there are. A token whose logit is not finite is
// never drawn. After the first few tokens nothing is allocated.
//
// It does not penalise repetition and knows nothing of stop strings.
package sample

import (
	"errors"
	"fmt"
	"math"
)

// MaxTemperature is where the distribution is flat for any practical purpose.
const MaxTemperature = 100

// ErrParams: a sampling parameter is outside its range.
var ErrParams = errors.New("bad sampling parameter")

// Params says how to sample. The steps apply in the order of the fields: top-p
// and min-p see the probabilities that temperature and top-k leave, and a token
// must pass both. At least one token always remains.
type Params struct {
	// Temperature divides the logits. 0: always the most likely token, the lowest
	// id among equals; everything else is then without effect.
	Temperature float64
	// TopK keeps that many most likely tokens, lower ids first among equals. 0: all.
	TopK int
	// TopP keeps the fewest most likely tokens whose probabilities add up to it.
	// 1: all. 0: the most likely only.
	TopP float64
	// MinP keeps the tokens that are at least this fraction as likely as the most
	// likely one. 0: all.
	MinP float64
	// Seed selects the random stream; every value is as good as another.
	Seed uint64
}

// Defaults returns the parameters that the model's authors recommend, with seed 0.
func Defaults() Params {
	return Params{Temperature: 1, TopP: 1, MinP: 0.05}
}

// ParamError says which parameter is outside its range. It is an ErrParams.
type ParamError struct {
	Name      string // as requests spell it
	Got, Want string
}

func (e *ParamError) Error() string {
	return fmt.Sprintf("sample: %s is %s, want %s: %v", e.Name, e.Got, e.Want, ErrParams)
}

func (e *ParamError) Unwrap() error { return ErrParams }

// Validate reports the first field that is outside its range, as a *ParamError.
func (p Params) Validate() error {
	for _, f := range [...]struct {
		name      string
		value, hi float64
	}{
		{"temperature", p.Temperature, MaxTemperature},
		{"top_p", p.TopP, 1},
		{"min_p", p.MinP, 1},
	} {
		if !(f.value >= 0 && f.value <= f.hi) { // also true for NaN
			return &ParamError{f.name, fmt.Sprint(f.value), fmt.Sprintf("0 to %v", f.hi)}
		}
	}
	if p.TopK < 0 || p.TopK > math.MaxInt32 {
		return &ParamError{"top_k", fmt.Sprint(p.TopK), fmt.Sprintf("0 (off) to %d", math.MaxInt32)}
	}
	return nil
}

// Clamp moves every field into its range; NaN becomes the default.
func (p Params) Clamp() Params {
	d := Defaults()
	p.Temperature = clamp(p.Temperature, MaxTemperature, d.Temperature)
	p.TopP = clamp(p.TopP, 1, d.TopP)
	p.MinP = clamp(p.MinP, 1, d.MinP)
	p.TopK = min(max(p.TopK, 0), math.MaxInt32)
	return p
}

func clamp(v, hi, otherwise float64) float64 {
	if math.IsNaN(v) {
		return otherwise
	}
	return min(max(v, 0), hi)
}
