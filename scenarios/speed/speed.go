// Package speed measures prefill and decode throughput of a running server, over
// HTTP, at growing context lengths.
//
// What is timed: nothing here. A round is one conversation that grows from
// frontier to frontier; each request adds text to it, and the server reports how
// many tokens its backend evaluated and how long the backend took. Tokenisation,
// queueing, HTTP and restores from disk are in none of the figures. Because the
// conversation continues, a row covers only the tokens that are new in it. At each
// frontier the answer is the decode probe: a fixed number of greedy tokens, with
// the end of the turn ignored. The probe stays in the conversation, so that no row
// pays for undoing it.
//
// A round before the first is measured and thrown away. All rounds send the same
// text after a number of their own at its very start, so that they do the same
// work and none can reuse another's cache.
package speed

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"ds4/reports"
)

// Scenario is the name of results of this package.
const Scenario = "speed"

// Limits of Options.
const (
	MinFrontier     = 64      // tokens; below, the prompt's frame is a large part
	MaxFrontier     = 1 << 24 // tokens
	MaxFrontiers    = 256
	MaxSamples      = 1000
	MaxDecodeTokens = 4096
	minGap          = 64 // new tokens between a probe's end and the next frontier
)

// Options says what to measure.
type Options struct {
	URL          string // of the server
	Frontiers    []int  // context lengths in tokens, growing
	Samples      int    // rounds that count
	DecodeTokens int    // length of the decode probe
	Seed         uint64 // of the text
	ServerPID    int    // process of the server, 0 if it is not ours: enables the warning about other load
	Rerun        string // command line for the results
	// Ceiling measures before each round how fast memory can be read, for a server
	// on this machine: what a decoded token reads bounds its time from below.
	Ceiling bool

	// OnRound is called for every round that counts. An error ends the measurement.
	OnRound func(*reports.Result) error
	// Progress is called before every request. Round 0 is the one thrown away.
	Progress func(round, frontierTokens int)
}

// Check says what is wrong with the options, if anything.
func (o *Options) Check() error {
	switch {
	case len(o.Frontiers) == 0 || len(o.Frontiers) > MaxFrontiers:
		return fmt.Errorf("speed: %d frontiers, want 1 to %d", len(o.Frontiers), MaxFrontiers)
	case o.Samples < 1 || o.Samples > MaxSamples:
		return fmt.Errorf("speed: %d samples, want 1 to %d", o.Samples, MaxSamples)
	case o.DecodeTokens < 1 || o.DecodeTokens > MaxDecodeTokens:
		return fmt.Errorf("speed: a decode probe of %d tokens, want 1 to %d", o.DecodeTokens, MaxDecodeTokens)
	}
	for i, f := range o.Frontiers {
		if f < MinFrontier || f > MaxFrontier {
			return fmt.Errorf("speed: frontier %d is not between %d and %d tokens", f, MinFrontier, MaxFrontier)
		}
		if need := o.DecodeTokens + minGap; i > 0 && f-o.Frontiers[i-1] < need {
			return fmt.Errorf("speed: frontier %d is less than %d tokens (decode probe and %d) after %d", f, need, minGap, o.Frontiers[i-1])
		}
	}
	return nil
}

// ContextTokens is the context that the server needs for the measurement.
func (o *Options) ContextTokens() int {
	// Estimates of text length are off by a few percent, and the text that they are
	// made with must fit whatever the tokenizer.
	const slack = sampleBytes + 512
	last := slices.Max(o.Frontiers)
	return last + last/16 + o.DecodeTokens + slack
}

// ErrNoTimings means that the server does not report what its backend did, and
// that its throughput can therefore not be measured here.
var ErrNoTimings = errors.New("speed: the server's answers carry no timings")

// Run measures all rounds.
func Run(ctx context.Context, opt Options) error {
	m, err := NewMeter(opt)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.WarmUp(ctx, opt.URL); err != nil {
		return err
	}
	for round := 1; round <= opt.Samples; round++ {
		res, err := m.Measure(ctx, opt.URL, opt.ServerPID, round)
		if err != nil {
			return err
		}
		if err := opt.OnRound(res); err != nil {
			return err
		}
	}
	return nil
}

// rate is tokens per second, 0 if no time was reported.
func rate(tokens int, ms float64) float64 {
	if ms <= 0 {
		return 0
	}
	return 1000 * float64(tokens) / ms
}
