// Package load puts requests on a server through HTTP, several at a time, and
// measures what its clients see: time to the first token, time between tokens,
// time to the end, and how many requests per second meet an objective.
//
// It promises a closed loop: so many requests are in flight until all were sent,
// and each answer has the same length. All requests of a kind do the same work,
// because they differ in their first words only; those words keep one request from
// reusing another's cache where it should not. A request without a whole answer
// counts as failed, and in no latency. What was reused is read from the server's
// counters, and from its answers only if it has none.
package load

import (
	"context"
	"fmt"
	"slices"
	"time"

	"ds4/reports"
	"ds4/runtime/client"
	"ds4/scenarios/corpus"
	"ds4/scenarios/machine"
)

// Scenario is the name of results of this package.
const Scenario = "serve-speed"

// Workload is what the requests of a repetition have in common.
type Workload string

// The workloads.
const (
	Independent  Workload = "independent"   // every prompt is new
	SharedPrefix Workload = "shared-prefix" // three quarters of every prompt are the same, and were seen before
	MultiTurn    Workload = "multi-turn"    // conversations that grow, each request one more turn
)

// Workloads lists all of them.
func Workloads() []Workload { return []Workload{Independent, SharedPrefix, MultiTurn} }

// Limits of Options.
const (
	MaxConcurrency  = 1024
	MaxCells        = 64 // workloads times concurrencies
	MaxSamples      = 1000
	MaxRequests     = 1 << 16 // of one repetition
	MinPromptTokens = 64
	MaxPromptTokens = 1 << 20
	MaxOutputTokens = 4096
	MaxTurns        = 256
)

// Options says what to measure.
type Options struct {
	URL          string
	ServerPID    int // 0 if it is not ours
	Workloads    []Workload
	Concurrency  []int // requests in flight
	Requests     int   // of one repetition, at least; never fewer than are in flight
	Samples      int   // repetitions that count
	PromptTokens int   // of one prompt, of the first turn of a conversation
	OutputTokens int
	Turns        int // of a conversation
	Objective    reports.Objective
	Seed         uint64
	Rerun        string
	// Warm says that somebody else has warmed the server up: no repetition is thrown
	// away, and the first one has this number.
	Warm int

	// OnResult takes each repetition. An error ends the measurement.
	OnResult func(*reports.Result) error
	// Progress is called before each repetition. Number 0 is the one thrown away.
	Progress func(repetition int, w Workload, concurrency int)
}

// Check says what is wrong with the options, if anything.
func (o *Options) Check() error {
	for _, w := range o.Workloads {
		if !slices.Contains(Workloads(), w) {
			return fmt.Errorf("load: workload %q is not one of: %s, %s, %s", w, Independent, SharedPrefix, MultiTurn)
		}
	}
	for _, c := range o.Concurrency {
		if c < 1 || c > MaxConcurrency {
			return fmt.Errorf("load: %d requests in flight, want 1 to %d", c, MaxConcurrency)
		}
	}
	if n := len(o.Workloads) * len(o.Concurrency); n < 1 || n > MaxCells {
		return fmt.Errorf("load: %d workloads at %d concurrencies, want 1 to %d together", len(o.Workloads), len(o.Concurrency), MaxCells)
	}
	for _, v := range []struct {
		what      string
		n, lo, hi int
	}{
		{"requests", o.Requests, 1, MaxRequests},
		{"samples", o.Samples, 1, MaxSamples},
		{"prompt tokens", o.PromptTokens, MinPromptTokens, MaxPromptTokens},
		{"output tokens", o.OutputTokens, 2, MaxOutputTokens}, // one token has no gap
		{"turns", o.Turns, 1, MaxTurns},
	} {
		if v.n < v.lo || v.n > v.hi {
			return fmt.Errorf("load: %d %s, want %d to %d", v.n, v.what, v.lo, v.hi)
		}
	}
	if n := max(o.Requests, slices.Max(o.Concurrency)) * o.OutputTokens; n > reports.MaxSamples {
		return fmt.Errorf("load: requests times output tokens are %d, the limit of one repetition is %d", n, reports.MaxSamples)
	}
	return nil
}

// ContextTokens is the context that the server needs for one request.
func (o *Options) ContextTokens() int {
	// Estimates of text length are off by a few percent, and the text that they are
	// made with must fit whatever the tokenizer.
	const slack = sampleBytes + 512
	turn := o.PromptTokens + o.OutputTokens
	if !slices.Contains(o.Workloads, MultiTurn) {
		return turn + turn/16 + slack
	}
	all := turn + (o.Turns-1)*(o.PromptTokens/turnShare+o.OutputTokens)
	return all + all/16 + slack
}

