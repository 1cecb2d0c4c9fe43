package sample

import (
	"math"
	"slices"
)

// Probable is a token with the logarithm of its probability.
type Probable struct {
	ID      int32
	Logprob float64
}

// LowestLogprob stands for a token that is never drawn, whose logarithm is no number.
const LowestLogprob = -9999

// Logprobs returns the natural logarithm of a token's probability in the model's own
// distribution, before temperature and the other parameters, and the n most likely
// tokens, most likely first, lower ids first among equals. Logits that are not finite
// count as impossible.
func Logprobs(logits []float32, id int32, n int) (of float64, top []Probable) {
	best := argmax(logits)
	if best == NoToken {
		return LowestLogprob, nil
	}
	highest := float64(logits[best])
	sum := 0.0
	list := make([]candidate, 0, n+1)
	for i, x := range logits {
		if !finite(x) {
			continue
		}
		sum += expNeg(float64(x) - highest)
		c := candidate{logit: x, id: int32(i)}
		if n > 0 && (len(list) < n || c.before(list[len(list)-1])) {
			at, _ := slices.BinarySearchFunc(list, c, func(a, b candidate) int {
				if a.before(b) {
					return -1
				}
				return 1
			})
			list = slices.Insert(list, at, c)[:min(len(list)+1, n)]
		}
	}
	norm := highest + math.Log(sum)
	for _, c := range list {
		top = append(top, Probable{c.id, max(float64(c.logit)-norm, LowestLogprob)})
	}
	of = LowestLogprob
	if id >= 0 && int(id) < len(logits) && finite(logits[id]) {
		of = max(float64(logits[id])-norm, LowestLogprob)
	}
	return of, top
}
