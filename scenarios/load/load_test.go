package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// server streams one event for each token, reuses the longest prompt that it saw
// and that the new one begins with, and counts what it evaluated.
type server struct {
	mu        sync.Mutex
	seen      []string
	inFlight  int
	most      int // requests at the same time
	evaluated int
	requests  []string
	counters  bool
	fail      func(n int) bool
	together  int           // wait until so many requests are in flight
	full      chan struct{} // closed when they are
}

func newServer() *server { return &server{counters: true, full: make(chan struct{})} }

type question struct {
	Messages []struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	} `json:"messages"`
	MaxTokens int  `json:"max_tokens"`
	Stream    bool `json:"stream"`
	IgnoreEOS bool `json:"ignore_eos"`
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/metrics" {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.counters {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, "ds4_prefill_tokens_total %d\n", s.evaluated)
		return
	}
	var q question
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	prompt, cached, n, wait := s.begin(q)
	defer s.end()
	if wait {
		<-s.full
	}
	if s.fail != nil && s.fail(n) {
		http.Error(w, `{"error":{"message":"no"}}`, http.StatusServiceUnavailable)
		return
	}
	s.answer(w, q, prompt, cached)
}

// begin books a request and says how much of its prompt is known.
func (s *server) begin(q question) (prompt string, cached, n int, wait bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range q.Messages {
		prompt += m.Role + ":" + m.Content + "\n"
	}
	for _, old := range s.seen {
		if strings.HasPrefix(prompt, old) {
			cached = max(cached, len(old))
		}
	}
	s.requests = append(s.requests, prompt)
	s.seen = append(s.seen, strings.TrimSuffix(prompt, "\n"))
	s.evaluated += tokens(len(prompt)) - tokens(cached)
	s.inFlight++
	s.most = max(s.most, s.inFlight)
	if s.together > 0 && s.inFlight == s.together {
		s.together = 0
		close(s.full)
	}
	return prompt, cached, len(s.requests), q.Stream && s.together > 0
}

func (s *server) end() {
	s.mu.Lock()
	s.inFlight--
	s.mu.Unlock()
}

// tokens of a text: three bytes each.
func tokens(n int) int { return n / 3 }

