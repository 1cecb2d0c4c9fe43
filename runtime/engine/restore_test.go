package engine

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"ds4/metal"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/model"
	"ds4/runtime/model/synth"
)

// numericsSets is one for every combination of row forms.
var numericsSets = []model.Numerics{
	model.Production, model.Reference,
	{KVFP8: true, KVF16: true, IndexerFP4: true},
	{KVFP8: true}, {KVF16: true}, {IndexerFP4: true}, {KVFP8: true, KVF16: true},
}

// poison fills everything that a session holds with NaN. Whatever a restore does
// not bring back and a kernel reads shows in the logits.
func poison(s *Session) {
	s.Reset()
	b := s.state.Bytes()
	for i := range b {
		b[i] = 0xFF // a NaN in every form
	}
}

// TestRestoreIsExact: state that was exported in one or two pieces and restored
// into a poisoned session exports the same bytes again, and what is evaluated on
// it has the logits of a session that was never saved, bit for bit.
func TestRestoreIsExact(t *testing.T) {
	m := smallModel(t, synth.Small(3))
	tokens := randomTokens(5, 310, m.Vocab)
	for _, n := range numericsSets {
		t.Run(n.String(), func(t *testing.T) {
			e := newEngine(t, m, 2, Options{ContextTokens: 512, ChunkTokens: 160, Numerics: n})
			want := allLogits(t, e, tokens)
			for _, c := range []struct{ cut, end int }{
				{0, 1}, {0, 3}, {3, 4}, {2, 5}, {0, 15}, {0, 16}, {4, 17}, {0, 127}, {100, 128}, {128, 129}, {0, 256}, {130, 300},
			} {
				restoreIsExact(t, e, tokens, c.cut, c.end, want)
			}
		})
	}
}

func restoreIsExact(t *testing.T, e *Engine, tokens []int32, cut, end int, want [][]float32) {
	t.Helper()
	a, b := newSession(t, e), newSession(t, e)
	var parts []*Snapshot
	for _, to := range []int{cut, end} {
		if to == 0 {
			continue
		}
		prefill(t, a, tokens[a.Len():to], e.ChunkTokens())
		parts = append(parts, export(t, a, savedTo(parts)))
	}
	poison(b)
	restoreFrom(t, b, parts)
	if b.Logits() != nil {
		t.Errorf("%d of %d: a restored session has logits", cut, end)
	}
	sameSnapshots(t, export(t, b, savedTo(parts[:len(parts)-1])), parts[len(parts)-1])
	sameSnapshots(t, export(t, b, 0), export(t, a, 0))
	if cut > 0 {
		joinIsExact(t, e, tokens, parts, want)
	}
	for _, n := range []int{1, 2, 5} { // first one that decodes, then chunks
		if b.Len()+n > len(want) {
			break
		}
		prefill(t, b, tokens[b.Len():b.Len()+n], n)
		if !sameBits(b.Logits(), want[b.Len()-1]) {
			t.Errorf("restored at %d after a cut at %d: logits at length %d differ, relative rms %.3g",
				end, cut, b.Len(), relativeRMS(b.Logits(), want[b.Len()-1]))
		}
	}
}

// joinIsExact restores the last part behind what a session has evaluated itself:
// given up, that leaves the session as it was, and carried out, it does the same
// as evaluating.
func joinIsExact(t *testing.T, e *Engine, tokens []int32, parts []*Snapshot, want [][]float32) {
	t.Helper()
	last := parts[len(parts)-1:]
	for _, abort := range []bool{true, false} {
		s := newSession(t, e)
		poison(s)
		prefill(t, s, tokens[:last[0].From], e.ChunkTokens())
		r, joined := putParts(t, s, last)
		if abort {
			r.Abort()
		} else if err := r.Commit(joined); err != nil {
			t.Fatal(err)
		}
		n := s.Len()
		if got := s.Logits(); abort && !sameBits(got, want[n-1]) || !abort && got != nil {
			t.Errorf("joined at %d, abort %v: wrong logits", n, abort)
		}
		prefill(t, s, tokens[n:n+1], 1)
		if !sameBits(s.Logits(), want[n]) {
			t.Errorf("joined [%d, %d), abort %v: logits at length %d differ, relative rms %.3g",
				last[0].From, last[0].To, abort, n+1, relativeRMS(s.Logits(), want[n]))
		}
	}
}

