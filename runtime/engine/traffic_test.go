package engine

import (
	"testing"
)

// What a step has to read grows as attention does: by the window first, by a row
// for each window of a compressor, and not at all with rows that are not looked at.
func TestDecodeBytes(t *testing.T) {
	m := tinyModel(t)
	e := newEngine(t, m, 1, Options{ContextTokens: 8192})
	var file, experts uint64
	for _, x := range m.Matrices() {
		file += uint64(len(x.Data))
		if x.Count > 1 {
			experts += uint64(len(x.Data)) * uint64(x.Count-m.ExpertsUsed) / uint64(x.Count)
		}
	}
	for _, v := range m.Vectors() {
		file += uint64(4 * len(v))
	}
	idle := experts + uint64(len(m.Embed.Data)) - uint64(len(m.Embed.Data)/m.Embed.Rows)
	if got, want := e.DecodeWeightBytes(1, 8000), file-idle; got != want {
		t.Errorf("one token far into a context reads %d bytes of weights, want %d", got, want)
	}
	if one, all := e.DecodeWeightBytes(1, 8000), e.DecodeWeightBytes(1000, 8000); all <= one || all > file+1000*uint64(len(m.Embed.Data)/m.Embed.Rows) {
		t.Errorf("a thousand tokens read %d bytes of weights, one %d, there are %d", all, one, file)
	}
	if short, long := e.DecodeWeightBytes(1, 10), e.DecodeWeightBytes(1, 8000); short >= long {
		t.Errorf("nothing is chosen among 10 tokens, yet %d bytes are read, and %d among 8000", short, long)
	}
	var rows uint64
	for i := range e.layout.layers {
		rows += uint64(e.layout.layers[i].rawBytes)
	}
	if got := e.DecodeRowBytes(0); got != rows {
		t.Errorf("the first token reads %d bytes of rows, its own are %d", got, rows)
	}
	last := uint64(0)
	for pos := range 8000 {
		n := e.DecodeRowBytes(pos)
		if n < last {
			t.Fatalf("the token at %d reads %d bytes of rows, the one before %d", pos, n, last)
		}
		last = n
	}
	var held uint64 // every row that a session at this length has
	for i := range e.layout.layers {
		l := &e.layout.layers[i]
		held += uint64(m.Window * l.rawBytes)
		if l.ratio != 0 {
			held += uint64(8000 / l.ratio * (l.compBytes + l.indexRowBytes))
		}
	}
	if last >= held {
		t.Errorf("the token at 8000 reads %d bytes of rows, all that the session holds: attention chooses nothing", last)
	}
}