// Run measures: each repetition walks over all workloads and concurrencies, so
// that a machine that changes with time changes all of them.
func Run(ctx context.Context, opt Options) error {
	if err := opt.Check(); err != nil {
		return err
	}
	c, err := client.New(opt.URL)
	if err != nil {
		return err
	}
	m := &measurement{opt: opt, client: c}
	if err := m.prepare(ctx); err != nil {
		return err
	}
	first := 0
	if opt.Warm > 0 {
		first, opt.Samples = opt.Warm, opt.Warm+opt.Samples-1
	}
	for n := first; n <= opt.Samples; n++ {
		for _, w := range opt.Workloads {
			for _, concurrency := range opt.Concurrency {
				if opt.Progress != nil {
					opt.Progress(n, w, concurrency)
				}
				res, err := m.repetition(ctx, n, w, concurrency)
				if err != nil {
					return fmt.Errorf("load: %s with %d in flight, repetition %d: %w", w, concurrency, n, err)
				}
				if n == 0 {
					continue
				}
				if err := opt.OnResult(res); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// measurement is the state that repetitions share.
type measurement struct {
	opt    Options
	client *client.Client
	text   string // enough for the longest prompt
	bytes  float64
	begun  int // prompts so far: each begins in its own way
}

const corpusName = "go-source"

// sampleBytes of text tell how many of them make a token.
const sampleBytes = 2048

// prepare learns how many bytes of the text make a token of this model, and makes
// the text.
func (m *measurement) prepare(ctx context.Context) error {
	const usual = 4.0
	sample, err := corpus.Text(corpusName, m.opt.Seed, sampleBytes)
	if err != nil {
		return err
	}
	ans, err := m.client.Chat(ctx, client.Request{Messages: []client.Message{{Role: "user", Content: sample}}, MaxTokens: 1})
	if err != nil {
		return fmt.Errorf("load: first request: %w", err)
	}
	m.bytes = usual
	if ans.HasUsage && ans.Usage.PromptTokens > 0 {
		m.bytes = float64(len(sample)) / float64(ans.Usage.PromptTokens)
	}
	m.text, err = corpus.Text(corpusName, m.opt.Seed, m.size(m.opt.PromptTokens)+sampleBytes)
	return err
}

// size is the length of a text of so many tokens.
func (m *measurement) size(tokens int) int { return max(int(float64(tokens)*m.bytes), 1) }

// repetition puts one load on the server.
func (m *measurement) repetition(ctx context.Context, n int, w Workload, concurrency int) (*reports.Result, error) {
	plan := m.plan(w, max(m.opt.Requests, concurrency))
	if plan.prime != "" {
		if _, err := m.client.Chat(ctx, client.Request{Messages: []client.Message{{Role: "user", Content: plan.prime}}, MaxTokens: 1}); err != nil {
			return nil, fmt.Errorf("the request that the server sees before: %w", err)
		}
	}
	evaluated, counted := m.evaluated(ctx)
	watch := machine.Start(m.opt.ServerPID)
	start := time.Now()
	done, err := m.send(ctx, plan, concurrency)
	elapsed := time.Since(start)
	if err != nil {
		return nil, err
	}
	state, warnings := watch.Stop()
	res := &reports.Result{
		Scenario: Scenario, Title: "Latency and goodput through HTTP", Lane: "process",
		Repetition: max(n, 1), Seed: m.opt.Seed, Start: start.UTC(), DurationMS: reports.Milliseconds(elapsed),
		Verdict: reports.Pass, Warnings: warnings, Machine: &state, Rerun: m.opt.Rerun,
		Load: &reports.Load{Workload: string(w), Concurrency: concurrency, Objective: m.opt.Objective, DurationMS: reports.Milliseconds(elapsed)},
	}
	m.fill(res, done, elapsed)
	if after, ok := m.evaluated(ctx); counted && ok {
		m.cached(res, int(after-evaluated))
	} else if res.Load.PromptTokens > 0 {
		res.Warnings = append(res.Warnings, "the server has no counter of evaluated tokens: what was reused is what its answers claim")
		m.cached(res, res.Load.PromptTokens-res.Load.CachedTokens)
	}
	return res, nil
}

// The names of a counter of prompt tokens that the backend evaluated.
var evaluatedCounters = []string{"ds4_prefill_tokens_total", "llamacpp:prompt_tokens_total"}

// evaluated asks the server how many prompt tokens it has evaluated.
func (m *measurement) evaluated(ctx context.Context) (float64, bool) {
	page, err := m.client.Metrics(ctx)
	if err != nil {
		return 0, false
	}
	for _, name := range evaluatedCounters {
		if v, ok := page.Sum(name, nil); ok {
			return v, true
		}
	}
	return 0, false
}