func (s *server) answer(w http.ResponseWriter, q question, prompt string, cached int) {
	usage := fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d}}`, tokens(len(prompt)), q.MaxTokens, tokens(cached))
	if !q.Stream {
		fmt.Fprintf(w, `{"choices":[{"message":{"content":"x"},"finish_reason":"length"}],"usage":%s}`, usage)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for range q.MaxTokens {
		fmt.Fprint(w, `data: {"choices":[{"delta":{"content":"x"}}]}`+"\n\n")
		w.(http.Flusher).Flush()
	}
	fmt.Fprintf(w, `data: {"choices":[{"delta":{},"finish_reason":"length"}],"usage":%s}`+"\n\ndata: [DONE]\n\n", usage)
}

func options(url string, got *[]reports.Result) Options {
	return Options{
		URL: url, Workloads: Workloads(), Concurrency: []int{1, 4}, Requests: 8, Samples: 2, PromptTokens: 256, OutputTokens: 6, Turns: 4,
		Objective: reports.Objective{TTFTMS: 60_000}, Seed: 3, Rerun: "again",
		OnResult: func(r *reports.Result) error { *got = append(*got, *r); return nil },
	}
}

func TestRun(t *testing.T) {
	s := newServer()
	ts := httptest.NewServer(s)
	defer ts.Close()
	var got []reports.Result
	opt := options(ts.URL, &got)
	var warm int
	opt.Progress = func(n int, _ Workload, _ int) {
		if n == 0 {
			warm++
		}
	}
	if err := Run(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2*3*2 || warm != 6 {
		t.Fatalf("%d repetitions and %d warm-ups, want 12 and 6", len(got), warm)
	}
	cached := make(map[string]float64)
	for _, r := range got {
		l := r.Load
		if r.Verdict != reports.Pass || l.Requests != 8 || l.Failed != 0 || l.Good != 8 || l.OutputTokens != 8*6 || r.Rerun != "again" {
			t.Errorf("%+v, load %+v", r, l)
		}
		for name, n := range map[string]int{
			reports.MetricTTFT: 8, reports.MetricEndToEnd: 8, reports.MetricInterToken: 8 * 5, reports.MetricGoodput: 1, reports.MetricOutputTPS: 1,
		} {
			if m := r.Metrics[name]; len(m.Samples) != n || slices.Min(m.Samples) < 0 {
				t.Errorf("%s x%d: %d samples of %s, want %d", l.Workload, l.Concurrency, len(m.Samples), name, n)
			}
		}
		cached[l.Workload] = r.Metrics[reports.MetricCachedPercent].Samples[0]
	}
	if cached["independent"] > 1 || cached["shared-prefix"] < 60 || cached["shared-prefix"] > 80 || cached["multi-turn"] < 50 {
		t.Errorf("reused %v percent", cached)
	}
	if s.most > 4 {
		t.Errorf("%d requests at a time, 4 were asked for", s.most)
	}
	first := make(map[string]bool) // nothing is reused by chance
	for _, q := range s.requests {
		first[q] = true
	}
	if len(first) != len(s.requests) {
		t.Errorf("%d requests, %d different ones", len(s.requests), len(first))
	}
}

// So many requests really are in flight: the server answers none until all came.
func TestConcurrency(t *testing.T) {
	s := newServer()
	s.together = 5
	ts := httptest.NewServer(s)
	defer ts.Close()
	var got []reports.Result
	opt := options(ts.URL, &got)
	opt.Workloads, opt.Concurrency, opt.Samples = []Workload{Independent}, []int{5}, 1
	if err := Run(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	if s.most != 5 {
		t.Errorf("%d requests at a time, want 5", s.most)
	}
}

// A repetition of its own, of a server that is warm, with its number.
func TestWarm(t *testing.T) {
	s := newServer()
	ts := httptest.NewServer(s)
	defer ts.Close()
	var got []reports.Result
	opt := options(ts.URL, &got)
	opt.Workloads, opt.Concurrency, opt.Samples, opt.Warm = []Workload{Independent}, []int{1}, 1, 7
	if err := Run(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Repetition != 7 || len(s.requests) != 1+8 {
		t.Errorf("%d results, %d requests: %+v", len(got), len(s.requests), got)
	}
}

func TestFailuresCount(t *testing.T) {
	s := newServer()
	s.fail = func(n int) bool { return n%4 == 0 }
	ts := httptest.NewServer(s)
	defer ts.Close()
	var got []reports.Result
	opt := options(ts.URL, &got)
	opt.Workloads, opt.Concurrency = []Workload{Independent}, []int{2}
	if err := Run(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	for _, r := range got {
		if r.Verdict != reports.Fail || r.Load.Failed != 2 || r.Load.Good != 6 || len(r.Metrics[reports.MetricTTFT].Samples) != 6 {
			t.Errorf("%+v, load %+v", r, r.Load)
		}
		if text := strings.Join(r.Warnings, " "); !strings.Contains(text, "a request failed") {
			t.Errorf("warnings %q", text)
		}
	}
}

func TestObjective(t *testing.T) {
	s := newServer()
	ts := httptest.NewServer(s)
	defer ts.Close()
	var got []reports.Result
	opt := options(ts.URL, &got)
	opt.Workloads, opt.Concurrency, opt.Objective = []Workload{Independent}, []int{1}, reports.Objective{EndToEndMS: 1e-9}
	s.counters = false
	if err := Run(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	r := got[0]
	if r.Load.Good != 0 || r.Metrics[reports.MetricGoodput].Samples[0] != 0 || r.Metrics[reports.MetricRequestRate].Samples[0] <= 0 {
		t.Errorf("an objective that nobody meets: %+v", r)
	}
	if !strings.Contains(strings.Join(r.Warnings, " "), "no counter") {
		t.Errorf("a server without counters: warnings %q", r.Warnings)
	}
}

func TestRunStops(t *testing.T) {
	s := newServer()
	ts := httptest.NewServer(s)
	defer ts.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var got []reports.Result
	opt := options(ts.URL, &got)
	opt.OnResult = func(r *reports.Result) error { got = append(got, *r); cancel(); return nil }
	if err := Run(ctx, opt); !errors.Is(err, context.Canceled) || len(got) != 1 {
		t.Errorf("after an interrupt: %v, %d results", err, len(got))
	}
	full := errors.New("disk full")
	opt.OnResult = func(*reports.Result) error { return full }
	if err := Run(t.Context(), opt); !errors.Is(err, full) {
		t.Errorf("a result that cannot be kept: %v", err)
	}
	ts.Close()
	if err := Run(t.Context(), opt); err == nil {
		t.Error("no server, no error")
	}
}

func TestCheck(t *testing.T) {
	good := options("http://x", nil)
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	if n := good.ContextTokens(); n < 256+6+3*(64+6) {
		t.Errorf("a context of %d tokens cannot hold a conversation", n)
	}
	for want, change := range map[string]func(*Options){
		`workload "x"`:               func(o *Options) { o.Workloads = []Workload{"x"} },
		"0 requests in flight":       func(o *Options) { o.Concurrency = []int{0} },
		"0 workloads":                func(o *Options) { o.Workloads = nil },
		"3 workloads at 0":           func(o *Options) { o.Concurrency = nil },
		"0 requests, want":           func(o *Options) { o.Requests = 0 },
		"0 samples":                  func(o *Options) { o.Samples = 0 },
		"8 prompt tokens":            func(o *Options) { o.PromptTokens = 8 },
		"1 output tokens":            func(o *Options) { o.OutputTokens = 1 },
		"0 turns":                    func(o *Options) { o.Turns = 0 },
		"times output tokens are":    func(o *Options) { o.Requests, o.OutputTokens = MaxRequests, MaxOutputTokens },
		"1025 requests in flight":    func(o *Options) { o.Concurrency = []int{MaxConcurrency + 1} },
		"at 65 concurrencies, want ": func(o *Options) { o.Concurrency = slices.Repeat([]int{1}, 65) },
	} {
		o := good
		change(&o)
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
