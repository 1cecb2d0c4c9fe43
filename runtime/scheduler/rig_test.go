package scheduler

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"ds4/metal"
	"ds4/metal/cpu"
	"ds4/metal/fault"
	"ds4/runtime/chat"
	"ds4/runtime/engine"
	"ds4/runtime/gguf"
	"ds4/runtime/kvstore"
	"ds4/runtime/model"
	"ds4/runtime/model/synth"
	"ds4/runtime/model/tiny"
	"ds4/runtime/sample"
	"ds4/runtime/tokenizer"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Sizes of the tests' world: small, so that a prompt of 200 tokens has several
// chunks and segments.
const (
	testContext = 1024
	testChunk   = 64
	testSegment = 128
)

type loaded struct {
	model *model.Model
	tok   *tokenizer.Tokenizer
}

// embedded is the model that the program ships, for tests that want sense.
var embedded = sync.OnceValues(func() (*loaded, error) {
	f, err := tiny.Open()
	if err != nil {
		return nil, err
	}
	m, err := model.Load(f)
	if err != nil {
		return nil, err
	}
	tok, err := tokenizer.FromGGUF(f)
	if err != nil {
		return nil, err
	}
	return &loaded{model: m, tok: tok}, nil
})

// random is a model of the same architecture and vocabulary whose weights are
// noise: some twenty times faster, and what it says exercises everything that
// handles text, bytes that are no UTF-8 included.
var random = sync.OnceValues(func() (*loaded, error) {
	l, err := embedded()
	if err != nil {
		return nil, err
	}
	spec := synth.Small(1)
	spec.Vocab = l.tok.Vocab()
	w, err := synth.Writer(spec)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		return nil, err
	}
	f, err := gguf.Parse(b.Bytes(), "random weights")
	if err != nil {
		return nil, err
	}
	m, err := model.Load(f)
	if err != nil {
		return nil, err
	}
	return &loaded{model: m, tok: l.tok}, nil
})

// rig is a scheduler on a device that can fail.
type rig struct {
	*Scheduler
	t     testing.TB
	log   *logbook
	clock *clock
	plan  *fault.Plan
	eng   *engine.Engine
	store *kvstore.Store
	down  func()
}

type rigOptions struct {
	faults  string // rules of metal/fault
	store   *kvstore.Store
	config  func(*Config)
	context int  // tokens, default testContext
	sense   bool // the embedded model
	pack    bool // weights as the server keeps them
	chunk   int  // tokens of a pass, default testChunk
	device  func(metal.Device) metal.Device
	// byHand starts no worker: the test calls turn.
	byHand bool
}

func newRig(t testing.TB, opt rigOptions) *rig {
	t.Helper()
	load := random
	if opt.sense {
		load = embedded
	}
	l, err := load()
	if err != nil {
		t.Fatal(err)
	}
	opt.context, opt.chunk = cmp.Or(opt.context, testContext), cmp.Or(opt.chunk, testChunk)
	r := &rig{t: t, log: &logbook{t: t}, clock: &clock{at: time.Unix(1_700_000_000, 0)}, store: opt.store}
	rules, err := fault.Parse(opt.faults)
	if err != nil {
		t.Fatal(err)
	}
	if r.plan, err = fault.NewPlan(rules, r.log.printf); err != nil {
		t.Fatal(err)
	}
	inner, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	dev := fault.Wrap(inner, r.plan)
	if opt.device != nil {
		dev = opt.device(dev)
	}
	if r.eng, err = engine.New(l.model, dev, engine.Options{
		ContextTokens: opt.context, ChunkTokens: opt.chunk, Numerics: model.Production, Pack: opt.pack,
	}); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Sessions: 2, MinCacheTokens: 32, SegmentTokens: testSegment, InlineRetry: true,
		Log: r.log.printf, Now: r.clock.now,
	}
	if opt.config != nil {
		opt.config(&cfg)
	}
	make := New
	if opt.byHand {
		make = prepare
	}
	if r.Scheduler, err = make(r.eng, l.tok, opt.store, cfg); err != nil {
		t.Fatal(err)
	}
	r.down = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if opt.byHand {
			go r.Scheduler.run()
		}
		if err := r.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := errors.Join(r.eng.Close(), dev.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.down)
	return r
}

// passes is how often rule i of the plan has matched.
func (r *rig) fired(i int) int { return r.plan.Counts()[i].Fired }

// advance moves the clock and lets the worker look at it.
func (r *rig) advance(d time.Duration) {
	r.clock.advance(d)
	r.signal()
}

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// logbook collects log lines and lets tests wait for one.
type logbook struct {
	t     testing.TB
	mu    sync.Mutex
	lines []string
	more  chan struct{}
	also  *logbook // gets every line too
}

