package selftest

import (
	"fmt"

	"ds4/runtime/kvstore/segment"
)

// target receives a restored state in plain buffers.
type target struct {
	layout                     segment.Layout
	to                         int
	raw, comp, index, frontier [][]byte
	tokens                     []int32
}

// reset makes empty buffers for tokens [0, to).
func (t *target) reset(to int) {
	n := len(t.layout.Layers)
	t.raw, t.comp, t.index, t.frontier = make([][]byte, n), make([][]byte, n), make([][]byte, n), make([][]byte, n)
	for i, y := range t.layout.Layers {
		t.raw[i] = make([]byte, min(to, t.layout.Window)*y.RowBytes)
		t.frontier[i] = make([]byte, y.FrontierBytes(to))
		if y.Ratio > 0 {
			t.comp[i] = make([]byte, to/y.Ratio*y.RowBytes)
			t.index[i] = make([]byte, to/y.Ratio*y.IndexRowBytes)
		}
	}
	t.to, t.tokens = to, nil
}

// rows is the part of a layer's rows that tokens [from, to) closed.
func (t *target) rows(b []byte, ratio, rowBytes, from, to int) []byte {
	return b[from/ratio*rowBytes : to/ratio*rowBytes]
}

func (t *target) Put(kind segment.Kind, layer, row int, b []byte) error {
	y := t.layout.Layers[layer]
	var table []byte
	var rowBytes int
	switch kind {
	case segment.Raw:
		table, rowBytes = t.raw[layer], y.RowBytes
	case segment.Compressed:
		table, rowBytes = t.comp[layer], y.RowBytes
	case segment.Indexer:
		table, rowBytes = t.index[layer], y.IndexRowBytes
	case segment.Frontier:
		table, rowBytes = t.frontier[layer], y.FrontierBytes(t.to)
	}
	if end := row*rowBytes + len(b); end > len(table) {
		return fmt.Errorf("selftest: %v of layer %d ends at byte %d of %d", kind, layer, end, len(table))
	}
	copy(table[row*rowBytes:], b)
	return nil
}

func (t *target) Commit(tokens []int32) error {
	t.tokens = tokens
	return nil
}

func (t *target) Abort() {}
