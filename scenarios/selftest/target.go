package selftest

import (
	"ds4/runtime/kvstore/segment"
)

// target receives a restored state in plain buffers.
type target struct {
	layout                     segment.Layout
	raw, comp, index, frontier [][]byte
	logits                     []byte
	tokens                     []int32
}

// reset makes empty buffers for tokens [0, to).
func (t *target) reset(to int) {
	n := len(t.layout.Layers)
	t.raw, t.comp, t.index, t.frontier = make([][]byte, n), make([][]byte, n), make([][]byte, n), make([][]byte, n)
	for i, y := range t.layout.Layers {
		t.raw[i] = make([]byte, min(to, t.layout.Window)*y.RowBytes)
		t.frontier[i] = make([]byte, y.FrontierBytes)
		if y.Ratio > 0 {
			t.comp[i] = make([]byte, to/y.Ratio*y.RowBytes)
			t.index[i] = make([]byte, to/y.Ratio*y.IndexRowBytes)
		}
	}
	t.logits, t.tokens = make([]byte, 4*t.layout.Vocab), nil
}

// rows is the part of a layer's rows that tokens [from, to) closed.
func (t *target) rows(b []byte, ratio, rowBytes, from, to int) []byte {
	return b[from/ratio*rowBytes : to/ratio*rowBytes]
}

func (t *target) Comp(layer, from, to int) []byte {
	y := t.layout.Layers[layer]
	if y.Ratio == 0 {
		return nil
	}
	return t.rows(t.comp[layer], y.Ratio, y.RowBytes, from, to)
}

func (t *target) Index(layer, from, to int) []byte {
	y := t.layout.Layers[layer]
	if y.Ratio == 0 {
		return nil
	}
	return t.rows(t.index[layer], y.Ratio, y.IndexRowBytes, from, to)
}

func (t *target) Raw(layer int) []byte      { return t.raw[layer] }
func (t *target) Frontier(layer int) []byte { return t.frontier[layer] }
func (t *target) Logits() []byte            { return t.logits }
func (t *target) Commit(tokens []int32) error {
	t.tokens = tokens
	return nil
}
func (t *target) Abort() {}
