package speed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"ds4/reports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counter is a server that counts instead of thinking: three bytes make a token,
// a prompt that continues the last conversation is reused, prefill costs 2 ms per
// token and 0.1 ms more per 1000 tokens before it, decoding 5 ms.
type counter struct {
	mu       sync.Mutex
	last     string // the last conversation with its answer
	requests []request
	mangle   func(n int, t *timings) // changes the figures of the n-th answer
	llama    bool                    // gives its figures llama.cpp's names
	decoded  int                     // tokens, each of which reads a thousand bytes
}

type request struct {
	Messages    []message `json:"messages"`
	MaxTokens   int       `json:"max_tokens"`
	Temperature *float64  `json:"temperature"`
	IgnoreEOS   bool      `json:"ignore_eos"`
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.URL.Path == "/metrics" {
		fmt.Fprintf(w, "ds4_decode_read_bytes_total %d\nds4_decode_tokens_total %d\n", 1000*c.decoded, c.decoded)
		return
	}
	var q request
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.URL.Path != "/v1/chat/completions" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	var b strings.Builder
	for _, m := range q.Messages {
		fmt.Fprintf(&b, "<%s>%s", m.Role, m.Content)
	}
	prompt, reply := b.String(), strings.Repeat("abc", q.MaxTokens)
	t := timings{PromptTokens: len(prompt) / 3, CompletionTokens: q.MaxTokens, DecodeMS: 5 * float64(q.MaxTokens), Attempts: 1}
	if c.last != "" && strings.HasPrefix(prompt, c.last) {
		t.CachedTokens = len(c.last) / 3
	}
	t.EvaluatedTokens = t.PromptTokens - t.CachedTokens
	middle := float64(t.PromptTokens+t.CachedTokens) / 2000
	t.PrefillMS = (2 + 0.1*middle) * float64(t.EvaluatedTokens)
	if c.mangle != nil {
		c.mangle(len(c.requests), &t)
	}
	c.decoded += q.MaxTokens
	if c.llama {
		t = timings{PromptN: t.EvaluatedTokens, CacheN: t.CachedTokens, PromptMS: t.PrefillMS, PredictedN: t.CompletionTokens, PredictedMS: t.DecodeMS}
	}
	c.last = prompt + "<assistant>" + reply
	c.requests = append(c.requests, q)
	json.NewEncoder(w).Encode(map[string]any{
		"choices": []any{map[string]any{"message": message{"assistant", reply}}}, "timings": t,
	})
}

func options(url string, got *[]reports.Result) Options {
	return Options{
		URL: url, Frontiers: []int{512, 2048, 4096}, Samples: 3, DecodeTokens: 16, Seed: 5, Rerun: "again",
		OnRound: func(r *reports.Result) error { *got = append(*got, *r); return nil },
	}
}

func TestRunMeasuresEachIntervalOnce(t *testing.T) {
	c := &counter{}
	srv := httptest.NewServer(c)
	defer srv.Close()
	var got []reports.Result
	opt := options(srv.URL+"/", &got)
	var asked []string
	opt.Progress = func(round, frontier int) { asked = append(asked, fmt.Sprintf("%d@%d", round, frontier)) }
	if err := Run(context.Background(), opt); err != nil {
		t.Fatal(err)
	}
	if want := "0@512 0@2048 0@4096 1@512 1@2048 1@4096 2@512"; !strings.HasPrefix(strings.Join(asked, " "), want) {
		t.Errorf("asked %v", asked)
	}
	if len(got) != opt.Samples {
		t.Fatalf("%d rounds, want %d", len(got), opt.Samples)
	}
	for i, r := range got {
		if r.Scenario != Scenario || r.Repetition != i+1 || r.Verdict != reports.Pass || r.Rerun != "again" || len(r.Warnings) != 0 {
			t.Errorf("round %d: %+v", i, r)
		}
		before := 0
		for j, f := range r.Frontiers {
			if off := math.Abs(float64(f.ContextTokens-opt.Frontiers[j])) / float64(opt.Frontiers[j]); off > 0.03 {
				t.Errorf("frontier %d was measured at %d tokens", opt.Frontiers[j], f.ContextTokens)
			}
			if f.EvaluatedTokens > f.ContextTokens-before {
				t.Errorf("frontier %d evaluated %d tokens, only %d are new", opt.Frontiers[j], f.EvaluatedTokens, f.ContextTokens-before)
			}
			middle := float64(2*f.ContextTokens-f.EvaluatedTokens) / 2000
			if want := 1000 / (2 + 0.1*middle); math.Abs(f.PrefillTPS-want) > want/1000 {
				t.Errorf("frontier %d: %v t/s, the server worked at %v", opt.Frontiers[j], f.PrefillTPS, want)
			}
			if f.DecodeReadBytes != 1000 {
				t.Errorf("a token reads %v bytes, want 1000", f.DecodeReadBytes)
			}
			if f.DecodeTokens != 16 || f.DecodeTPS != 200 {
				t.Errorf("decode probe %d tokens at %v t/s", f.DecodeTokens, f.DecodeTPS)
			}
			before = f.ContextTokens
		}
	}
	sameWork(t, c.requests[1:])
}

