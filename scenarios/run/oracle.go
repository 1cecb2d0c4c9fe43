package run

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"ds4/faults/proc"
	"ds4/runtime/client"
)

const (
	controlTimeout = 5 * time.Minute // for one answer
	defaultContext = 32768
)

// oracle knows the right answers: those of a server that has no cache, has read
// nothing before, and is never hurt. One answer per model and question is asked
// for, and remembered (Controls).
type oracle struct {
	r  *runner
	mu sync.Mutex

	server  *proc.Process
	model   string
	context int
	numbers string
	exact   bool // it honours temperature 0 while it thinks
	known   *Controls
}

// Controls remembers right answers, for several calls of Run with the same
// server. It is safe for concurrent use.
type Controls struct {
	mu      sync.Mutex
	answers map[string]string
}

// NewControls returns an empty memory.
func NewControls() *Controls { return &Controls{answers: map[string]string{}} }

func (c *Controls) get(key string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.answers[key]
	return a, ok
}

func (c *Controls) put(key, answer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[key] = answer
}

// question is what decides an answer.
type question struct {
	Model    string
	Numerics string
	Messages []client.Message
	Max      int
	Thinking bool
	Tools    string `json:",omitempty"`
}

// answer returns the right answer.
func (o *oracle) answer(ctx context.Context, q question, contextTokens int) (string, error) {
	b, err := json.Marshal(q)
	if err != nil {
		return "", err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if a, ok := o.known.get(string(b)); ok {
		return a, nil
	}
	const tries = 2
	for range tries {
		if err := o.ensure(ctx, q, contextTokens); err != nil {
			return "", err
		}
		cctx, cancel := context.WithTimeout(ctx, controlTimeout)
		c, err := client.New(o.server.URL())
		if err != nil {
			cancel()
			return "", err
		}
		a, err := c.Chat(cctx, client.Request{Messages: q.Messages, MaxTokens: q.Max, Thinking: q.Thinking, Tools: json.RawMessage(q.Tools)})
		cancel()
		if err != nil {
			return "", fmt.Errorf("control server: %w", err)
		}
		if a.HasUsage && a.Usage.Details.CachedTokens > 0 {
			// A live session would have been reused: ask a server that has none.
			o.server.Close()
			o.server = nil
			continue
		}
		right := said(a)
		o.known.put(string(b), right)
		return right, nil
	}
	return "", fmt.Errorf("control server: reuses tokens although it has just started")
}

// ensure starts a control server for a model unless a fitting one runs.
func (o *oracle) ensure(ctx context.Context, q question, contextTokens int) error {
	if o.server != nil {
		if _, ended := o.server.Exited(); !ended && o.model == q.Model && o.exact == q.Thinking && o.numbers == q.Numerics && o.context >= contextTokens {
			return nil
		}
		o.server.Close()
		o.server = nil
	}
	dir := filepath.Join(o.r.tmp, "control")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	o.model, o.numbers, o.context = q.Model, q.Numerics, max(contextTokens, o.context, defaultContext)
	args := []string{"serve", "--host", "127.0.0.1", "--port", "0", "--sessions", "1", "--ctx", fmt.Sprint(o.context)}
	if q.Numerics != "" {
		args = append(args, "--numerics", q.Numerics)
	}
	if o.exact = q.Thinking; q.Thinking {
		args = append(args, "--thinking-sampling")
	}
	if q.Model != "" {
		args = append(args, "--model", q.Model)
	}
	p, err := proc.Start(proc.Config{Path: o.r.opt.Server, Args: args, Env: []string{"DS4_LOCK_FILE=" + filepath.Join(dir, "lock")}, Log: proc.NewLog(nil)})
	if err != nil {
		return err
	}
	rctx, cancel := context.WithTimeout(ctx, defaultStartTimeout)
	defer cancel()
	if _, err := p.WaitReady(rctx); err != nil {
		p.Close()
		return fmt.Errorf("control server: %w", err)
	}
	o.server = p
	return nil
}

func (o *oracle) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.server != nil {
		o.server.Close()
		o.server = nil
	}
}
