package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"ds4/metal"
	"ds4/metal/quant"
	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/model"
	"ds4/runtime/tokenizer"
	"ds4/runtime/vfs"
)

const segmentTokens = 2048 // of a full segment, by default

// fillState makes a session look as if it had evaluated tokens, without the time
// that it takes: every row holds random values that all row forms have. The numerics
// are those of production.
func fillState(s *Session, tokens []int32) {
	rng := rand.New(rand.NewPCG(1, 2))
	value := func() uint32 { // +-0.5, 0.75, 1, 1.5
		return 0x3F000000 + rng.Uint32N(4)<<22 | rng.Uint32N(2)<<31
	}
	fill := func(rows []byte) {
		v := floats(rows)
		for i := range v {
			v[i] = math.Float32frombits(value())
		}
	}
	m := s.engine.model
	for i := range s.engine.layout.layers {
		y := &s.engine.layout.layers[i]
		fill(s.rows(y.raw, y.rawBytes, 0, y.ring))
		if y.ratio == 0 {
			continue
		}
		fill(s.frontierBank(i, 0))
		rows := len(tokens) / y.ratio
		comp := s.rows(y.comp, y.compBytes, 0, rows)
		for j := 0; j < len(comp); j += halfBytes {
			binary.LittleEndian.PutUint16(comp[j:], quant.F32ToF16(math.Float32frombits(value())))
		}
		if y.panelBytes != 0 {
			row := make([]float32, m.IndexDim)
			for j := range rows {
				for k := range row {
					row[k] = math.Float32frombits(value())
				}
				metal.PutIndexRow(s.panel(y, j), j%metal.IndexPanel, row)
			}
		}
	}
	s.tokens = tokens
}

// storeConversation writes the segments of a conversation of n tokens to a store
// and returns the chain.
func storeConversation(t testing.TB, e *Engine, store *kvstore.Store, n int) kvstore.Chain {
	t.Helper()
	s := newSession(t, e)
	tokens := benchTokens(n)
	fillState(s, tokens)
	parent := ""
	var text []byte
	for from := 0; from < n; from += segmentTokens {
		s.tokens = tokens[:min(from+segmentTokens, n)]
		x, err := s.Export(from)
		if err != nil {
			t.Fatal(err)
		}
		var part []byte
		for _, id := range x.Tokens {
			part = fmt.Appendf(part, "%4d", id) // text has about 4 bytes per token
		}
		text = append(text, part...)
		parent, err = store.Save(t.Context(), &kvstore.Segment{Parent: parent, From: x.From, To: x.To, Text: part,
			Tokens: x.Tokens, Raw: x.Raw, Comp: x.Comp, Index: x.Index, Frontier: x.Frontier})
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c := store.Lookup(text)
	if c.Tokens != n {
		t.Fatalf("%d of %d tokens are stored", c.Tokens, n)
	}
	return c
}

// TestSegmentSize holds full segments of the embedded model to at most 0.55 of
// what they are with rows of F16.
func TestSegmentSize(t *testing.T) {
	e := newEngine(t, tinyModel(t), 1, Options{ContextTokens: 4096, Numerics: model.Production})
	packed := e.Layout()
	halves := packed
	halves.Layers = slices.Clone(packed.Layers)
	m := e.Model()
	for i := range halves.Layers {
		y := &halves.Layers[i]
		y.RowBytes = 2 * m.HeadDim
		if y.IndexRowBytes > 0 {
			y.IndexRowBytes = 2 * m.IndexDim
		}
	}
	from, to := segmentTokens, 2*segmentTokens
	text := textBytes(t, m, goldenCases(t)[5].Tokens[:segmentTokens])
	rows := func(l segment.Layout) (n int64) {
		for _, y := range l.Layers {
			n += int64(min(to, l.Window) * y.RowBytes)
			if y.Ratio > 0 {
				n += int64((to/y.Ratio - from/y.Ratio) * (y.RowBytes + y.IndexRowBytes))
			}
		}
		return n
	}
	got, same := packed.FileBytes(from, to, text), halves.FileBytes(from, to, text)
	// A file of F16 rows that is otherwise laid out without care: a whole window,
	// ids of 4 bytes, logits. With the frontier cut to what is used, and with all
	// of its slots.
	trimmed := same + int64(len(packed.Layers)*2*m.HeadDim+2*segmentTokens+4*m.Vocab)
	plain := trimmed
	for i := range e.layout.layers {
		y := &e.layout.layers[i]
		plain += int64(y.frontierBytes - y.keptFrontier(to))
	}
	ratio := func(a, b int64) float64 { return float64(a) / float64(b) }
	t.Logf("%d bytes with %d of text: %.4f of a plain file with F16 rows (%d), %.4f with a cut frontier (%d), %.4f if only the rows differ (%d); rows alone %.4f (%d of %d)",
		got, text, ratio(got, plain), plain, ratio(got, trimmed), trimmed, ratio(got, same), same, ratio(rows(packed), rows(halves)), rows(packed), rows(halves))
	if r := ratio(got, plain); r > 0.55 {
		t.Errorf("%.4f of the size with F16 rows, want at most 0.55", r)
	}
}

// textBytes is the length of the text of tokens.
func textBytes(t *testing.T, m *model.Model, tokens []int32) int {
	t.Helper()
	tok, err := tokenizer.FromGGUF(m.File)
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for _, id := range tokens {
		text = tok.CacheText(text, id)
	}
	return len(text)
}

// BenchmarkRestore restores a conversation of 32k tokens of the embedded model
// from files in the page cache, into a session that is new or has been used.
func BenchmarkRestore(b *testing.B) {
	e := newEngine(b, tinyModel(b), 0, Options{ContextTokens: 1<<15 + 64, Numerics: model.Production})
	store, err := kvstore.Open(kvstore.Options{FS: vfs.OS, Dir: b.TempDir(), Identity: [32]byte{1}, Layout: e.Layout(),
		Sync: kvstore.SyncNone, Log: func(string, ...any) {}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close(context.Background()) })
	chain := storeConversation(b, e, store, 1<<15)
	for _, fresh := range []bool{true, false} {
		b.Run(map[bool]string{true: "new session", false: "used session"}[fresh], func(b *testing.B) {
			s := newSession(b, e)
			fillState(s, benchTokens(1<<15)) // touch its memory
			b.SetBytes(chain.Bytes)
			read := int64(0)
			for b.Loop() {
				if fresh {
					b.StopTimer()
					s.Release()
					s = newSession(b, e)
					b.StartTimer()
				}
				r, err := store.Restore(b.Context(), chain, func(to int) (kvstore.Target, error) { return s.BeginRestore(0, to) })
				if err != nil {
					b.Fatal(err)
				}
				read = r.Bytes
			}
			b.ReportMetric(float64(read)*float64(b.N)/1e6/b.Elapsed().Seconds(), "read-MB/s")
			b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N), "ms/restore")
			b.ReportMetric(float64(read)/1e6, "read-MB")
		})
	}
}
