package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ds4/runtime/scheduler"
)

// TestKeys: without one of the keys nobody gets further than the health page,
// whatever the method, the path, and the way to send it.
func TestKeys(t *testing.T) {
	sched := &fakeScheduler{submit: play(text("hi"), done(scheduler.FinishStop))}
	s := newTestServer(t, sched, func(c *Config) { c.Keys = []string{"first-key", "second-key"} })
	ask := func(method, path, header, value string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(`{"messages":[{"role":"user","content":"hi"}]}`))
		if header != "" {
			r.Header.Set(header, value)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w
	}
	for _, c := range []struct{ header, value string }{
		{"Authorization", "Bearer first-key"}, {"Authorization", "bearer  second-key "}, {"X-Api-Key", "second-key"},
	} {
		if w := ask("POST", "/v1/chat/completions", c.header, c.value); w.Code != http.StatusOK {
			t.Errorf("%s %q: %d %s", c.header, c.value, w.Code, w.Body)
		}
	}
	for _, c := range []struct{ header, value, says string }{
		{"", "", "wants an API key"}, {"Authorization", "Bearer", "wants an API key"}, {"X-Api-Key", "", "wants an API key"},
		{"Authorization", "Bearer wrong", "incorrect"}, {"Authorization", "Basic first-key", "wants an API key"},
		{"Authorization", "first-key", "wants an API key"}, {"X-Api-Key", "first-ke", "incorrect"},
		{"X-Api-Key", "first-key2", "incorrect"}, {"Authorization", "Bearer first-key second-key", "incorrect"},
	} {
		for path := range s.routes {
			for _, method := range []string{"GET", "POST", "HEAD", "PUT"} {
				w := ask(method, path, c.header, c.value)
				if openPaths[path] {
					if w.Code == http.StatusUnauthorized {
						t.Errorf("%s %s is not open", method, path)
					}
					continue
				}
				var e errorBody
				if err := json.Unmarshal(w.Body.Bytes(), &e); w.Code != http.StatusUnauthorized || err != nil && method != "HEAD" ||
					w.Header().Get("WWW-Authenticate") == "" || err == nil && !strings.Contains(w.Body.String(), c.says) {
					t.Fatalf("%s %s with %s %q: %d %s %v", method, path, c.header, c.value, w.Code, w.Body, err)
				}
			}
		}
		if w := ask("GET", "/no/such/path", c.header, c.value); w.Code != http.StatusUnauthorized {
			t.Errorf("an unknown path: %d", w.Code)
		}
	}
	for _, keys := range [][2]string{{"first-key", "wrong"}, {"wrong", "first-key"}} {
		r := httptest.NewRequest("GET", "/v1/models", nil)
		r.Header.Set("X-Api-Key", keys[0])
		r.Header.Set("Authorization", "Bearer "+keys[1])
		w := httptest.NewRecorder()
		if s.Handler().ServeHTTP(w, r); w.Code != http.StatusOK {
			t.Errorf("both headers, with %q: %d", keys, w.Code)
		}
	}
	if n := len(sched.requests); n != 3 {
		t.Errorf("%d requests were submitted", n)
	}
	if w := ask("OPTIONS", "/v1/chat/completions", "", ""); w.Code != http.StatusNoContent {
		t.Errorf("a preflight: %d", w.Code)
	}
}

func TestNoKeysLetEverybodyIn(t *testing.T) {
	s := newTestServer(t, &fakeScheduler{}, nil)
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/v1/models", nil))
	if w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
