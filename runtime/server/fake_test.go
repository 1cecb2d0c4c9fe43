package server

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"ds4/runtime/chat"
	"ds4/runtime/scheduler"
)

// fakeScheduler answers requests as a test wants. It keeps the promises of the real
// one: the channel is closed after the last event, and nobody waits for a reader whose
// context has ended.
type fakeScheduler struct {
	submit func(ctx context.Context, r *scheduler.Request) (<-chan scheduler.Event, error)
	stats  scheduler.Stats
	clear  func(context.Context) error
	down   func(context.Context) error
	health scheduler.Health // zero: ok

	mu       sync.Mutex
	requests []*scheduler.Request
}

func (f *fakeScheduler) Submit(ctx context.Context, r *scheduler.Request) (<-chan scheduler.Event, error) {
	f.mu.Lock()
	f.requests = append(f.requests, r)
	f.mu.Unlock()
	return f.submit(ctx, r)
}

func (f *fakeScheduler) Health() scheduler.Health {
	if f.health.State == "" {
		return scheduler.Health{State: scheduler.HealthOK}
	}
	return f.health
}

// CountTokens counts what stands between control tokens.
func (f *fakeScheduler) CountTokens(_ context.Context, p chat.Prompt) (int, error) {
	return len(p.Pieces), nil
}

func (f *fakeScheduler) Stats() scheduler.Stats { return f.stats }

func (f *fakeScheduler) ClearKV(ctx context.Context) error {
	if f.clear == nil {
		return nil
	}
	return f.clear(ctx)
}

func (f *fakeScheduler) Shutdown(ctx context.Context) error {
	if f.down == nil {
		return nil
	}
	return f.down(ctx)
}

// last returns the newest request, nil without one.
func (f *fakeScheduler) last() *scheduler.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.requests) == 0 {
		return nil
	}
	return f.requests[len(f.requests)-1]
}

// play submits by sending events, then the end that stands last among them.
func play(events ...scheduler.Event) func(context.Context, *scheduler.Request) (<-chan scheduler.Event, error) {
	return func(context.Context, *scheduler.Request) (<-chan scheduler.Event, error) {
		ch := make(chan scheduler.Event, len(events))
		for _, e := range events {
			ch <- e
		}
		close(ch)
		return ch, nil
	}
}

// refuse submits by failing.
func refuse(err error) func(context.Context, *scheduler.Request) (<-chan scheduler.Event, error) {
	return func(context.Context, *scheduler.Request) (<-chan scheduler.Event, error) { return nil, err }
}

func text(s string) scheduler.Event {
	return scheduler.Event{Kind: scheduler.EventText, Text: s}
}

func reasoning(s string) scheduler.Event {
	return scheduler.Event{Kind: scheduler.EventReasoning, Text: s}
}

func progress(done, total int) scheduler.Event {
	return scheduler.Event{Kind: scheduler.EventPrefill, Done: done, Total: total}
}

func failed(err error) scheduler.Event {
	return scheduler.Event{Kind: scheduler.EventError, Err: err}
}

func done(finish string) scheduler.Event {
	return scheduler.Event{Kind: scheduler.EventDone, Result: &scheduler.Result{
		Finish: finish, Short: finish == scheduler.FinishLength, PromptTokens: 12, CachedTokens: 8, EvaluatedTokens: 4, CompletionTokens: 3,
		Source: scheduler.SourceDisk, RestoredTokens: 8, Attempts: 1,
		Queue: time.Millisecond, RestoreTime: 2 * time.Millisecond,
		Prefill: 3500 * time.Microsecond, Decode: 4 * time.Millisecond,
	}}
}

var testModel = ModelInfo{ID: "ds4-tiny", Name: "ds4 tiny", ContextTokens: 32768, DefaultTokens: 393216}

// newTestServer returns a server with a fixed clock and fixed ids; change adapts its
// configuration.
func newTestServer(t testing.TB, sched Scheduler, change func(*Config)) *Server {
	t.Helper()
	cfg := Config{
		Scheduler: sched, Model: testModel, Version: "test",
		Log: func(format string, args ...any) { t.Logf(format, args...) },
		Now: func() time.Time { return time.Unix(1_800_000_000, 0) },
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.startID = "test"
	return s
}

// listen serves s on a loopback port until the test ends and returns its URL.
func listen(t testing.TB, s *Server) string {
	t.Helper()
	l := newLoopback(t)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

func newLoopback(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