func export(t *testing.T, s *Session, from int) *Snapshot {
	t.Helper()
	x, err := s.Export(from)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func sameSnapshots(t *testing.T, got, want *Snapshot) {
	t.Helper()
	if got.From != want.From || got.To != want.To || !slices.Equal(got.Tokens, want.Tokens) {
		t.Fatalf("[%d, %d) with tokens %v, want [%d, %d) with %v", got.From, got.To, got.Tokens, want.From, want.To, want.Tokens)
	}
	for i := range want.Raw {
		for what, pair := range map[string][2][]byte{
			"raw": {got.Raw[i], want.Raw[i]}, "compressed": {got.Comp[i], want.Comp[i]},
			"indexer": {got.Index[i], want.Index[i]}, "frontier": {got.Frontier[i], want.Frontier[i]},
		} {
			if !bytes.Equal(pair[0], pair[1]) {
				t.Errorf("[%d, %d): %s of layer %d differs", want.From, want.To, what, i)
			}
		}
	}
}

// TestRestoreOfTheEmbeddedModel is TestRestoreIsExact with weights that mean
// something, at the ends that segments have and within windows.
func TestRestoreOfTheEmbeddedModel(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of tokens of the embedded model")
	}
	tokens := goldenCases(t)[4].Tokens[:520]
	e := newEngine(t, tinyModel(t), 0, Options{ContextTokens: 1024, Numerics: model.Production})
	want := allLogits(t, e, tokens)
	for _, c := range []struct{ cut, end int }{{256, 512}, {0, 131}, {128, 515}} {
		restoreIsExact(t, e, tokens, c.cut, c.end, want)
	}
}

// TestSnapshotFitsLayout: what is exported has the sizes that the layout tells
// the file format.
func TestSnapshotFitsLayout(t *testing.T) {
	m := smallModel(t, synth.Small(3))
	for _, n := range numericsSets {
		e := newEngine(t, m, 1, Options{ContextTokens: 512, ChunkTokens: 160, Numerics: n})
		s := newSession(t, e)
		for _, step := range []int{1, 2, 1, 12, 111, 1, 1, 150} {
			from := s.Len()
			prefill(t, s, randomTokens(1, step, m.Vocab), step)
			x := export(t, s, from)
			g := segment.Segment{From: from, To: s.Len(), Text: []byte("x"), Tokens: x.Tokens,
				Raw: x.Raw, Comp: x.Comp, Index: x.Index, Frontier: x.Frontier}
			if from > 0 {
				g.Parent = segment.ID{1}
			}
			if _, err := segment.Encode(e.Layout(), &g); err != nil {
				t.Errorf("%v, [%d, %d): %v", n, from, s.Len(), err)
			}
		}
	}
}

