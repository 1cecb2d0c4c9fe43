package engine

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"ds4/metal/cpu/kernels"
	"ds4/metal/quant"
	"ds4/runtime/model"
	"ds4/runtime/model/synth"
)

// oracle is the logits of every position, computed in one way.
func oracle(t testing.TB, m *model.Model, tokens []int32, n model.Numerics) [][]float32 {
	return allLogits(t, newEngine(t, m, 1, Options{ContextTokens: 2048, ChunkTokens: 512, Numerics: n}), tokens)
}

// TestBitIdentical runs the embedded model over chunk sizes, threads and batches.
func TestBitIdentical(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of tokens of the embedded model")
	}
	m := tinyModel(t)
	// Long enough for the indexer to select (128 of n/4 rows) and for several
	// windows of 128.
	tokens := goldenCases(t)[4].Tokens[:640]
	want := oracle(t, m, tokens, model.Production)
	for _, c := range []struct {
		chunk, threads int
		pack           bool
	}{{1, 2, true}, {7, 3, false}, {64, 1, true}, {512, 2, false}} {
		t.Run(fmt.Sprintf("chunk %d threads %d pack %v", c.chunk, c.threads, c.pack), func(t *testing.T) {
			e := newEngine(t, m, c.threads, Options{ContextTokens: 1024, ChunkTokens: c.chunk, Numerics: model.Production, Pack: c.pack, PackK: c.pack})
			s := newSession(t, e)
			prefill(t, s, tokens, c.chunk)
			if !sameBits(s.Logits(), want[len(tokens)-1]) {
				t.Errorf("logits differ, relative rms %.3g", relativeRMS(s.Logits(), want[len(tokens)-1]))
			}
		})
	}
	t.Run("batch of three", func(t *testing.T) {
		e := newEngine(t, m, 2, Options{ContextTokens: 1024, Numerics: model.Production})
		a, b, c := newSession(t, e), newSession(t, e), newSession(t, e)
		n := len(tokens)
		for at := 0; at < n; at += 128 {
			batch := []Sequence{
				{Session: a, Tokens: tokens[at : at+128]},
				{Session: b, Tokens: tokens[n-at/2-5 : n-at/2]},
				{Session: c, Tokens: tokens[at : at+1]},
			}
			if err := e.Forward(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
		}
		if !sameBits(a.Logits(), want[n-1]) {
			t.Error("logits differ from those of a sequence on its own")
		}
	})
}

// TestSameBits runs small models through every kernel set, with packed weights and
// with mapped ones, in float32 and in integers.
func TestSameBits(t *testing.T) {
	odd := synth.Small(6) // counts that fill no tile, and other streams than four
	odd.HC, odd.Heads, odd.OGroups, odd.IndexHeads, odd.Vocab = 2, 6, 3, 3, 97
	four := kQuants(7)
	four.Expert, four.Down = quant.Q4_K, quant.Q4_K
	for _, c := range []struct {
		spec   synth.Spec
		length int
	}{{synth.Small(4), 200}, {kQuants(5), 20}, {four, 20}, {odd, 100}} {
		m := smallModel(t, c.spec)
		tokens := randomTokens(11, c.length, m.Vocab)
		for _, n := range []model.Numerics{model.Production, model.Reference} {
			var want [][]float32
			for _, set := range kernels.Available() {
				for _, pack := range []bool{false, true} {
					t.Setenv(kernels.EnvSet, set.Name)
					e := newEngine(t, m, 2, Options{ContextTokens: 256, ChunkTokens: 64, Numerics: n, Pack: pack, PackK: pack})
					got := allLogits(t, e, tokens)
					if want == nil {
						want = got
					}
					for i := range want {
						if !sameBits(got[i], want[i]) {
							t.Fatalf("%s, %s, pack %v: logits of position %d differ from %s, relative rms %.3g",
								n, set.Name, pack, i, kernels.Available()[0].Name, relativeRMS(got[i], want[i]))
						}
					}
				}
			}
		}
	}
}

