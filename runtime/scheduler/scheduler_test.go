package scheduler

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"ds4/runtime/chat"
)

func TestAnswerAndRepeat(t *testing.T) {
	r := newRig(t, rigOptions{sense: true})
	q := ask(chat.None, "Who are you?")
	q.MaxTokens = 40
	first := r.good(q)
	if first.text == "" || first.result.Source != SourceCold || first.result.CachedTokens != 0 || first.result.Attempts != 1 {
		t.Fatalf("got %+v %+v", first, first.result)
	}
	if last := first.prefills[len(first.prefills)-1]; last.Done != last.Total || last.Total != first.result.PromptTokens {
		t.Errorf("progress ends with %+v", last)
	}
	again := r.good(q)
	if again.text != first.text {
		t.Errorf("answer %q, then %q", first.text, again.text)
	}
	if res := again.result; res.Source != SourceMemoryToken || res.EvaluatedTokens != 1 {
		t.Errorf("the repeat was not served from memory: %+v", res)
	}
	r.log.want(`^chat ctx=0\.\.\d+:\d+ src=none prompt start$`, 1)
	r.log.want(`^chat ctx=0\.\.\d+:\d+ prefill chunk \d+/\d+ \(\d+\.\d%\) chunk=\d+\.\d+ t/s avg=\d+\.\d+ t/s \d+\.\d+ s$`, len(first.prefills))
	r.log.want(`^chat ctx=0\.\.\d+:\d+ prompt done \d+\.\d+ s$`, 1)
	r.log.want(`^chat ctx=0\.\.\d+:\d+ gen=\d+ finish=stop \d+\.\d+ s$`, 1)
	r.log.want(`^live kv cache miss live=0 prompt=\d+ common=0 reason=no-live-checkpoint$`, 1)
}

// TestReuseEqualsCold: every turn of a conversation, continued in memory, has the
// answer that a scheduler with nothing to reuse gives. Where the model's own
// tokens are continued, which need not be those of their text, that cannot be
// compared.
func TestReuseEqualsCold(t *testing.T) {
	for _, mode := range []chat.Mode{chat.None, chat.High} {
		t.Run(mode.String(), func(t *testing.T) {
			r := newRig(t, rigOptions{})
			turns := []string{"What does strings.Cut do? " + words(1, 40)}
			for range 3 {
				q := ask(mode, turns...)
				got, want := r.good(q), cold(t, q)
				if res := got.result; res.Source == SourceMemoryText {
					t.Logf("turn %d continues sampled tokens: %d of %d", len(turns), res.CachedTokens, res.PromptTokens)
				} else if got.text != want.text || got.reasoning != want.reasoning {
					t.Fatalf("turn %d: %q %q, cold %q %q", len(turns), got.reasoning, got.text, want.reasoning, want.text)
				}
				if res := got.result; len(turns) > 1 && res.CachedTokens < 40 {
					t.Errorf("turn %d reused %d of %d tokens (%s)", len(turns), res.CachedTokens, res.PromptTokens, res.Source)
				}
				turns = append(turns, got.text, "And what else?")
			}
		})
	}
}

