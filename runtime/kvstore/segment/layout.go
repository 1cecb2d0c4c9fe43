package segment

import (
	"fmt"
	"math/bits"
)

// Layout describes the state of one model to the file format: how many bytes
// each row of each layer has. It holds no values and knows no engine.
type Layout struct {
	Vocab  int // token ids are below it
	Window int // raw rows kept: min(to, Window)
	Layers []Layer
}

// Layer describes the state of one layer.
type Layer struct {
	Ratio         int // tokens per compressed row: 0 (none), 4 or 128
	RowBytes      int // bytes of a raw row, and of a compressed row
	IndexRowBytes int // bytes of an indexer row; 0 if the layer has no indexer
	// The frontier is the partial state of compressor and indexer. It grows with
	// the window that is open, and the last closed one can leave something in it.
	ClosedBytes int // once a window has closed
	OpenBytes   int // per token of the open window
}

// FrontierBytes is the size of the layer's frontier at position to.
func (y Layer) FrontierBytes(to int) int {
	if y.Ratio == 0 {
		return 0
	}
	n := to % y.Ratio * y.OpenBytes
	if to >= y.Ratio {
		n += y.ClosedBytes
	}
	return n
}

// hasFrontier reports whether the layer has a frontier section.
func (y Layer) hasFrontier() bool { return y.ClosedBytes > 0 || y.OpenBytes > 0 }

// Check reports what makes a layout unusable, and nothing for a usable one.
func (l Layout) Check() error {
	switch {
	case l.Vocab < 1 || l.Vocab > MaxVocab:
		return fmt.Errorf("%w: vocabulary of %d, want 1 to %d", ErrInput, l.Vocab, MaxVocab)
	case l.Window < 0 || l.Window > MaxTokens:
		return fmt.Errorf("%w: window of %d rows, want 0 to %d", ErrInput, l.Window, MaxTokens)
	case len(l.Layers) < 1 || len(l.Layers) > MaxLayers:
		return fmt.Errorf("%w: %d layers, want 1 to %d", ErrInput, len(l.Layers), MaxLayers)
	}
	for i, y := range l.Layers {
		if y.Ratio < 0 || y.Ratio > MaxTokens || y.RowBytes < 1 || y.RowBytes > MaxRowBytes ||
			y.IndexRowBytes < 0 || y.IndexRowBytes > MaxRowBytes || !y.frontierFits() {
			return fmt.Errorf("%w: layer %d: %+v is out of range", ErrInput, i, y)
		}
	}
	return nil
}

// frontierFits bounds the largest frontier of a layer, which counts as one row.
func (y Layer) frontierFits() bool {
	if y.Ratio == 0 {
		return !y.hasFrontier()
	}
	return y.ClosedBytes >= 0 && y.OpenBytes >= 0 && y.ClosedBytes <= MaxRowBytes && y.OpenBytes <= MaxRowBytes &&
		y.FrontierBytes(2*y.Ratio-1) <= MaxRowBytes
}

// maxTokenBytes is what the ids of the largest vocabulary take.
const maxTokenBytes = 3

// tokenBytes is how many bytes the ids of a vocabulary take.
func tokenBytes(vocab int) int { return max(1, (bits.Len(uint(vocab-1))+7)/8) }

// plan computes the table, without checksums, and the file's size. It is the one
// place that knows which sections exist and where.
func (l Layout) plan(from, to, textBytes int) (table []Section, fileBytes int64) {
	table = make([]Section, 0, 2+4*len(l.Layers))
	add := func(kind Kind, layer, rows, rowBytes int) {
		table = append(table, Section{Kind: kind, Layer: layer, Rows: rows, Bytes: int64(rows) * int64(rowBytes)})
	}
	add(Text, 0, textBytes, 1)
	add(Tokens, 0, to-from, tokenBytes(l.Vocab))
	for i, y := range l.Layers {
		add(Raw, i, min(to, l.Window), y.RowBytes)
		if y.Ratio > 0 {
			closed := to/y.Ratio - from/y.Ratio
			add(Compressed, i, closed, y.RowBytes)
			if y.IndexRowBytes > 0 {
				add(Indexer, i, closed, y.IndexRowBytes)
			}
		}
	}
	for i, y := range l.Layers {
		if y.hasFrontier() {
			add(Frontier, i, 1, y.FrontierBytes(to))
		}
	}
	at := align(int64(HeaderBytes + EntryBytes*len(table)))
	for i := range table {
		table[i].Offset = at
		at = align(at + table[i].Bytes)
	}
	return table, at + FooterBytes
}

// FileBytes returns the size of the file that holds such a segment.
func (l Layout) FileBytes(from, to, textBytes int) int64 {
	_, n := l.plan(from, to, textBytes)
	return n
}

// HeadBytes returns the size of header and table, the same for all segments.
func (l Layout) HeadBytes() int {
	table, _ := l.plan(0, 1, 1)
	return HeaderBytes + EntryBytes*len(table)
}

func align(n int64) int64 { return (n + Align - 1) &^ (Align - 1) }