func (l *logbook) printf(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if l.also != nil {
		l.also.printf("%s", line)
		return
	}
	if os.Getenv("DS4_TEST_LOG") != "" {
		fmt.Fprintln(os.Stderr, "  |", line)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
}

// find returns the lines that match.
func (l *logbook) find(pattern string) []string {
	re := regexp.MustCompile(pattern)
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, line := range l.lines {
		if re.MatchString(line) {
			out = append(out, line)
		}
	}
	return out
}

// wait blocks until n lines match.
func (l *logbook) wait(pattern string, n int) {
	l.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		l.mu.Lock()
		if l.more == nil {
			l.more = make(chan struct{})
		}
		more := l.more
		l.mu.Unlock()
		if len(l.find(pattern)) >= n {
			return
		}
		select {
		case <-more:
		case <-deadline:
			l.t.Fatalf("no %d lines match %q; log:\n%s", n, pattern, strings.Join(l.find(""), "\n"))
		}
	}
}

func (l *logbook) want(pattern string, n int) {
	l.t.Helper()
	if got := l.find(pattern); len(got) != n {
		l.t.Errorf("%d lines match %q, want %d; log:\n%s", len(got), pattern, n, strings.Join(l.find(""), "\n"))
	}
}

// reply is a request's stream, read to its end.
type reply struct {
	text, reasoning string
	prefills        []Event
	result          *Result
	err             error
}

// ask renders a conversation of user and assistant turns, in this order.
func ask(mode chat.Mode, turns ...string) *Request {
	var list []chat.Message
	for i, text := range turns {
		role := chat.RoleUser
		if i%2 == 1 {
			role = chat.RoleAssistant
		}
		list = append(list, chat.Message{Role: role, Content: text})
	}
	p, err := chat.Render(list, chat.Options{Thinking: mode, ContextTokens: testContext})
	if err != nil {
		panic(err)
	}
	return &Request{Prompt: p, MaxTokens: 12, Sampling: sample.Params{}, Thinking: mode != chat.None}
}

func (r *rig) start(ctx context.Context, q *Request) <-chan Event {
	r.t.Helper()
	ch, err := r.Submit(ctx, q)
	if err != nil {
		r.t.Fatalf("submit: %v", err)
	}
	return ch
}

func collect(ch <-chan Event) (a reply) {
	for e := range ch {
		switch e.Kind {
		case EventPrefill:
			a.prefills = append(a.prefills, e)
		case EventText:
			a.text += e.Text
		case EventReasoning:
			a.reasoning += e.Text
		case EventDone:
			a.result = e.Result
		case EventError:
			a.err = e.Err
		}
	}
	return a
}

// do runs a request to its end.
func (r *rig) run(q *Request) reply {
	r.t.Helper()
	return collect(r.start(r.t.Context(), q))
}

// good runs a request that must work.
func (r *rig) good(q *Request) reply {
	r.t.Helper()
	a := r.run(q)
	if a.err != nil {
		r.t.Fatalf("request failed: %v\n%s", a.err, strings.Join(r.log.find(""), "\n"))
	}
	if n := a.result.CachedTokens + a.result.EvaluatedTokens; n != a.result.PromptTokens {
		r.t.Errorf("cached %d + evaluated %d is not prompt %d", a.result.CachedTokens, a.result.EvaluatedTokens, a.result.PromptTokens)
	}
	return a
}

// bad runs a request that must fail in the scheduler's way.
func (r *rig) bad(q *Request) *FailureError {
	r.t.Helper()
	var f *FailureError
	if a := r.run(q); !errors.As(a.err, &f) {
		r.t.Fatalf("got %+v, want a FailureError", a)
	}
	return f
}

// cold is the answer of a scheduler that has nothing to reuse. Each is computed
// once.
func cold(t testing.TB, q *Request) reply {
	t.Helper()
	key := fmt.Sprintf("%s %d %v %v", q.Prompt.CacheText(), q.MaxTokens, q.IgnoreEOS, q.Stop)
	if a, ok := controls.Load(key); ok {
		return a.(reply)
	}
	r := newRig(t, rigOptions{})
	defer r.down()
	a := r.good(q)
	controls.Store(key, a)
	return a
}

var controls sync.Map // of reply

// words is a text of n tokens or a little more, different for each seed.
func words(seed, n int) string {
	l, err := embedded()
	if err != nil {
		panic(err)
	}
	var b strings.Builder
	for i := 0; ; i++ {
		if i%8 == 0 && len(l.tok.Encode(b.String())) >= n {
			return b.String()
		}
		fmt.Fprintf(&b, "%s ", []string{"return", "the", "list", "value", "of", "map", "string", "new"}[(seed*7+i*i+i/3)%8])
	}
}

// afterChunks lets the scheduler do something, or wait, when it has evaluated n chunks:
// so what a test does in the middle of a prefill is in the middle, however fast it is.
func afterChunks(n int, do func()) func(*Config) {
	return func(c *Config) {
		log, seen := c.Log, 0
		c.Log = func(format string, args ...any) {
			log(format, args...)
			if strings.Contains(format, "prefill chunk") {
				if seen++; seen == n {
					do()
				}
			}
		}
	}
}