// TestExportRefuses: a state that is not what the numerics say is not exported,
// and the error says where.
func TestExportRefuses(t *testing.T) {
	m := smallModel(t, synth.Small(3))
	nan := float32(math.NaN())
	for _, c := range []struct {
		name  string
		n     model.Numerics
		spoil func(s *Session, y *layerLayout)
		want  string
	}{
		{"compressed", model.Production, func(s *Session, y *layerLayout) { // 1.015625
			copy(s.rows(y.comp, y.compBytes, 7, 8), []byte{0x10, 0x3C})
		}, "layer 1: compressed rows from 5: kvrow"},
		{"compressed NaN", model.Production, func(s *Session, y *layerLayout) {
			copy(s.rows(y.comp, y.compBytes, 7, 8), []byte{0x00, 0x7E})
		}, "layer 1: compressed rows from 5: kvrow"},
		{"compressed float32", model.Reference, func(s *Session, y *layerLayout) {
			floats(s.rows(y.comp, y.compBytes, 7, 8))[0] = nan
		}, "layer 1: compressed rows from 5: kvrow"},
		{"indexer", model.Production, func(s *Session, y *layerLayout) {
			metal.PutIndexRow(s.panel(y, 6), 6, append([]float32{5}, make([]float32, 127)...))
		}, "layer 1: indexer rows from 5: row 6: kvrow"},
		{"indexer NaN", model.Production, func(s *Session, y *layerLayout) {
			metal.PutIndexRow(s.panel(y, 6), 6, append([]float32{nan}, make([]float32, 127)...))
		}, "layer 1: indexer rows from 5: row 6: kvrow"},
		{"indexer float32", model.Reference, func(s *Session, y *layerLayout) {
			floats(s.rows(y.index, y.indexRowBytes, 6, 7))[0] = nan
		}, "layer 1: indexer rows from 5: kvrow"},
		{"raw", model.Production, func(s *Session, y *layerLayout) {
			floats(s.rows(y.raw, y.rawBytes, 28, 29))[0] = nan
		}, "layer 1: raw rows from 25: kvrow"},
		{"frontier", model.Production, func(s *Session, y *layerLayout) {
			s.bank = [2]int{}
			floats(s.state.Bytes()[y.frontier[0]:][:floatBytes])[0] = nan
		}, "layer 1: a frontier"},
	} {
		e := newEngine(t, m, 1, Options{ContextTokens: 128, ChunkTokens: 64, Numerics: c.n})
		s := newSession(t, e)
		prefill(t, s, randomTokens(1, 40, m.Vocab), 40)
		c.spoil(s, &e.layout.layers[1])
		_, err := s.Export(20)
		if !errors.Is(err, ErrExport) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// restoring returns a session with a restore of a snapshot in which all rows but
// those of skip have been put.
func restoring(t *testing.T, e *Engine, x *Snapshot, skip segment.Kind) (*Session, *Restore) {
	t.Helper()
	s := newSession(t, e)
	r, err := s.BeginRestore(0, x.To)
	if err != nil {
		t.Fatal(err)
	}
	for kind, rows := range map[segment.Kind][][]byte{
		segment.Raw: x.Raw, segment.Compressed: x.Comp, segment.Indexer: x.Index, segment.Frontier: x.Frontier,
	} {
		for i, b := range rows {
			if kind == skip || len(b) == 0 {
				continue
			}
			if err := r.Put(kind, i, 0, b); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s, r
}

func TestCommitRefuses(t *testing.T) {
	m := smallModel(t, synth.Small(4))
	e := newEngine(t, m, 1, Options{ContextTokens: 64, ChunkTokens: 64, Numerics: model.Production})
	a := newSession(t, e)
	if _, err := a.BeginRestore(0, 65); !errors.Is(err, ErrContextFull) {
		t.Errorf("too long: %v", err)
	}
	tokens := randomTokens(1, 17, m.Vocab)
	prefill(t, a, tokens, 17)
	x := export(t, a, 0)
	bad := slices.Clone(tokens)
	bad[16] = 1000
	for _, c := range []struct {
		tokens []int32
		skip   segment.Kind
		want   string
	}{
		{tokens, segment.Text, ""},
		{tokens[:16], segment.Text, "16 tokens after 0, want 17 after 0"},
		{bad, segment.Text, "token 1000 at position 16"},
		{tokens, segment.Raw, "rows are missing"},
		{tokens, segment.Compressed, "rows are missing"},
		{tokens, segment.Indexer, "rows are missing"},
		{tokens, segment.Frontier, "rows are missing"},
	} {
		s, r := restoring(t, e, x, c.skip)
		err := r.Commit(c.tokens)
		if c.want == "" {
			if err != nil || s.Len() != 17 {
				t.Errorf("complete: %v", err)
			}
			continue
		}
		if !errors.Is(err, ErrRestore) || !strings.Contains(err.Error(), c.want) || s.Len() != 0 {
			t.Errorf("without %v: %v, want %q; %d tokens", c.skip, err, c.want, s.Len())
		}
		if err := r.Commit(tokens); !errors.Is(err, ErrRestore) {
			t.Errorf("again: %v", err)
		}
	}
}

func TestPutRefuses(t *testing.T) {
	m := smallModel(t, synth.Small(4))
	e := newEngine(t, m, 1, Options{ContextTokens: 64, ChunkTokens: 64, Numerics: model.Production})
	a := newSession(t, e)
	prefill(t, a, randomTokens(1, 18, m.Vocab), 18)
	x := export(t, a, 0)
	kv, index := e.layout.rows.kv.Bytes(), e.layout.rows.index.Bytes()
	nan := bytes.Clone(x.Comp[1])
	nan[kv+3] = 0x7F
	frontier := bytes.Clone(x.Frontier[1])
	copy(frontier[8:], []byte{0, 0, 0x80, 0x7F})
	for _, c := range []struct {
		kind       segment.Kind
		layer, row int
		b          []byte
		want       error
	}{
		{segment.Compressed, 1, 0, x.Comp[1][:kv-1], ErrRestore},
		{segment.Compressed, 1, 0, nil, ErrRestore},
		{segment.Compressed, 1, 1, x.Comp[1], ErrRestore},
		{segment.Compressed, 1, -1, x.Comp[1][:kv], ErrRestore},
		{segment.Compressed, 1, math.MaxInt, x.Comp[1][:kv], ErrRestore},
		{segment.Compressed, 0, 0, make([]byte, kv), ErrRestore}, // no compressor
		{segment.Compressed, 2, 0, make([]byte, kv), ErrRestore}, // no window of 128 has closed
		{segment.Indexer, 2, 0, make([]byte, index), ErrRestore}, // no indexer
		{segment.Indexer, 1, 4, x.Index[1][:index], ErrRestore},
		{segment.Raw, 0, 15, x.Raw[0][:kv], ErrRestore},
		{segment.Frontier, 1, 1, x.Frontier[1], ErrRestore},
		{segment.Frontier, 1, 0, x.Frontier[1][4:], ErrRestore},
		{segment.Frontier, 0, 0, x.Frontier[1], ErrRestore},
		{segment.Frontier, 0, 0, nil, ErrRestore},
		{segment.Tokens, 0, 0, make([]byte, kv), ErrRestore},
		{segment.Raw, 4, 0, x.Raw[0], ErrRestore},
		{segment.Raw, -1, 0, x.Raw[0], ErrRestore},
		{segment.Compressed, 1, 0, nan, segment.ErrCorrupt},
		{segment.Frontier, 1, 0, frontier, segment.ErrCorrupt},
	} {
		r, err := newSession(t, e).BeginRestore(0, 18)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Put(c.kind, c.layer, c.row, c.b); !errors.Is(err, c.want) {
			t.Errorf("%v of layer %d, row %d, %d bytes: %v, want %v", c.kind, c.layer, c.row, len(c.b), err, c.want)
		}
	}
}

// TestRowForms: which numerics allow which form.
func TestRowForms(t *testing.T) {
	m := smallModel(t, synth.Small(3)) // heads of 128 with 64 rotated, indexer rows of 128
	for _, c := range []struct {
		n    model.Numerics
		want string
	}{
		{model.Production, "kv e4m3*64+f16*64, index e2m1*128"},
		{model.Reference, "kv f32*64+f32*64, index f32*128"},
		{model.Numerics{ActInt8: true}, "kv f32*64+f32*64, index f32*128"},
		{model.Numerics{KVFP8: true}, "kv e4m3*64+f32*64, index f32*128"},
		{model.Numerics{KVF16: true, IndexerFP4: true}, "kv f16*64+f16*64, index e2m1*128"},
	} {
		if got := newRowForms(m, c.n).String(); got != c.want {
			t.Errorf("%v: %s, want %s", c.n, got, c.want)
		}
	}
	plain := smallModel(t, func() synth.Spec { s := synth.Small(3); s.Ratios = []int{0, 128}; return s }())
	if got := fmt.Sprint(newRowForms(plain, model.Production)); got != "kv e4m3*64+f16*64, index " {
		t.Errorf("without an indexer: %s", got)
	}
}