// TestSameBitsPacked: matrices that steer mixing and routing, and a gate whose up is
// of another type, take float32 activations whatever their type, packed or not.
func TestSameBitsPacked(t *testing.T) {
	control := func(typ quant.Type) *model.Model {
		s := synth.Small(8)
		s.Dim, s.ExpertDim, s.HeadDim, s.QRank = 256, 256, 256, 256
		s.Ratios, s.Control, s.Blocks = []int{0, 4}, typ, true
		return smallModel(t, s)
	}
	spec := kQuants(9)
	spec.Blocks = true
	mixed := smallModel(t, spec)
	for i := range mixed.Layer {
		up := mixed.Layer[i].Up
		half := *up
		half.Type, half.Data = quant.F16, make([]byte, 2*up.Count*up.Rows*up.Cols)
		values := make([]float32, up.Count*up.Rows*up.Cols)
		if err := errors.Join(quant.DecodeRow(up.Type, values, up.Data), quant.EncodeRow(half.Type, half.Data, values)); err != nil {
			t.Fatal(err)
		}
		mixed.Layer[i].Up = &half
	}
	for name, m := range map[string]*model.Model{
		"Q4_K control": control(quant.Q4_K), "Q2_K control": control(quant.Q2_K), "IQ2_XXS control": control(quant.IQ2_XXS), "gate unlike up": mixed,
	} {
		tokens := randomTokens(12, 12, m.Vocab)
		want := allLogits(t, newEngine(t, m, 2, Options{ContextTokens: 32, ChunkTokens: 8, Numerics: model.Production}), tokens)
		got := allLogits(t, newEngine(t, m, 2, Options{ContextTokens: 32, ChunkTokens: 8, Numerics: model.Production, Pack: true, PackK: true}), tokens)
		for i := range want {
			if !sameBits(got[i], want[i]) {
				t.Errorf("%s: packed, the logits of position %d have a relative rms of %.3g", name, i, relativeRMS(got[i], want[i]))
				break
			}
		}
	}
}

// TestHistoryProperty takes random roads to the same tokens: chunks of random
// sizes, threads, company in the batch, rewinds, and restores from segments cut
// at random places. The logits must be those of the plain road, bit for bit.
func TestHistoryProperty(t *testing.T) {
	if testing.Short() {
		t.Skip("hundreds of random histories")
	}
	for _, c := range []struct {
		spec   synth.Spec
		length int // tokens; the K-quants of the second are slow to decode
	}{{synth.Small(1), 420}, {kQuants(2), 140}} {
		m := smallModel(t, c.spec)
		type prompt struct {
			tokens []int32
			want   [][]float32
		}
		var prompts []prompt
		for seed := range uint64(3) {
			tokens := randomTokens(7+seed, c.length, m.Vocab)
			prompts = append(prompts, prompt{tokens, oracle(t, m, tokens, model.Production)})
		}
		engines := []*Engine{}
		for threads := 1; threads <= 3; threads++ {
			engines = append(engines, newEngine(t, m, threads, Options{ContextTokens: 512, ChunkTokens: 160, Numerics: model.Production}))
		}
		t.Run(m.Name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				e := rapid.SampledFrom(engines).Draw(rt, "engine")
				p := prompts[rapid.IntRange(0, len(prompts)-1).Draw(rt, "prompt")]
				walk(t, rt, e, p.tokens, p.want)
			})
		})
	}
}

// kQuants is a small model whose experts have the K-quant types of published files.
func kQuants(seed uint64) synth.Spec {
	s := synth.Small(seed)
	s.Dim, s.ExpertDim = 256, 256
	s.Ratios = []int{0, 4, 128}
	s.Control, s.Expert, s.Down = quant.BF16, quant.IQ2_XXS, quant.Q2_K
	return s
}

