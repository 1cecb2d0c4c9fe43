package engine

import (
	"testing"

	"ds4/runtime/model"
	"ds4/runtime/model/synth"
)

func TestIdentity(t *testing.T) {
	type change struct {
		name     string
		spec     func(*synth.Spec)
		opt      Options
		tok      byte
		template uint32
		same     bool
	}
	identity := func(c change) [32]byte {
		s := synth.Small(1)
		if c.spec != nil {
			c.spec(&s)
		}
		if c.opt.ContextTokens == 0 {
			c.opt = Options{ContextTokens: 64, Numerics: model.Production}
		}
		return newEngine(t, smallModel(t, s), 1, c.opt).Identity([32]byte{c.tok}, c.template)
	}
	base := identity(change{})
	for _, c := range []change{
		{name: "again", same: true},
		{name: "context and chunk", opt: Options{ContextTokens: 128, ChunkTokens: 32, Numerics: model.Production}, same: true},
		{name: "weights", spec: func(s *synth.Spec) { s.Seed = 2 }},
		{name: "shape", spec: func(s *synth.Spec) { s.Vocab++ }},
		{name: "window", spec: func(s *synth.Spec) { s.Window++ }},
		{name: "top-k", spec: func(s *synth.Spec) { s.IndexTopK++ }},
		{name: "numerics", opt: Options{ContextTokens: 64, Numerics: model.Reference}},
		{name: "activations", opt: Options{ContextTokens: 64, Numerics: model.Numerics{KVFP8: true, KVF16: true, IndexerFP4: true}}},
		{name: "tokenizer", tok: 1},
		{name: "template", template: 1},
	} {
		if got := identity(c); (got == base) != c.same {
			t.Errorf("%s: same identity is %v, want %v", c.name, got == base, c.same)
		}
	}
}