func TestConcurrentRequestsDoNotMix(t *testing.T) {
	r := newRig(t, rigOptions{config: func(c *Config) { c.Sessions = 4 }})
	var requests []*Request
	var want []reply
	for i := range 4 {
		q := ask(chat.None, words(i, 20+25*i))
		q.MaxTokens = 20
		requests, want = append(requests, q), append(want, cold(t, q))
	}
	got := make([]reply, len(requests))
	var wg sync.WaitGroup
	for i, q := range requests {
		wg.Add(1)
		go func() {
			defer wg.Done()
			got[i] = collect(r.start(t.Context(), q))
		}()
	}
	wg.Wait()
	for i := range got {
		if got[i].err != nil || got[i].text != want[i].text {
			t.Errorf("request %d: %q %v, alone %q", i, got[i].text, got[i].err, want[i].text)
		}
	}
	if st := r.Stats(); st.Requests[FinishLength]+st.Requests[FinishStop] != 4 || st.QueueDepth != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestSessionsAreEvictedByAge(t *testing.T) {
	r := newRig(t, rigOptions{}) // two sessions
	a, b, c := ask(chat.None, words(1, 40)), ask(chat.None, words(2, 40)), ask(chat.None, words(3, 40))
	source := func(q *Request) string { return r.good(q).result.Source }
	for _, step := range []struct {
		q    *Request
		want string
	}{{a, SourceCold}, {b, SourceCold}, {a, SourceMemoryToken}, {c, SourceCold}, {a, SourceMemoryToken}, {b, SourceCold}} {
		if got := source(step.q); got != step.want {
			t.Fatalf("got %s, want %s", got, step.want)
		}
	}
}

// TestSharedPrefixKeepsBoth: a second conversation that shares a beginning with a
// live one must not overwrite it while a slot is free.
func TestSharedPrefixKeepsBoth(t *testing.T) {
	r := newRig(t, rigOptions{})
	shared := words(1, 100)
	a, b := ask(chat.None, shared+"one"), ask(chat.None, shared+"two")
	r.good(a)
	r.good(b)
	for _, q := range []*Request{a, b} {
		if res := r.good(q).result; res.Source != SourceMemoryToken {
			t.Errorf("%+v", res)
		}
	}
}

// TestLogFlags: log lines say how a request was asked.
func TestLogFlags(t *testing.T) {
	r := newRig(t, rigOptions{})
	q := ask(chat.High, "hello")
	q.MaxTokens, q.Responses, q.Tools = 1, true, true
	r.good(q)
	r.log.want(`^chat ctx=0\.\.\d+:\d+ RESPPROTO TOOLS THINKING src=none prompt start$`, 1)
	r.log.want(`^chat ctx=0\.\.\d+:\d+ gen=1 RESPPROTO TOOLS THINKING finish=length \d+\.\d+ s$`, 1)
}

// TestPromptOnly: nothing is sampled, and the next request finds the prompt evaluated.
func TestPromptOnly(t *testing.T) {
	r := newRig(t, rigOptions{})
	q := ask(chat.None, words(1, 100))
	q.PromptOnly = true
	a := r.good(q)
	if a.text != "" || a.result.CompletionTokens != 0 || a.result.Finish != FinishLength || !a.result.Short {
		t.Errorf("got %q %+v", a.text, a.result)
	}
	full := ask(chat.None, words(1, 100))
	again := r.good(full)
	if again.result.EvaluatedTokens > 2 || again.result.CompletionTokens == 0 {
		t.Errorf("after the prompt: %+v", again.result)
	}
	if want := cold(t, full); again.text != want.text {
		t.Errorf("got %q, cold %q", again.text, want.text)
	}
}

func TestCancelIsNoFailure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := newRig(t, rigOptions{config: afterChunks(2, cancel)})
	q := ask(chat.None, words(1, 250))
	if a := collect(r.start(ctx, q)); !errors.Is(a.err, context.Canceled) {
		t.Fatalf("got %+v", a)
	}
	r.log.wait(`gen=0 finish=cancelled \d+\.\d+ s$`, 1)
	again := r.good(q)
	if again.result.CachedTokens < 2*testChunk || again.result.Source != SourceMemoryToken {
		t.Errorf("the chunks of the cancelled prefill are lost: %+v", again.result)
	}
	if want := cold(t, q); again.text != want.text {
		t.Errorf("got %q, cold %q", again.text, want.text)
	}
	if st := r.Stats(); len(st.Failures) != 0 || st.Cancelled != 1 || st.MaxStreak != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestCancelWhileQueued(t *testing.T) {
	release := make(chan struct{})
	r := newRig(t, rigOptions{config: func(c *Config) {
		c.Sessions = 1
		afterChunks(1, func() { <-release })(c)
	}})
	busy := r.start(t.Context(), ask(chat.None, words(1, 300)))
	r.log.wait("prefill chunk", 1)
	ctx, cancel := context.WithCancel(t.Context())
	waiting := r.start(ctx, ask(chat.None, words(2, 50)))
	cancel()
	if a := collect(waiting); !errors.Is(a.err, context.Canceled) {
		t.Errorf("got %+v", a)
	}
	if n := r.queue.len(); n != 0 {
		t.Errorf("%d requests wait", n)
	}
	close(release)
	if a := collect(busy); a.err != nil {
		t.Error(a.err)
	}
}

func TestSubmitRefuses(t *testing.T) {
	release := make(chan struct{})
	r := newRig(t, rigOptions{config: func(c *Config) {
		c.Sessions, c.QueueLimit = 1, 1
		afterChunks(1, func() { <-release })(c)
	}})
	var tooLong *ContextLengthError
	if _, err := r.Submit(t.Context(), ask(chat.None, words(1, 3*testContext))); !errors.As(err, &tooLong) || tooLong.ContextTokens != testContext {
		t.Errorf("too long: %v", err)
	}
	for name, q := range map[string]*Request{
		"empty prompt": {},
		"stop strings": func() *Request { q := ask(chat.None, "x"); q.Stop = make([]string, maxStops+1); return q }(),
		"long stop": func() *Request {
			q := ask(chat.None, "x")
			q.Stop = []string{strings.Repeat("x", maxStopBytes+1)}
			return q
		}(),
		"temperature": func() *Request { q := ask(chat.None, "x"); q.Sampling.Temperature = -1; return q }(),
	} {
		if _, err := r.Submit(t.Context(), q); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	first := r.start(t.Context(), ask(chat.None, words(1, 300)))
	r.log.wait("prefill chunk", 1)
	second := r.start(t.Context(), ask(chat.None, "hi"))
	if _, err := r.Submit(t.Context(), ask(chat.None, "ho")); !errors.Is(err, ErrQueueFull) {
		t.Errorf("queue full: %v", err)
	}
	close(release)
	for _, ch := range []<-chan Event{first, second} {
		if a := collect(ch); a.err != nil {
			t.Error(a.err)
		}
	}
}

func TestLengthAndStop(t *testing.T) {
	r := newRig(t, rigOptions{context: 128})
	q := ask(chat.None, "What does strings.Cut do?")
	q.MaxTokens, q.IgnoreEOS = 40, true
	full := r.good(q)
	q.MaxTokens = 5
	a := r.good(q)
	if a.result.Finish != FinishLength || a.result.CompletionTokens != 5 || !strings.HasPrefix(full.text, strings.TrimRight(a.text, "\uFFFD")) {
		t.Errorf("length: %+v %+v, full %q", a, a.result, full.text)
	}
	runes := []rune(full.text)
	stop := string(runes[len(runes)/2:][:4])
	q.MaxTokens, q.Stop = 40, []string{"never in there", stop}
	if a, want := r.good(q), full.text[:strings.Index(full.text, stop)]; a.text != want || a.result.Finish != FinishStop {
		t.Errorf("stop %q: %q (%s), want %q", stop, a.text, a.result.Finish, want)
	}
	// Generation ends where the context ends.
	q = ask(chat.None, words(1, 60))
	q.IgnoreEOS, q.MaxTokens = true, 1000
	if res := r.good(q).result; res.Finish != FinishLength || res.PromptTokens+res.CompletionTokens != 128+1 {
		t.Errorf("context: %+v", res)
	}
	r.log.want(`^chat ctx=\d+\.\.\d+:49 gen=50 decoding chunk=\d+\.\d+ t/s avg=\d+\.\d+ t/s \d+\.\d+ s$`, 1)
}

func TestShutdown(t *testing.T) {
	var r *rig
	r = newRig(t, rigOptions{config: func(c *Config) {
		c.Sessions = 1
		afterChunks(1, func() { <-r.stop })(c)
	}})
	running := r.start(t.Context(), ask(chat.None, words(1, 400)))
	r.log.wait("prefill chunk", 1)
	var waiting []<-chan Event
	for range 4 {
		waiting = append(waiting, r.start(t.Context(), ask(chat.None, "hi")))
	}
	start := time.Now()
	r.down()
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("shutdown took %s", d)
	}
	for i, ch := range append(waiting, running) {
		if a := collect(ch); !errors.Is(a.err, ErrShuttingDown) {
			t.Errorf("request %d: %v", i, a.err)
		}
	}
	if _, err := r.Submit(t.Context(), ask(chat.None, "hi")); !errors.Is(err, ErrShuttingDown) {
		t.Errorf("submit after shutdown: %v", err)
	}
	if h := r.Health(); h.State != HealthStopping {
		t.Errorf("health %+v", h)
	}
	r.log.want("prompt start", 1)
}

func TestSlowReaderLosesNothing(t *testing.T) {
	r := newRig(t, rigOptions{})
	q := ask(chat.None, "What does strings.Cut do?")
	q.MaxTokens = 40
	want := r.good(q)
	ch := r.start(t.Context(), q)
	r.log.wait("finish=", 2) // the request has ended before anyone reads
	if a := collect(ch); a.text != want.text || a.result == nil {
		t.Errorf("got %+v, want %q", a, want.text)
	}
}
