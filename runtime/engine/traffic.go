package engine

import "ds4/runtime/model"

// traffic is what a decode step has to read, as far as it is the same for every
// step of a model. Scratch and activations, which stay in caches, do not count: it
// is the least that memory has to deliver, and so the bound of decode.
type traffic struct {
	fixed   uint64          // weights of every step
	embed   uint64          // one row of the embedding
	experts []expertTraffic // per layer
	index   []uint64        // per layer: what choosing rows takes on top
}

type expertTraffic struct {
	one   uint64 // bytes of one expert
	count int
}

func newTraffic(m *model.Model) traffic {
	var t traffic
	for _, v := range m.Vectors() {
		t.fixed += uint64(len(v)) * floatBytes
	}
	for _, x := range m.Matrices() {
		if x.Count == 1 {
			t.fixed += uint64(len(x.Data))
		}
	}
	if m.Embed != m.Output {
		t.fixed -= uint64(len(m.Embed.Data))
	}
	t.embed = uint64(len(m.Embed.Data) / m.Embed.Rows)
	for i := range m.Layer {
		y := &m.Layer[i]
		var experts expertTraffic
		for _, x := range []*model.Matrix{y.Gate, y.Up, y.Down} {
			if x.Count > 1 { // a single one was counted
				experts.one += uint64(len(x.Data) / x.Count)
				experts.count = x.Count
			}
		}
		t.experts = append(t.experts, experts)
		var index uint64
		if y.Index != nil {
			index = uint64(len(y.Index.QB.Data) + len(y.Index.Proj.Data))
			t.fixed -= index
		}
		t.index = append(t.index, index)
	}
	return t
}

// DecodeWeightBytes is what a step over one token of each of so many sequences
// reads of the weights, given the position of the token that has most before it.
// Experts count as many as the tokens use, if no two use the same, up to all there
// are: which they are is known only during the step.
func (e *Engine) DecodeWeightBytes(sequences, longest int) uint64 {
	t := &e.traffic
	n := t.fixed + uint64(sequences)*t.embed
	for i := range t.experts {
		n += t.experts[i].one * uint64(min(sequences*e.model.ExpertsUsed, t.experts[i].count))
		if l := &e.layout.layers[i]; l.indexRowBytes != 0 && (longest+1)/l.ratio > e.model.IndexTopK {
			n += t.index[i]
		}
	}
	return n
}

// DecodeRowBytes is what the token at pos reads of its session: the rows that
// attention and indexer look at, in the form in which they are kept.
func (e *Engine) DecodeRowBytes(pos int) uint64 {
	n := 0
	for i := range e.layout.layers {
		l := &e.layout.layers[i]
		n += min(pos+1, e.model.Window) * l.rawBytes
		if l.ratio == 0 {
			continue
		}
		rows := (pos + 1) / l.ratio
		if top := e.model.IndexTopK; l.indexRowBytes != 0 && rows > top {
			n += rows * l.indexRowBytes // all are looked at, the best are attended to
			rows = top
		}
		n += rows * l.compBytes
	}
	return uint64(n)
}
