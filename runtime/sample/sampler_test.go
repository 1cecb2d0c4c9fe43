package sample

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"pgregory.net/rapid"
)

var (
	nan = float32(math.NaN())
	inf = float32(math.Inf(1))
)

// distribution is the plain definition of what a sampler may draw: everything
// sorted, nothing skipped, the probability of every token.
func distribution(logits []float32, p Params) []float64 {
	type token struct {
		id     int
		logit  float64
		weight float64
	}
	var list []token
	for i, x := range logits {
		if l := float64(x); !math.IsNaN(l) && !math.IsInf(l, 0) {
			list = append(list, token{id: i, logit: l})
		}
	}
	probs := make([]float64, len(logits))
	if len(list) == 0 {
		return probs
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].logit > list[j].logit })
	if p.Temperature == 0 {
		probs[list[0].id] = 1
		return probs
	}
	if p.TopK > 0 && p.TopK < len(list) {
		list = list[:p.TopK]
	}
	total := 0.0
	for i := range list {
		list[i].weight = math.Exp((list[i].logit - list[0].logit) / p.Temperature)
		total += list[i].weight
	}
	kept, sum := list[:0:0], 0.0
	for i, c := range list {
		if i > 0 && (sum >= p.TopP*total && p.TopP < 1 || c.weight < p.MinP) {
			break
		}
		sum += c.weight
		kept = append(kept, c)
	}
	for _, c := range kept {
		probs[c.id] = c.weight / sum
	}
	return probs
}

func drawParams(t *rapid.T) Params {
	return Params{
		Temperature: rapid.SampledFrom([]float64{0, 1e-300, 0.1, 0.7, 1, 1.5, 100}).Draw(t, "temperature"),
		TopK:        rapid.SampledFrom([]int{0, 1, 2, 3, 8, 1000}).Draw(t, "top_k"),
		TopP:        rapid.SampledFrom([]float64{0, 0.1, 0.5, 0.9, 0.999, 1}).Draw(t, "top_p"),
		MinP:        rapid.SampledFrom([]float64{0, 0.01, 0.05, 0.3, 0.9, 1}).Draw(t, "min_p"),
		Seed:        rapid.Uint64().Draw(t, "seed"),
	}
}

func drawLogits(t *rapid.T) []float32 {
	return rapid.SliceOfN(rapid.OneOf(
		rapid.Float32Range(-8, 8),
		rapid.SampledFrom([]float32{0, 1, 1, nan, inf, -inf, math.MaxFloat32, -math.MaxFloat32, 1e-40, 700}),
	), 1, 40).Draw(t, "logits")
}

// nearCut reports whether rounding may decide if a token is kept: the reference
// adds and compares in another order.
func nearCut(logits []float32, p Params) bool {
	const eps = 1e-9
	for _, q := range []Params{
		{p.Temperature, p.TopK, p.TopP * (1 - eps), p.MinP * (1 - eps), 0}, {p.Temperature, p.TopK, p.TopP * (1 + eps), p.MinP * (1 + eps), 0},
	} {
		if p.TopP == 1 {
			q.TopP = 1
		}
		a, b := distribution(logits, p), distribution(logits, q)
		for i := range a {
			if (a[i] > 0) != (b[i] > 0) {
				return true
			}
		}
	}
	return false
}

// Only tokens that the definition allows are kept, and all of them.
func TestKeptTokensMatchDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, logits := drawParams(t), drawLogits(t)
		want := distribution(logits, p)
		s := New(p)
		id := s.Sample(logits)
		if id == NoToken {
			if slices.Max(want) > 0 {
				t.Fatal("no token, although there are finite logits")
			}
			return
		}
		if nearCut(logits, p) {
			t.Skip("on a cut")
		}
		if want[id] == 0 {
			t.Fatalf("drew %d, which has probability 0 in %v", id, want)
		}
		if p.Temperature == 0 {
			return
		}
		total := 0.0
		for _, c := range s.kept {
			total += c.weight
		}
		got := make([]float64, len(logits))
		for _, c := range s.kept {
			got[c.id] = c.weight / total
		}
		for i := range got {
			if math.Abs(got[i]-want[i]) > 1e-12 {
				t.Fatalf("token %d has probability %v, want %v (kept %v)", i, got[i], want[i], s.kept)
			}
		}
	})
}

// The draws follow the distribution: Pearson's statistic over many draws. With
// fixed seeds the test is deterministic.
func TestDrawsFollowDistribution(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 0))
	logits := make([]float32, 50)
	for i := range logits {
		logits[i] = float32(rng.NormFloat64() * 2)
	}
	logits[7], logits[8] = nan, inf
	for _, p := range []Params{
		Defaults(), {Temperature: 1, TopP: 1}, {Temperature: 0.5, TopP: 0.9}, {Temperature: 2, TopP: 1, TopK: 10},
		{Temperature: 1.3, TopP: 0.95, TopK: 20, MinP: 0.02}, {Temperature: 100, TopP: 1},
	} {
		want := distribution(logits, p)
		const draws = 100000
		counts := make([]int, len(logits))
		s := New(p)
		for range draws {
			counts[s.Sample(logits)]++
		}
		chi2, cells := 0.0, 0
		for i, n := range counts {
			if want[i] == 0 {
				if n > 0 {
					t.Errorf("%+v: token %d drawn %d times, probability 0", p, i, n)
				}
				continue
			}
			if e := want[i] * draws; e >= 5 {
				chi2 += (float64(n) - e) * (float64(n) - e) / e
				cells++
			}
		}
		// The mean of chi-squared is its degrees of freedom k, its variance 2k.
		k := float64(cells - 1)
		if chi2 > k+5*math.Sqrt(2*k)+5 {
			t.Errorf("%+v: chi-squared %.1f with %v degrees of freedom", p, chi2, k)
		}
	}
}

