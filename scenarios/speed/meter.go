package speed

import (
	"context"
	"fmt"
	"time"

	"ds4/reports"
	"ds4/scenarios/corpus"
	"ds4/scenarios/machine"
)

// Meter measures rounds, of one server or of several: all get the same text.
type Meter struct {
	opt           Options
	bytesPerToken float64
	pieces        []string    // text that leads to each frontier, fixed by the first round
	tokens        map[int]int // evaluated tokens at each frontier in the first round that counts
	begun         int         // conversations so far: each begins in its own way
	memory        *machine.Bandwidth
}

// NewMeter returns a meter for the options. Its URL, samples and process are not used.
func NewMeter(opt Options) (*Meter, error) {
	if err := opt.Check(); err != nil {
		return nil, err
	}
	m := &Meter{opt: opt, tokens: make(map[int]int)}
	if opt.Ceiling {
		m.memory = machine.NewBandwidth()
	}
	return m, nil
}

// Close gives memory back.
func (m *Meter) Close() { m.memory = nil }

// WarmUp walks over all frontiers once and throws the figures away. The first one
// fixes the text.
func (m *Meter) WarmUp(ctx context.Context, url string) error {
	api, err := newAPI(url)
	if err != nil {
		return err
	}
	if m.bytesPerToken == 0 {
		if err := m.calibrate(ctx, api); err != nil {
			return err
		}
	}
	if _, _, err := m.walk(ctx, api, 0, nil); err != nil {
		return fmt.Errorf("speed: warm-up: %w", err)
	}
	return nil
}

// Measure walks over all frontiers, as round number round of the server at url.
func (m *Meter) Measure(ctx context.Context, url string, pid, round int) (*reports.Result, error) {
	api, err := newAPI(url)
	if err != nil {
		return nil, err
	}
	bandwidth := 0.0
	if m.memory != nil {
		bandwidth = m.memory.Measure()
	}
	start := time.Now()
	watch := machine.Start(pid)
	watch.SetBandwidth(bandwidth)
	frontiers, warnings, err := m.walk(ctx, api, round, watch)
	if err != nil {
		return nil, fmt.Errorf("speed: round %d: %w", round, err)
	}
	state, doubts := watch.Stop()
	return &reports.Result{
		Scenario: Scenario, Title: "Prefill and decode throughput at growing context", Lane: "process",
		Repetition: round, Seed: m.opt.Seed, Start: start.UTC(), DurationMS: reports.Milliseconds(time.Since(start)),
		Verdict: reports.Pass, Warnings: append(warnings, doubts...), Frontiers: frontiers, Machine: &state, Rerun: m.opt.Rerun,
	}, nil
}

// The text of all rounds comes from here: source code is what coding agents send.
const corpusName = "go-source"

// sampleBytes of text tell how many of them make a token.
const sampleBytes = 2048

// calibrate learns how many bytes of the text make a token of this model.
func (m *Meter) calibrate(ctx context.Context, api *api) error {
	text, err := corpus.Text(corpusName, m.opt.Seed, sampleBytes)
	if err != nil {
		return err
	}
	got, err := api.chat(ctx, []message{{"user", text}}, 1)
	if err != nil {
		return fmt.Errorf("speed: calibrate: %w", err)
	}
	m.bytesPerToken = float64(len(text)) / float64(max(got.Timings.PromptTokens, 1))
	return nil
}

// walk leads one conversation over all frontiers. watch may be nil.
func (m *Meter) walk(ctx context.Context, api *api, round int, watch *machine.Watch) (rows []reports.Frontier, warnings []string, err error) {
	messages := []message{{"system", corpus.Beginning(m.begun)}}
	m.begun++
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
		before, counts := api.reads(ctx)
		got, err := api.chat(ctx, messages, m.opt.DecodeTokens)
		if err != nil {
			return nil, nil, fmt.Errorf("frontier %d: %w", frontier, err)
		}
		if watch != nil {
			watch.Look()
		}
		row, doubts := m.row(round, frontier, tokensAt, got)
		if after, ok := api.reads(ctx); ok && counts {
			row.DecodeReadBytes = after.perToken(before)
		}
		rows, warnings = append(rows, row), append(warnings, doubts...)
		messages = append(messages, message{"assistant", got.text})
		textAt += len(m.pieces[i])
		tokensAt = got.Timings.PromptTokens + got.Timings.CompletionTokens
	}
	return rows, warnings, nil
}

// piece returns the text from the given byte on that makes about so many tokens.
func (m *Meter) piece(from, tokens int) (string, error) {
	size := max(int(float64(tokens)*m.bytesPerToken), 1)
	text, err := corpus.Text(corpusName, m.opt.Seed, from+size)
	if err != nil {
		return "", fmt.Errorf("text for %d tokens: %w", tokens, err)
	}
	return text[from : from+size], nil
}

// row turns the server's figures into a row, and doubts about it into warnings.
func (m *Meter) row(round, frontier, before int, got answer) (reports.Frontier, []string) {
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
	if round == 0 {
		return row, warnings
	}
	want, known := m.tokens[frontier]
	if !known {
		m.tokens[frontier] = t.EvaluatedTokens
	} else if t.EvaluatedTokens != want {
		doubt("%d tokens were evaluated, %d in the first round: not the same work", t.EvaluatedTokens, want)
	}
	return row, warnings
}
