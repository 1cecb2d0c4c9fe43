package config

import (
	"ds4/runtime/sample"
)

const (
	maxTemperature = 100
	maxTopK        = 1 << 20
)

// Sampling describes how the commands at a terminal choose tokens.
type Sampling struct {
	Params sample.Params
	Tokens int    // output cap
	Think  string // none, high, max
	System string // system prompt
}

// AddSampling registers the settings of Sampling.
func (s *Set) AddSampling(v *Sampling) {
	def := sample.Defaults()
	s.Int(&v.Tokens, "tokens", "n", defaultTokens, 1, maxContext, "at most `N` tokens of output")
	s.String(&v.System, "system", "", "", nil, "system prompt, `TEXT`")
	think := s.Enum(&v.Think, "think", "", "none", []string{"none", "high", "max"}, "`MODE` of thinking: none, high, max; alone it means high")
	think.optional = "high"
	s.Alias("nothink", think, "none", "the same as --think=none").hidden = true
	s.Float(&v.Params.Temperature, "temp", "", def.Temperature, 0, maxTemperature, "sampling temperature, `F`; 0 = always the likeliest token")
	s.Float(&v.Params.TopP, "top-p", "", def.TopP, 0, 1, "nucleus sampling, `F`")
	s.Float(&v.Params.MinP, "min-p", "", def.MinP, 0, 1, "drop tokens below `F` times the likeliest one's probability")
	s.Int(&v.Params.TopK, "top-k", "", def.TopK, 0, maxTopK, "sample from the `N` likeliest tokens; 0 = all")
	s.Uint64(&v.Params.Seed, "seed", "", def.Seed, "seed of the sampler, `N`; 0 = random")
}
