package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"ds4/reports"
	"ds4/runtime/client"
	"ds4/scenarios/corpus"
)

// turnShare is the part of a prompt's length that a later turn of a conversation
// has: people add little to what was said.
const turnShare = 4

// plan is the work of one repetition: conversations, each a list of what the user
// says. One with one turn is a request of its own.
type plan struct {
	conversations [][]string
	prime         string // sent before, so that the server knows the shared part
}

// plan makes at least so many requests.
func (m *measurement) plan(w Workload, requests int) plan {
	whole := m.text[:min(m.size(m.opt.PromptTokens), len(m.text))]
	fresh := func() string {
		m.begun++
		return corpus.Beginning(m.begun)
	}
	var p plan
	switch w {
	case Independent:
		for range requests {
			p.conversations = append(p.conversations, []string{fresh() + "\n" + whole})
		}
	case SharedPrefix:
		cut := len(whole) / 4 * 3
		prefix := fresh() + "\n" + whole[:cut]
		p.prime = prefix
		for range requests {
			p.conversations = append(p.conversations, []string{prefix + "\n" + fresh() + "\n" + whole[cut:]})
		}
	case MultiTurn:
		more := m.text[:min(m.size(m.opt.PromptTokens/turnShare), len(m.text))]
		for sent := 0; sent < requests; sent += m.opt.Turns {
			turns := []string{fresh() + "\n" + whole}
			for len(turns) < m.opt.Turns {
				turns = append(turns, more)
			}
			p.conversations = append(p.conversations, turns)
		}
	}
	return p
}

// request is what one request came to.
type request struct {
	failed  error
	ttft    time.Duration
	total   time.Duration
	gaps    []float64 // ms between events that carry text
	meanGap float64   // ms for each token after the first
	usage   client.Usage
}

// send works through the plan with so many requests in flight. It ends early only
// when ctx does; requests that fail are results.
func (m *measurement) send(ctx context.Context, p plan, concurrency int) ([]request, error) {
	var (
		mu   sync.Mutex
		next int
		done []request
		all  sync.WaitGroup
	)
	take := func() []string {
		mu.Lock()
		defer mu.Unlock()
		if next == len(p.conversations) || ctx.Err() != nil {
			return nil
		}
		next++
		return p.conversations[next-1]
	}
	for range concurrency {
		all.Go(func() {
			for turns := take(); turns != nil; turns = take() {
				got := m.converse(ctx, turns)
				mu.Lock()
				done = append(done, got...)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return done, nil
}

// converse holds one conversation. It ends with the first turn that fails: what
// the user would say after it has lost its ground.
func (m *measurement) converse(ctx context.Context, turns []string) []request {
	var messages []client.Message
	var done []request
	for _, text := range turns {
		messages = append(messages, client.Message{Role: "user", Content: text})
		r, answer := m.ask(ctx, messages)
		done = append(done, r)
		if r.failed != nil {
			break
		}
		messages = append(messages, client.Message{Role: "assistant", Content: answer})
	}
	return done
}

// ask sends one request and times its stream.
func (m *measurement) ask(ctx context.Context, messages []client.Message) (request, string) {
	var r request
	var first, last time.Duration
	ans, err := m.client.Chat(ctx, client.Request{
		Messages: messages, MaxTokens: m.opt.OutputTokens, Stream: true, IgnoreEOS: true,
		OnEvent: func(ev client.Event) bool {
			if ev.Text == "" && ev.Hidden == "" {
				return true
			}
			if first == 0 {
				first = ev.At
			} else {
				r.gaps = append(r.gaps, reports.Milliseconds(ev.At-last))
			}
			last = ev.At
			return true
		},
	})
	r.ttft, r.total, r.usage = ans.FirstToken, ans.Total, ans.Usage
	switch {
	case err != nil:
		r.failed = err
	case first == 0:
		r.failed = errors.New("an answer without text")
	}
	tokens := ans.Usage.CompletionTokens
	if !ans.HasUsage {
		tokens = len(r.gaps) + 1
	}
	if tokens > 1 {
		r.meanGap = reports.Milliseconds(last-first) / float64(tokens-1)
	}
	return r, ans.Text
}

// good says that a request met the objective.
func (r *request) good(o reports.Objective) bool {
	within := func(ms, bound float64) bool { return bound == 0 || ms <= bound }
	return r.failed == nil && within(reports.Milliseconds(r.ttft), o.TTFTMS) && within(r.meanGap, o.ITLMS) &&
		within(reports.Milliseconds(r.total), o.EndToEndMS)
}

// fill turns requests into metrics.
func (m *measurement) fill(res *reports.Result, done []request, elapsed time.Duration) {
	l := res.Load
	short := 0
	for i := range done {
		r := &done[i]
		l.Requests++
		if r.failed != nil {
			l.Failed++
			if l.Failed == 1 {
				res.Warnings = append(res.Warnings, fmt.Sprintf("a request failed: %v", r.failed))
			}
			continue
		}
		if r.good(m.opt.Objective) {
			l.Good++
		}
		l.PromptTokens += r.usage.PromptTokens
		l.CachedTokens += r.usage.Details.CachedTokens
		l.OutputTokens += r.usage.CompletionTokens
		if r.usage.CompletionTokens < m.opt.OutputTokens {
			short++
		}
		res.AddMetric(reports.MetricTTFT, reports.Milliseconds(r.ttft))
		res.AddMetric(reports.MetricInterToken, r.gaps...)
		res.AddMetric(reports.MetricEndToEnd, reports.Milliseconds(r.total))
	}
	if short > 0 {
		res.Warnings = append(res.Warnings, fmt.Sprintf("%d answers are shorter than %d tokens, or the server does not count them", short, m.opt.OutputTokens))
	}
	if l.Failed > 0 {
		res.AddFailure("%d of %d requests failed", l.Failed, l.Requests)
	}
	seconds := elapsed.Seconds()
	if seconds <= 0 {
		return
	}
	res.AddMetric(reports.MetricRequestRate, float64(l.Requests-l.Failed)/seconds)
	res.AddMetric(reports.MetricGoodput, float64(l.Good)/seconds)
	res.AddMetric(reports.MetricOutputTPS, float64(l.OutputTokens)/seconds)
}

// cached records what was reused, from what was evaluated.
func (m *measurement) cached(res *reports.Result, evaluated int) {
	l := res.Load
	if l.PromptTokens == 0 {
		return
	}
	l.CachedTokens = min(max(l.PromptTokens-evaluated, 0), l.PromptTokens)
	res.AddMetric(reports.MetricCachedPercent, 100*float64(l.CachedTokens)/float64(l.PromptTokens))
}
