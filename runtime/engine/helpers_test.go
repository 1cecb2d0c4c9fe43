package engine

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"ds4/metal/cpu"
	"ds4/runtime/gguf"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/model"
	"ds4/runtime/model/synth"
	"ds4/runtime/model/tiny"
)

// tinyModel loads the embedded model once per call; its weights are shared.
func tinyModel(t testing.TB) *model.Model {
	t.Helper()
	f, err := tiny.Open()
	if err != nil {
		t.Fatal(err)
	}
	return loadModel(t, f)
}

func loadModel(t testing.TB, f *gguf.File) *model.Model {
	t.Helper()
	m, err := model.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// newEngine runs m on a CPU device of its own; threads 0 means all.
func newEngine(t testing.TB, m *model.Model, threads int, opt Options) *Engine {
	t.Helper()
	dev, err := cpu.New(cpu.Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(m, dev, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func newSession(t testing.TB, e *Engine) *Session {
	t.Helper()
	s, err := e.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Release)
	return s
}

// prefill appends tokens in chunks of the given size.
func prefill(t testing.TB, s *Session, tokens []int32, chunk int) {
	t.Helper()
	for part := range slices.Chunk(tokens, chunk) {
		if err := s.engine.Forward(t.Context(), []Sequence{{Session: s, Tokens: part}}); err != nil {
			t.Fatal(err)
		}
	}
}

// allLogits runs tokens through a fresh session and returns every position's logits.
func allLogits(t testing.TB, e *Engine, tokens []int32) [][]float32 {
	t.Helper()
	return prefillLogits(t, newSession(t, e), tokens)
}

// prefillLogits appends tokens to an empty session and returns every position's logits.
func prefillLogits(t testing.TB, s *Session, tokens []int32) [][]float32 {
	t.Helper()
	e := s.engine
	var out [][]float32
	for part := range slices.Chunk(tokens, e.ChunkTokens()) {
		q := Sequence{Session: s, Tokens: part, EachLogits: func(p int, l []float32) {
			if p != len(out) {
				t.Fatalf("logits of position %d after %d", p, len(out)-1)
			}
			out = append(out, slices.Clone(l))
		}}
		if err := e.Forward(t.Context(), []Sequence{q}); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func argmax(l []float32) int32 {
	best := 0
	for i, v := range l {
		if v > l[best] {
			best = i
		}
	}
	return int32(best)
}

// relativeRMS is |got-want| / |want| in the 2-norm.
func relativeRMS(got, want []float32) float64 {
	var num, den float64
	for i := range want {
		d := float64(got[i]) - float64(want[i])
		num += d * d
		den += float64(want[i]) * float64(want[i])
	}
	return math.Sqrt(num / den)
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// greedy decodes until the end token or n tokens.
func greedy(t testing.TB, s *Session, n int, eos int32) []int32 {
	t.Helper()
	var out []int32
	for range n {
		next := argmax(s.Logits())
		out = append(out, next)
		if next == eos {
			break
		}
		prefill(t, s, []int32{next}, 1)
	}
	return out
}

// smallModel builds a random model of the whole architecture.
func smallModel(t testing.TB, spec synth.Spec) *model.Model {
	t.Helper()
	w, err := synth.Writer(spec)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := w.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(buf.Bytes(), "synthetic")
	if err != nil {
		t.Fatal(err)
	}
	return loadModel(t, f)
}

// randomTokens draws from the vocabulary.
func randomTokens(seed uint64, n, vocab int) []int32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(rng.IntN(vocab))
	}
	return out
}

// restoreFrom puts the state of snapshots, each of which continues the one before,
// into dst, as a store would.
func restoreFrom(t testing.TB, dst *Session, parts []*Snapshot) {
	t.Helper()
	r, tokens := putParts(t, dst, parts)
	if err := r.Commit(tokens); err != nil {
		t.Fatal(err)
	}
}

// putParts is restoreFrom up to the commit. It returns the tokens for that.
func putParts(t testing.TB, dst *Session, parts []*Snapshot) (*Restore, []int32) {
	t.Helper()
	last := parts[len(parts)-1]
	r, err := dst.BeginRestore(parts[0].From, last.To)
	if err != nil {
		t.Fatal(err)
	}
	put := func(kind segment.Kind, layer, row int, b []byte) {
		if len(b) == 0 {
			return
		}
		if err := r.Put(kind, layer, row, b); err != nil {
			t.Fatal(err)
		}
	}
	var tokens []int32
	for _, p := range parts {
		tokens = append(tokens, p.Tokens...)
		for i, l := range dst.engine.layout.layers {
			if l.ratio != 0 {
				put(segment.Compressed, i, p.From/l.ratio, p.Comp[i])
				put(segment.Indexer, i, p.From/l.ratio, p.Index[i])
			}
		}
	}
	for i := range last.Raw {
		put(segment.Raw, i, 0, last.Raw[i])
		put(segment.Frontier, i, 0, last.Frontier[i])
	}
	return r, tokens
}
