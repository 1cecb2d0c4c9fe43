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
	"time"

	"ds4/reports"
	"ds4/scenarios/corpus"
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
	const slack = 512 // estimates of text length are off by a few percent
	last := slices.Max(o.Frontiers)
	return last + last/16 + o.DecodeTokens + slack
}

// ErrNoTimings means that the server does not report what its backend did, and
// that its throughput can therefore not be measured here.
var ErrNoTimings = errors.New("speed: the server's answers carry no timings")

// Run measures all rounds.
func Run(ctx context.Context, opt Options) error {
	if err := opt.Check(); err != nil {
		return err
	}
	m := &measurement{opt: opt, api: newAPI(opt.URL), tokens: make(map[int]int)}
	if err := m.calibrate(ctx); err != nil {
		return err
	}
	for round := 0; round <= opt.Samples; round++ {
		start := time.Now()
		load := startLoad(opt.ServerPID)
		frontiers, warnings, err := m.round(ctx, round)
		if err != nil {
			return fmt.Errorf("speed: round %d: %w", round, err)
		}
		if round == 0 {
			continue
		}
		if text := load.warning(); text != "" {
			warnings = append(warnings, text)
		}
		res := reports.Result{
			Scenario: Scenario, Title: "Prefill and decode throughput at growing context", Lane: "process",
			Repetition: round, Seed: opt.Seed, Start: start.UTC(), DurationMS: reports.Milliseconds(time.Since(start)),
			Verdict: reports.Pass, Warnings: warnings, Frontiers: frontiers, Rerun: opt.Rerun,
		}
		if err := opt.OnRound(&res); err != nil {
			return err
		}
	}
	return nil
}

// measurement is the state that rounds share.
type measurement struct {
	opt           Options
	api           *api
	bytesPerToken float64
	pieces        []string    // text that leads to each frontier, fixed by round 0
	tokens        map[int]int // evaluated tokens at each frontier in the first round that counts
}

// The text of all rounds comes from here: source code is what coding agents send.
const corpusName = "go-source"

// calibrate learns how many bytes of the text make a token of this model.
func (m *measurement) calibrate(ctx context.Context) error {
	const sampleBytes = 2048
	text, err := corpus.Text(corpusName, m.opt.Seed, sampleBytes)
	if err != nil {
		return err
	}
	got, err := m.api.chat(ctx, []message{{"user", text}}, 1)
	if err != nil {
		return fmt.Errorf("speed: calibrate: %w", err)
	}
	m.bytesPerToken = float64(len(text)) / float64(max(got.Timings.PromptTokens, 1))
	return nil
}

// round walks one conversation over all frontiers.
func (m *measurement) round(ctx context.Context, round int) (rows []reports.Frontier, warnings []string, err error) {
	messages := []message{{"system", fmt.Sprintf("Measurement %04d.", 1000+round)}}
	textAt, tokensAt := 0, 0 // bytes of the text used, tokens of context so far
	for i, frontier := range m.opt.Frontiers {
		if m.opt.Progress != nil {
			m.opt.Progress(round, frontier)
		}
		if i == len(m.pieces) {
			piece, err := m.piece(textAt, frontier-tokensAt)
			if err != nil {
				return nil, nil, err
			}
			m.pieces = append(m.pieces, piece)
		}
		messages = append(messages, message{"user", m.pieces[i]})
		got, err := m.api.chat(ctx, messages, m.opt.DecodeTokens)
		if err != nil {
			return nil, nil, fmt.Errorf("frontier %d: %w", frontier, err)
		}
		row, doubts := m.row(round, frontier, tokensAt, got)
		rows, warnings = append(rows, row), append(warnings, doubts...)
		messages = append(messages, message{"assistant", got.text})
		textAt += len(m.pieces[i])
		tokensAt = got.Timings.PromptTokens + got.Timings.CompletionTokens
	}
	return rows, warnings, nil
}

// piece returns the text from the given byte on that makes about so many tokens.
func (m *measurement) piece(from, tokens int) (string, error) {
	size := max(int(float64(tokens)*m.bytesPerToken), 1)
	text, err := corpus.Text(corpusName, m.opt.Seed, from+size)
	if err != nil {
		return "", fmt.Errorf("text for %d tokens: %w", tokens, err)
	}
	return text[from : from+size], nil
}

// row turns the server's figures into a row, and doubts about it into warnings.
func (m *measurement) row(round, frontier, before int, got answer) (reports.Frontier, []string) {
	t := got.Timings
	row := reports.Frontier{
		FrontierTokens: frontier, ContextTokens: t.PromptTokens, EvaluatedTokens: t.EvaluatedTokens,
		PrefillMS: t.PrefillMS, PrefillTPS: rate(t.EvaluatedTokens, t.PrefillMS),
		DecodeTokens: t.CompletionTokens, DecodeMS: t.DecodeMS, DecodeTPS: rate(t.CompletionTokens, t.DecodeMS),
	}
	var warnings []string
	doubt := func(format string, args ...any) {
		warnings = append(warnings, fmt.Sprintf("frontier %d: ", frontier)+fmt.Sprintf(format, args...))
	}
	if before > 0 && t.CachedTokens < before/2 {
		doubt("the server evaluated %d tokens and reused %d: the row covers the whole context, not what is new", t.EvaluatedTokens, t.CachedTokens)
	}
	if t.CompletionTokens < m.opt.DecodeTokens {
		doubt("the decode probe ended after %d of %d tokens", t.CompletionTokens, m.opt.DecodeTokens)
	}
	if t.Attempts > 1 {
		doubt("the backend needed %d attempts", t.Attempts)
	}
	if round == 1 {
		m.tokens[frontier] = t.EvaluatedTokens
	} else if want := m.tokens[frontier]; round > 1 && t.EvaluatedTokens != want {
		doubt("%d tokens were evaluated, %d in the first round: not the same work", t.EvaluatedTokens, want)
	}
	return row, warnings
}

// rate is tokens per second, 0 if no time was reported.
func rate(tokens int, ms float64) float64 {
	if ms <= 0 {
		return 0
	}
	return 1000 * float64(tokens) / ms
}