// sameWork wants every round to send the same text after a beginning of its own,
// greedily and without an end of turn.
func sameWork(t *testing.T, requests []request) {
	t.Helper()
	starts := make(map[string]bool)
	for i, q := range requests {
		if q.MaxTokens != 16 || !q.IgnoreEOS || q.Temperature == nil || *q.Temperature != 0 {
			t.Errorf("request %d: %d tokens, temperature %v, ignore_eos %v", i, q.MaxTokens, q.Temperature, q.IgnoreEOS)
		}
		first := requests[i%3]
		for j := 1; j < len(q.Messages); j++ {
			if q.Messages[j] != first.Messages[j] {
				t.Errorf("request %d differs from the first round in message %d", i, j)
			}
		}
		starts[q.Messages[0].Content] = true
	}
	if len(starts) != len(requests)/3 {
		t.Errorf("%d different beginnings in %d rounds", len(starts), len(requests)/3)
	}
}

func TestRunWarns(t *testing.T) {
	tests := []struct {
		name   string
		mangle func(n int, t *timings)
		want   string
	}{
		{"nothing reused", func(_ int, t *timings) { t.EvaluatedTokens, t.CachedTokens = t.PromptTokens, 0 }, "covers the whole context"},
		{"probe ends early", func(_ int, t *timings) { t.CompletionTokens = 7 }, "ended after 7 of 16 tokens"},
		{"retried", func(_ int, t *timings) { t.Attempts = 2 }, "needed 2 attempts"},
		{"other work", func(n int, t *timings) { t.EvaluatedTokens -= n }, "not the same work"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(&counter{mangle: tt.mangle})
			defer srv.Close()
			var got []reports.Result
			if err := Run(context.Background(), options(srv.URL, &got)); err != nil {
				t.Fatal(err)
			}
			if text := strings.Join(got[len(got)-1].Warnings, "\n"); !strings.Contains(text, tt.want) {
				t.Errorf("warnings %q, want %q", text, tt.want)
			}
		})
	}
}

// A server that gives its figures other names is measured like ours.
func TestRunReadsOtherNames(t *testing.T) {
	rows := make(map[bool][]reports.Frontier)
	for _, llama := range []bool{false, true} {
		srv := httptest.NewServer(&counter{llama: llama})
		var got []reports.Result
		if err := Run(context.Background(), options(srv.URL, &got)); err != nil {
			t.Fatal(err)
		}
		srv.Close()
		rows[llama] = got[0].Frontiers
	}
	if !slices.Equal(rows[false], rows[true]) || len(rows[true]) != 3 {
		t.Errorf("measured %+v, under other names %+v", rows[false], rows[true])
	}
}

