package engine

import (
	"fmt"
	"testing"

	"ds4/runtime/model"
)

// flashModel has what the state of DeepSeek V4 Flash depends on, and no weights.
func flashModel() *model.Model {
	m := &model.Model{}
	m.Layers, m.HeadDim, m.RotDim, m.IndexDim, m.Window, m.Vocab = 43, 512, 64, 128, 128, 129280
	for i := range m.Layers {
		ratio := 0
		if i >= 2 {
			ratio = [2]int{4, 128}[i%2]
		}
		m.Ratios = append(m.Ratios, ratio)
	}
	return m
}

// archBytes is what a session of n tokens takes by the architecture, with values of
// the given sizes in compressed and in indexer rows, and what of that is rows.
func archBytes(m *model.Model, opt Options, n int, comp, index float64) (all, rows float64) {
	var frontier float64
	for _, r := range m.Ratios {
		raw := float64((m.Window + opt.ChunkTokens) * m.HeadDim * floatBytes)
		all += raw
		if r == 0 {
			continue
		}
		rows += float64(n/r*m.HeadDim) * comp
		lanes, slots := 1, r
		if r == 4 {
			rows += float64(n/r*m.IndexDim) * index
			lanes, slots = 2, 2*r
			frontier += float64(slots * 2 * lanes * m.IndexDim * floatBytes)
		}
		frontier += float64(slots * 2 * lanes * m.HeadDim * floatBytes)
	}
	return all + rows + 2*frontier + float64(n*floatBytes+2*m.Vocab*floatBytes), rows
}

// TestSessionBytes holds what a session is said to take to the formula of the
// architecture: compressed rows of F16, indexer rows of a byte per value and a
// scale per 32, and no more per token than with all rows in F16.
func TestSessionBytes(t *testing.T) {
	const int8Value = 1 + 4./32
	for name, m := range map[string]*model.Model{"ds4-tiny": tinyModel(t), "Flash": flashModel()} {
		for _, c := range []struct {
			n           model.Numerics
			comp, index float64 // bytes of a value
		}{{model.Production, 2, int8Value}, {model.Reference, 4, 4}, {model.Numerics{KVF16: true}, 2, 4}} {
			last := uint64(0)
			for _, n := range []int{32768, 131072, 1 << 20} {
				opt := Options{ContextTokens: n, ChunkTokens: 512, Numerics: c.n}
				l := newStateLayout(m, opt)
				got := l.bytes + l.hostBytes()
				want, _ := archBytes(m, opt, n, c.comp, c.index)
				// A row more per table, whole panels, and the tables' alignment.
				slack := float64(len(m.Ratios)) * (2*floatBytes*float64(m.HeadDim) + 32*floatBytes*float64(m.IndexDim))
				if float64(got) < want || float64(got) > want+slack {
					t.Errorf("%s, %v, %d tokens: %d bytes, want %.0f and at most %.0f more", name, c.n, n, got, want, slack)
				}
				if got <= last {
					t.Errorf("%s, %v: no growth up to %d tokens", name, c.n, n)
				}
				last = got
			}
		}
	}
}

// TestSessionGrowth is the table of docs/performance.md, and its bound: a token adds
// no more than it would with all rows in F16.
func TestSessionGrowth(t *testing.T) {
	const from, to = 32768, 131072
	for _, c := range []struct {
		m     *model.Model
		bytes uint64
	}{{tinyModel(t), 406}, {flashModel(), 6296}} {
		size := func(n int) uint64 {
			l := newStateLayout(c.m, Options{ContextTokens: n, ChunkTokens: 512, Numerics: model.Production})
			return l.bytes + l.hostBytes()
		}
		grown := size(to) - size(from)
		if got := grown / (to - from); got != c.bytes {
			t.Errorf("%s: a token adds %d bytes, want %d", fmt.Sprint(c.m.Ratios), got, c.bytes)
		}
		_, less := archBytes(c.m, Options{}, from, halfBytes, halfBytes)
		_, more := archBytes(c.m, Options{}, to, halfBytes, halfBytes)
		if f16 := more - less + floatBytes*(to-from); float64(grown) > f16 {
			t.Errorf("%v: %d bytes for %d tokens, %.0f with all rows in F16", c.m.Ratios, grown, to-from, f16)
		}
	}
	// The column "same rows in F16" of the architecture's description, window rows
	// included, for the published model.
	m := flashModel()
	_, rows := archBytes(m, Options{}, to, halfBytes, halfBytes)
	if got := rows + float64(m.Layers*m.Window*m.HeadDim*halfBytes); got != 907_411_456 {
		t.Errorf("the formula gives %.0f bytes of rows in F16, want 907411456", got)
	}
}
