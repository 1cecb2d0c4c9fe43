package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := New(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ask(c *Client, stream bool) (Answer, error) {
	return c.Chat(context.Background(), Request{
		Messages: []Message{{Role: "user", Content: "hi"}}, MaxTokens: 5, Stream: stream,
	})
}

func TestChat(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var got map[string]any
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		// Greedy decoding has to be said: servers default to something else.
		if got["temperature"] != 0.0 || got["think"] != false || got["max_tokens"] != 5.0 || got["stream"] != nil {
			t.Errorf("request %v", got)
		}
		fmt.Fprint(w, `{"choices":[{"message":{"content":"hello","reasoning_content":"hm"},"finish_reason":"stop"}],
			"usage":{"prompt_tokens":7,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":3,"cache_write_tokens":4}}}`)
	})
	a, err := ask(c, false)
	if err != nil {
		t.Fatal(err)
	}
	if a.Text != "hello" || a.Reasoning != "hm" || a.Finish != "stop" || a.Usage.PromptTokens != 7 || a.Usage.Details.CachedTokens != 3 || !a.HasUsage {
		t.Errorf("answer %+v", a)
	}
	if a.FirstToken == 0 || a.FirstToken != a.Total {
		t.Errorf("times %v %v", a.FirstToken, a.Total)
	}
}

const helloStream = ": prefill\n\n" +
	`data: {"choices":[{"delta":{"role":"assistant"}}]}` + "\n\n" +
	`data: {"choices":[{"delta":{"content":"hel"}}]}` + "\r\n\r\n" +
	": prefill\n\n" +
	`data: {"choices":[{"delta":{"content":"lo"}}]}` + "\n\n" +
	`data: {"choices":[{"delta":{},"finish_reason":"length"}]}` + "\n\n" +
	`data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}` + "\n\n" +
	"data: [DONE]\n\n"

func stream(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, text)
	}
}

func TestStream(t *testing.T) {
	c := serve(t, stream(helloStream))
	var texts []string
	a, err := c.Chat(context.Background(), Request{Stream: true, OnEvent: func(e Event) bool {
		if !e.Comment {
			texts = append(texts, e.Text)
		}
		return true
	}})
	if err != nil {
		t.Fatal(err)
	}
	if a.Text != "hello" || a.Finish != "length" || a.Events != 5 || a.Keepalives != 2 || a.Usage.PromptTokens != 9 {
		t.Errorf("answer %+v", a)
	}
	if strings.Join(texts, "|") != "|hel|lo||" {
		t.Errorf("events %q", texts)
	}
	if a.FirstToken <= 0 || a.Headers <= 0 || a.FirstToken > a.Total {
		t.Errorf("times: headers %v first token %v total %v", a.Headers, a.FirstToken, a.Total)
	}
}

// A stream that just ends is not an answer: the server died.
func TestStreamCutAnywhere(t *testing.T) {
	for n := 0; n < len(helloStream); n += 5 {
		c := serve(t, stream(helloStream[:n]))
		a, err := ask(c, true)
		if !errors.Is(err, ErrIncomplete) {
			t.Fatalf("cut at %d: answer %q, error %v", n, a.Text, err)
		}
		if !strings.HasPrefix("hello", a.Text) {
			t.Fatalf("cut at %d: %q", n, a.Text)
		}
	}
}

func TestErrors(t *testing.T) {
	body := `{"error":{"message":"Metal graph failed","type":"server_error","code":"prefill_failed","retryable":true,"attempt":2,"limit":3,"range":"0123456789ab"}}`
	for _, h := range []http.HandlerFunc{
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "4")
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, body)
		},
		stream("event: error\ndata: " + body + "\n\n"),
	} {
		_, err := ask(serve(t, h), true)
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("error %v", err)
		}
		if !e.Known || e.Code != "prefill_failed" || !e.Retryable || e.Attempt != 2 || e.Limit != 3 || e.Range != "0123456789ab" || e.Message != "Metal graph failed" {
			t.Errorf("%+v", e)
		}
		if e.Status == http.StatusInternalServerError && e.RetryAfter != 4*time.Second {
			t.Errorf("retry after %v", e.RetryAfter)
		}
	}
	_, err := ask(serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "gone fishing", http.StatusBadGateway) }), false)
	var e *Error
	if !errors.As(err, &e) || e.Known || e.Message != "gone fishing" {
		t.Errorf("%v", err)
	}
	for _, text := range []string{"", "{", `{"choices":[]}`} {
		_, err := ask(serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }), false)
		if !errors.Is(err, ErrIncomplete) {
			t.Errorf("answer %q: %v", text, err)
		}
	}
}

