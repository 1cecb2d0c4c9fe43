package sample

import (
	"math"
	"math/rand/v2"
	"slices"
)

// NoToken is what Sample returns when not a single logit is finite: the backend
// produced garbage, and no token would be right.
const NoToken = -1

// seedStream is the second half of the generator's seed, a constant so that one
// number names a stream.
const seedStream = 0x9e3779b97f4a7c15

// candidate is a token that may still be drawn.
type candidate struct {
	logit  float32
	id     int32
	weight float64 // exp((logit - highest logit) / temperature), in (0, 1]
}

// before is the order of likelihood: equal logits, lower id first.
func (c candidate) before(d candidate) bool {
	return c.logit > d.logit || c.logit == d.logit && c.id < d.id
}

// compare is that order for a sort.
func (c candidate) compare(d candidate) int {
	if c.before(d) {
		return -1
	}
	return 1 // no two have the same id
}

// Sampler draws the tokens of one generation. It is not for concurrent use.
type Sampler struct {
	params  Params
	logMinP float64 // a weight below exp of this fails min-p for certain; -Inf: off
	rng     rand.PCG
	heap    []candidate // scratch
	kept    []candidate // scratch
	ids     [batch]int32
	weights [batch]float64
}

// logSlack covers the rounding of logMinP: it only saves exponentials, the exact
// comparison follows.
const logSlack = 1e-6

// New returns a sampler. Parameters outside their ranges are clamped as Clamp
// does; use Validate to refuse them instead.
func New(p Params) *Sampler {
	p = p.Clamp()
	s := &Sampler{params: p, logMinP: math.Inf(-1)}
	if p.MinP > 0 {
		s.logMinP = math.Log(p.MinP) - logSlack
	}
	s.rng.Seed(p.Seed, seedStream)
	return s
}

// Sample draws a token from logits [vocab]; the result indexes them. NaN and
// infinite logits are passed over; NoToken if there is no other.
func (s *Sampler) Sample(logits []float32) int32 {
	top := argmax(logits)
	if s.params.Temperature == 0 {
		return top
	}
	random := float64(s.rng.Uint64()>>11) / (1 << 53) // in [0, 1)
	if top == NoToken {
		return NoToken
	}
	highest := logits[top]
	var mass float64 // of everything that top-p counts
	if k := s.params.TopK; k > 0 && k < len(logits) {
		mass = s.collectTopK(logits, highest, k)
	} else {
		mass = s.collect(logits, highest)
	}
	if s.params.TopP < 1 {
		s.takeTopP(mass)
	}
	return draw(s.kept, random)
}

// Greedy returns the most likely token whatever the parameters. It takes a random
// number where Sample would, so that what is drawn afterwards does not depend on how
// many tokens were prescribed.
func (s *Sampler) Greedy(logits []float32) int32 {
	if s.params.Temperature != 0 {
		s.rng.Uint64()
	}
	return argmax(logits)
}

// GreedyOf is Greedy among the tokens that a test passes; NoToken if none does.
func (s *Sampler) GreedyOf(logits []float32, allowed func(id int32) bool) int32 {
	if s.params.Temperature != 0 {
		s.rng.Uint64()
	}
	best, at := float32(math.Inf(-1)), int32(NoToken)
	for i, x := range logits {
		if x > best && finite(x) && allowed(int32(i)) {
			best, at = x, int32(i)
		}
	}
	return at
}

// finite is false for NaN and both infinities.
func finite(x float32) bool { return x-x == 0 }

// argmax returns the lowest index of the highest finite value, or NoToken.
func argmax(logits []float32) int32 {
	best, at := float32(math.Inf(-1)), int32(NoToken)
	for i, x := range logits {
		if x > best && finite(x) {
			best, at = x, int32(i)
		}
	}
	return at
}

// scaled is the logarithm of a token's weight.
func (s *Sampler) scaled(logit, highest float32) float64 {
	return (float64(logit) - float64(highest)) / s.params.Temperature
}