func TestGreedy(t *testing.T) {
	for _, c := range []struct {
		logits []float32
		want   int32
	}{
		{nil, NoToken},
		{[]float32{nan, inf, -inf}, NoToken},
		{[]float32{1, 3, 3, 2}, 1},
		{[]float32{nan, -5, inf, -4}, 3},
		{[]float32{-math.MaxFloat32}, 0},
		{[]float32{nan, 0, 0}, 1},
	} {
		for _, p := range []Params{{}, {Temperature: 1, TopK: 1, TopP: 1}, {Temperature: 1, TopP: 0}} {
			if got := New(p).Sample(c.logits); got != c.want {
				t.Errorf("%v with %+v: %d, want %d", c.logits, p, got, c.want)
			}
		}
	}
}

func randomLogits(seed uint64, vocab int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	logits := make([]float32, vocab)
	for i := range logits {
		logits[i] = 16 * (rng.Float32() - 0.5) // every step is exact
	}
	return logits
}

func sequence(p Params, n int) (ids []int32) {
	s := New(p)
	for i := range n {
		ids = append(ids, s.Sample(randomLogits(uint64(i), 300)))
	}
	return ids
}

// Fixed results: they must be the same on every platform and in every release.
func TestSequencesAreFixed(t *testing.T) {
	for _, c := range []struct {
		p    Params
		want []int32
	}{
		{Params{Temperature: 1, TopP: 1, MinP: 0.05}, []int32{131, 236, 288, 163, 220, 50, 198, 242}},
		{Params{Temperature: 1, TopP: 1, MinP: 0.05, Seed: 42}, []int32{111, 289, 15, 4, 241, 290, 55, 267}},
		{Params{Temperature: 1.2, TopP: 0.8, Seed: 42}, []int32{9, 219, 133, 3, 294, 114, 38, 184}},
		{Params{Temperature: 1.2, TopP: 0.8, TopK: 5, Seed: 42}, []int32{218, 294, 234, 16, 58, 214, 234, 70}},
	} {
		if got := sequence(c.p, len(c.want)); !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %v, want %v", c.p, got, c.want)
		}
	}
}

func TestSeeds(t *testing.T) {
	p := Params{Temperature: 1, TopP: 1}
	a := sequence(p, 50)
	if b := sequence(p, 50); !slices.Equal(a, b) {
		t.Error("equal seeds, different tokens")
	}
	p.Seed = 1
	if b := sequence(p, 50); slices.Equal(a, b) {
		t.Error("different seeds, equal tokens")
	}
}

// One random number per token: what was filtered before does not shift the stream.
func TestStreamDoesNotDependOnFilters(t *testing.T) {
	last := randomLogits(9, 300)
	want := int32(-1)
	for _, before := range [][]float32{randomLogits(1, 300), {1}, {5, 5, 5, 5}, {nan}} {
		s := New(Params{Temperature: 1, TopP: 1, Seed: 5})
		s.Sample(before)
		got := s.Sample(last)
		if want == -1 {
			want = got
		}
		if got != want {
			t.Errorf("after %d logits: %d, want %d", len(before), got, want)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	logits := randomLogits(3, 8192)
	for _, p := range []Params{{}, Defaults(), {Temperature: 1, TopP: 0.9}, {Temperature: 1, TopP: 1}, {Temperature: 1, TopP: 0.9, TopK: 40, MinP: 0.05}} {
		s := New(p)
		s.Sample(logits)
		if n := testing.AllocsPerRun(20, func() { s.Sample(logits) }); n != 0 {
			t.Errorf("%+v: %v allocations per token", p, n)
		}
	}
}

// BenchmarkSample has the vocabulary of a large model; flat logits, of which many are
// likely, and peaked ones, as models give them.
func BenchmarkSample(b *testing.B) {
	const vocab = 129280
	peaked, rng := make([]float32, vocab), rand.New(rand.NewPCG(4, 1))
	for i := range peaked {
		peaked[i] = float32(3 * rng.NormFloat64())
	}
	for _, l := range []struct {
		name   string
		logits []float32
	}{{"flat", randomLogits(3, vocab)}, {"peaked", peaked}} {
		for _, c := range []struct {
			name string
			p    Params
		}{
			{"greedy", Params{}},
			{"defaults", Defaults()},
			{"top_p", Params{Temperature: 1, TopP: 0.9}},
			{"top_k", Params{Temperature: 1, TopP: 1, TopK: 40}},
			{"everything", Params{Temperature: 1, TopP: 1}},
		} {
			b.Run(l.name+"/"+c.name, func(b *testing.B) {
				s := New(c.p)
				b.ReportAllocs()
				for b.Loop() {
					s.Sample(l.logits)
				}
			})
		}
	}
}