func TestAbandonClosesTheConnection(t *testing.T) {
	gone := make(chan struct{})
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := 0; ; i++ {
			fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":\"%d \"}}]}\n\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				close(gone)
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	n := 0
	a, err := c.Chat(context.Background(), Request{Stream: true, OnEvent: func(Event) bool { n++; return n < 3 }})
	if !errors.Is(err, ErrAbandoned) || a.Text != "0 1 2 " {
		t.Errorf("%q %v", a.Text, err)
	}
	select {
	case <-gone:
	case <-time.After(30 * time.Second):
		t.Fatal("the server was not told")
	}
}

func TestDeadline(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if _, err := c.Chat(ctx, Request{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestEndlessEventIsRefused(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		block := []byte("data: " + strings.Repeat("x", 1<<20))
		for range 20 {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	if _, err := ask(c, true); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
}

func TestAdmin(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz":
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"status":"degraded-device","reasons":["breaker open"]}`)
		case "/v1/models":
			fmt.Fprint(w, `{"data":[{"id":"a"},{"id":"b"}]}`)
		case "/v1/kv/clear":
			w.WriteHeader(http.StatusNoContent)
		case "/metrics":
			fmt.Fprint(w, "# HELP x y\nx{a=\"1\",b=\"q\\\"\\\\\\n\"} 2\nx{a=\"2\"} 3.5 1700000000\ny +Inf\n")
		}
	})
	ctx := context.Background()
	if h, err := c.Health(ctx); err != nil || h.Status != "degraded-device" || h.HTTPStatus != 503 || len(h.Reasons) != 1 {
		t.Errorf("health %+v %v", h, err)
	}
	if m, err := c.Models(ctx); err != nil || len(m) != 2 {
		t.Errorf("models %v %v", m, err)
	}
	if err := c.ClearKV(ctx); err != nil {
		t.Error(err)
	}
	m, err := c.Metrics(ctx)
	if err != nil || len(m) != 3 || m[0].Labels["b"] != "q\"\\\n" {
		t.Fatalf("metrics %+v %v", m, err)
	}
	if v, ok := m.Sum("x", nil); !ok || v != 5.5 {
		t.Errorf("sum %v", v)
	}
	if v, ok := m.Sum("x", map[string]string{"a": "2"}); !ok || v != 3.5 {
		t.Errorf("sum of a label %v", v)
	}
	if _, ok := m.Sum("z", nil); ok {
		t.Error("a missing sample was found")
	}
}

func TestNewRefuses(t *testing.T) {
	for _, u := range []string{"", "localhost:8000", "ftp://x", "http://", "http://a b"} {
		if _, err := New(u); err == nil {
			t.Errorf("%q is accepted", u)
		}
	}
}

// Whatever the line ends and however the bytes arrive, the events are the same.
func TestSSELineEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		var want []string
		for range rapid.IntRange(1, 6).Draw(t, "events") {
			end := rapid.SampledFrom([]string{"\n", "\r\n", "\r"}).Draw(t, "end")
			lines := rapid.SliceOfN(rapid.StringMatching(`[a-z: ]{0,8}`), 1, 3).Draw(t, "lines")
			for _, l := range lines {
				b.WriteString("data: " + l + end)
			}
			b.WriteString(end)
			want = append(want, strings.Join(lines, "\n"))
		}
		size := rapid.IntRange(1, 5).Draw(t, "read size")
		r := newSSEReader(&smallReader{s: b.String(), n: size})
		for i, w := range want {
			ev, err := r.next()
			if err != nil || ev.data != w {
				t.Fatalf("event %d: %q %v, want %q", i, ev.data, err, w)
			}
		}
		if ev, err := r.next(); !errors.Is(err, io.EOF) {
			t.Fatalf("more than was sent: %+v %v", ev, err)
		}
	})
}

type smallReader struct {
	s string
	n int
}

func (r *smallReader) Read(p []byte) (int, error) {
	if r.s == "" {
		return 0, io.EOF
	}
	n := copy(p[:min(r.n, len(p))], r.s)
	r.s = r.s[n:]
	return n, nil
}

func FuzzSSE(f *testing.F) {
	f.Add([]byte(helloStream))
	f.Add([]byte("event: error\ndata: {\n\n:\n\n\r\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newSSEReader(strings.NewReader(string(b)))
		for n := 0; ; n++ {
			ev, err := r.next()
			if err != nil {
				return
			}
			if n > len(b) || len(ev.data) > len(b) {
				t.Fatalf("event %d of %d bytes from %d bytes", n, len(ev.data), len(b))
			}
		}
	})
}

func FuzzStreamAnswer(f *testing.F) {
	f.Add(helloStream)
	f.Fuzz(func(t *testing.T, s string) {
		c := &Client{now: time.Now}
		var a Answer
		_ = c.readStream(strings.NewReader(s), time.Now(), nil, &a)
		if len(a.Text) > len(s) {
			t.Fatal("more text than bytes")
		}
	})
}

func FuzzMetrics(f *testing.F) {
	f.Add([]byte("a{b=\"c\\\\\"} 1\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = ParseMetrics(b) })
}