// walk extends a session along tokens in random steps.
func walk(t *testing.T, rt *rapid.T, e *Engine, tokens []int32, want [][]float32) {
	s, other := newSession(t, e), newSession(t, e)
	var parts []*Snapshot
	var points []*Point
	end := rapid.IntRange(1, len(tokens)-1).Draw(rt, "length")
	for s.Len() < end {
		n := min(end-s.Len(), rapid.SampledFrom([]int{1, 3, 4, 17, 64, 128, 150}).Draw(rt, "chunk"))
		batch := []Sequence{{Session: s, Tokens: tokens[s.Len() : s.Len()+n]}}
		if rapid.Bool().Draw(rt, "company") && other.Len() < 400 {
			batch = slices.Insert(batch, rapid.IntRange(0, 1).Draw(rt, "place"), Sequence{Session: other, Tokens: tokens[:5]})
		}
		if err := e.Forward(t.Context(), batch); err != nil {
			rt.Fatal(err)
		}
		switch rapid.IntRange(0, 5).Draw(rt, "then") {
		case 0: // save what was added since the last save
			x, err := s.Export(savedTo(parts))
			if err != nil {
				rt.Fatal(err)
			}
			parts = append(parts, x)
		case 1:
			points = append(points, s.Keep())
		case 2:
			if len(points) > 0 {
				p := rapid.SampledFrom(points).Draw(rt, "point")
				if p.Len() > s.Len() {
					continue
				}
				if err := s.Rewind(p); err != nil {
					rt.Fatal(err)
				}
				parts = slices.DeleteFunc(parts, func(x *Snapshot) bool { return x.To > s.Len() })
			}
		case 3:
			if len(parts) > 0 {
				restoreFrom(t, s, parts)
			}
		}
		// A restored session has no logits; what it evaluates next tells.
		if l := s.Logits(); l != nil && !sameBits(l, want[s.Len()-1]) {
			rt.Fatalf("logits at length %d differ, relative rms %.3g", s.Len(), relativeRMS(s.Logits(), want[s.Len()-1]))
		}
	}
	prefill(t, s, tokens[s.Len():s.Len()+1], 1)
	if !sameBits(s.Logits(), want[s.Len()-1]) {
		rt.Fatalf("logits at the end, length %d, differ, relative rms %.3g", s.Len(), relativeRMS(s.Logits(), want[s.Len()-1]))
	}
}

func savedTo(parts []*Snapshot) int {
	if len(parts) == 0 {
		return 0
	}
	return parts[len(parts)-1].To
}

// TestExportIsCanonical shows that equal histories export equal bytes, whatever
// road led there: segments are content-addressed.
func TestExportIsCanonical(t *testing.T) {
	m := smallModel(t, synth.Small(3))
	e := newEngine(t, m, 2, Options{ContextTokens: 512, ChunkTokens: 160, Numerics: model.Production})
	tokens := randomTokens(5, 300, m.Vocab)
	for _, n := range []int{1, 3, 4, 17, 127, 128, 131, 300} {
		a, b := newSession(t, e), newSession(t, e)
		prefill(t, a, tokens[:n], 160)
		prefill(t, b, randomTokens(9, 200, m.Vocab), 160) // leave garbage behind
		b.Reset()
		prefill(t, b, tokens[:n], 7)
		x, errX := a.Export(0)
		y, errY := b.Export(0)
		if errX != nil || errY != nil {
			t.Fatal(errX, errY)
		}
		for i := range x.Raw {
			if !bytes.Equal(x.Raw[i], y.Raw[i]) || !bytes.Equal(x.Comp[i], y.Comp[i]) ||
				!bytes.Equal(x.Index[i], y.Index[i]) || !bytes.Equal(x.Frontier[i], y.Frontier[i]) {
				t.Errorf("length %d layer %d: exports differ", n, i)
			}
		}
	}
}