// collect fills kept, in the order of ids, with the tokens that pass min-p. If
// top-p is on, it returns the weight of all tokens; else it skips most of them
// without an exponential.
func (s *Sampler) collect(logits []float32, highest float32) (mass float64) {
	s.kept = s.kept[:0]
	floor := math.Inf(-1)
	if s.params.TopP == 1 {
		floor = float64(highest) + float64(s.params.Temperature*s.logMinP)
	}
	for first := 0; first < len(logits); first += batch {
		n := 0
		for i, x := range logits[first:min(first+batch, len(logits))] {
			if float64(x) < floor || !finite(x) {
				continue
			}
			s.ids[n], s.weights[n] = int32(first+i), s.scaled(x, highest)
			n++
		}
		expNegs(s.weights[:n])
		for i, w := range s.weights[:n] {
			mass += w
			if w > 0 && w >= s.params.MinP {
				s.kept = append(s.kept, candidate{logits[s.ids[i]], s.ids[i], w})
			}
		}
	}
	return mass
}

// collectTopK fills kept with those of the k most likely tokens that pass min-p,
// most likely first, and returns the weight of all k.
func (s *Sampler) collectTopK(logits []float32, highest float32, k int) (mass float64) {
	s.heap = s.heap[:0] // the least likely on top
	for i, x := range logits {
		if !finite(x) {
			continue
		}
		c := candidate{logit: x, id: int32(i)}
		if len(s.heap) < k {
			s.heap = append(s.heap, c)
			if len(s.heap) == k {
				heapify(s.heap, lessLikely)
			}
			continue
		}
		if c.before(s.heap[0]) {
			s.heap[0] = c
			siftDown(s.heap, 0, lessLikely)
		}
	}
	heapify(s.heap, moreLikely)
	s.kept = s.kept[:0]
	for h := s.heap; len(h) > 0; {
		c := h[0]
		h = pop(h, moreLikely)
		c.weight = expNeg(s.scaled(c.logit, highest))
		mass += c.weight
		if c.weight > 0 && c.weight >= s.params.MinP {
			s.kept = append(s.kept, c)
		}
	}
	return mass
}

// takeTopP keeps the fewest most likely candidates that weigh at least the top-p
// share of mass; one in any case, all if rounding keeps the sum below the share.
func (s *Sampler) takeTopP(mass float64) {
	want := float64(s.params.TopP * mass)
	s.dropTail(want)
	slices.SortFunc(s.kept, candidate.compare)
	sum := 0.0
	for i, c := range s.kept {
		if sum += c.weight; sum >= want {
			s.kept = s.kept[:i+1]
			return
		}
	}
}

// dropTail removes candidates without which the others weigh want for certain, so
// that few have to be sorted. Buckets hold the weights between two powers of two of
// a sixteenth, the heaviest first; what is far below counts as one.
func (s *Sampler) dropTail(want float64) {
	const buckets, shift = 1024, 52 - 4
	const slack = 1 + 1e-9 // for the order of additions
	bucket := func(w float64) int {
		return int(min(math.Float64bits(1)>>shift-math.Float64bits(w)>>shift, buckets-1))
	}
	var sums [buckets]float64
	for _, c := range s.kept {
		sums[bucket(c.weight)] += c.weight
	}
	last, sum := 0, 0.0
	for ; last < buckets-1; last++ {
		if sum += sums[last]; sum >= want*slack {
			break
		}
	}
	n := 0
	for _, c := range s.kept {
		if bucket(c.weight) <= last {
			s.kept[n] = c
			n++
		}
	}
	s.kept = s.kept[:n]
}

// draw picks a candidate with probability proportional to its weight.
func draw(kept []candidate, random float64) int32 {
	total := 0.0
	for _, c := range kept {
		total += c.weight
	}
	target := float64(random * total)
	sum := 0.0
	for _, c := range kept {
		if sum += c.weight; target < sum {
			return c.id
		}
	}
	return kept[len(kept)-1].id // random*total rounded up to total
}