// One meter for two servers: the text that the first one's tokenizer fixed.
func TestMeterSendsBothTheSame(t *testing.T) {
	a, b := &counter{}, &counter{}
	srvA, srvB := httptest.NewServer(a), httptest.NewServer(b)
	defer srvA.Close()
	defer srvB.Close()
	m, err := NewMeter(options("", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, url := range []string{srvA.URL, srvB.URL} {
		if err := m.WarmUp(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		r, err := m.Measure(t.Context(), url, 0, 1)
		if err != nil || len(r.Warnings) > 0 || r.Repetition != 1 || r.Machine == nil {
			t.Errorf("%+v, %v", r, err)
		}
	}
	text := func(q request) string { return fmt.Sprint(q.Messages[1:]) }
	for i := range b.requests {
		if text(a.requests[i+1]) != text(b.requests[i]) { // the first request calibrates
			t.Errorf("request %d differs", i)
		}
	}
	if _, err := m.Measure(t.Context(), "not a url", 0, 1); err == nil {
		t.Error("a server without a URL was measured")
	}
}

func TestRunRefusesServersThatProveNothing(t *testing.T) {
	answers := func(status int, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		})
	}
	const choice = `"choices":[{"message":{"content":"x"}}]`
	tests := []struct {
		name string
		h    http.Handler
		want string
	}{
		{"no timings", answers(200, `{`+choice+`}`), ErrNoTimings.Error()},
		{"error", answers(503, `{"error":{"message":"device gone"}}`), "503: {\"error\":{\"message\":\"device gone\"}}"},
		{"not JSON", answers(200, `<html>`), "invalid character"},
		{"no choice", answers(200, `{"timings":{"prompt_tokens":3}}`), "without a choice"},
		{"more evaluated than asked", answers(200, `{`+choice+`,"timings":{"prompt_tokens":3,"evaluated_tokens":4}}`), "cannot be"},
		{"negative time", answers(200, `{`+choice+`,"timings":{"prompt_tokens":3,"prefill_ms":-4}}`), "cannot be"},
		{"endless", answers(200, strings.Repeat(" ", maxAnswerBytes+1)), "longer than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(tt.h)
			defer srv.Close()
			var got []reports.Result
			if err := Run(context.Background(), options(srv.URL, &got)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestRunStops(t *testing.T) {
	srv := httptest.NewServer(&counter{})
	defer srv.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var got []reports.Result
	opt := options(srv.URL, &got)
	opt.OnRound = func(r *reports.Result) error { got = append(got, *r); cancel(); return nil }
	if err := Run(ctx, opt); !errors.Is(err, context.Canceled) || len(got) != 1 {
		t.Errorf("after an interrupt in round 1: %v, %d rounds", err, len(got))
	}
	full := errors.New("disk full")
	opt.OnRound = func(*reports.Result) error { return full }
	if err := Run(context.Background(), opt); !errors.Is(err, full) {
		t.Errorf("a round that cannot be kept: %v", err)
	}
}

func TestCheck(t *testing.T) {
	good := Options{Frontiers: []int{512, 1024}, Samples: 6, DecodeTokens: 32}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	if n := good.ContextTokens(); n < 1024+32 {
		t.Errorf("a context of %d tokens cannot hold the last frontier and its probe", n)
	}
	bad := map[string]func(*Options){
		"0 frontiers":             func(o *Options) { o.Frontiers = nil },
		"257 frontiers":           func(o *Options) { o.Frontiers = make([]int, MaxFrontiers+1) },
		"0 samples":               func(o *Options) { o.Samples = 0 },
		"1001 samples":            func(o *Options) { o.Samples = MaxSamples + 1 },
		"probe of 0":              func(o *Options) { o.DecodeTokens = 0 },
		"frontier 8 is not":       func(o *Options) { o.Frontiers = []int{8} },
		"frontier 600 is less":    func(o *Options) { o.Frontiers = []int{512, 600} },
		"frontier 512 is less":    func(o *Options) { o.Frontiers = []int{512, 512} },
		"frontier 16777217 is no": func(o *Options) { o.Frontiers = []int{MaxFrontier + 1} },
	}
	for want, change := range bad {
		o := good
		change(&o)
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
