package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ds4/runtime/scheduler"
)

// TestNamesOfOthers: a page that a browser takes for one of this server, because its
// owner let its name lead here, gets nothing. With a key it would have to know that.
func TestNamesOfOthers(t *testing.T) {
	for name, c := range map[string]struct {
		config func(*Config)
		host   string
		code   int
	}{
		"address":      {nil, "127.0.0.1:8000", 200},
		"address 6":    {nil, "[::1]:8000", 200},
		"localhost":    {nil, "localhost:8000", 200},
		"upper case":   {nil, "LOCALHOST.", 200},
		"container":    {nil, "host.docker.internal:8000", 200},
		"one word":     {nil, "mybox", 200},
		"other":        {nil, "evil.example:8000", 403},
		"like one":     {nil, "localhost.evil.example", 403},
		"like another": {nil, "127.0.0.1.evil.example:80", 403},
		"with a key":   {func(c *Config) { c.Keys = []string{"some-key-of-ours"} }, "evil.example", 200},
		"allowed":      {func(c *Config) { c.CORS = true }, "evil.example", 200},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, &fakeScheduler{}, c.config)
			r, err := http.NewRequest(http.MethodGet, listen(t, s)+"/v1/models", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = c.host
			r.Header.Set("X-Api-Key", "some-key-of-ours")
			r.Close = true
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != c.code || c.code == 403 && !strings.Contains(string(body), "localhost or an address") {
				t.Errorf("%d %s, want %d", resp.StatusCode, body, c.code)
			}
		})
	}
}

// TestEncodedBody: a compressed body is refused as that, not as bad JSON.
func TestEncodedBody(t *testing.T) {
	s := newTestServer(t, &fakeScheduler{submit: play(text("hi"), done(scheduler.FinishStop))}, nil)
	for encoding, code := range map[string]int{"gzip": 415, "zstd": 415, "identity": 200, "": 200} {
		r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(`{"messages":[{"role":"user","content":"hi"}]}`))
		r.Header.Set("Content-Encoding", encoding)
		w := httptest.NewRecorder()
		if s.Handler().ServeHTTP(w, r); w.Code != code || code != 200 && !strings.Contains(w.Body.String(), encoding) {
			t.Errorf("%q: %d %s", encoding, w.Code, w.Body)
		}
	}
}
