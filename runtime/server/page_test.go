package server

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ds4/runtime/kvstore"
	"ds4/runtime/scheduler"
)

func ask(s *Server, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

// The page is there unless it is turned off; then / is as unknown as any other path.
func TestPage(t *testing.T) {
	s := newTestServer(t, &fakeScheduler{}, nil)
	if w := ask(s, http.MethodGet, "/"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "<!doctype html>") ||
		!strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("GET /: %d %v", w.Code, w.Header())
	}
	if w := ask(s, http.MethodPost, "/"); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST /: %d", w.Code)
	}
	if w := ask(s, http.MethodGet, "/index.html"); w.Code != http.StatusNotFound {
		t.Errorf("GET /index.html: %d", w.Code)
	}
	s = newTestServer(t, &fakeScheduler{}, func(c *Config) { c.NoUI = true })
	if w := ask(s, http.MethodGet, "/"); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "unknown endpoint") {
		t.Errorf("GET / with NoUI: %d %s", w.Code, w.Body)
	}
}

func TestSessions(t *testing.T) {
	st := scheduler.Stats{
		QueueDepth: 3, PrefillTokens: 1000, PrefillTime: 2 * time.Second, DecodeTokens: 50, DecodeTime: time.Second, CachedTokens: 7, RestoredTokens: 5,
		Sessions: []scheduler.Session{
			{State: scheduler.SessionDecode, Tokens: 40, SavedTokens: 30, PromptTokens: 35, CachedTokens: 10, CompletionTokens: 5}, {State: scheduler.SessionEmpty}},
	}
	s := newTestServer(t, &fakeScheduler{stats: st}, nil)
	w := ask(s, http.MethodGet, "/v1/sessions")
	var got sessionsBody
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %v: %s", w.Code, err, w.Body)
	}
	want := sessionsBody{
		Model: got.Model, Version: got.Version, ContextTokens: got.ContextTokens, Waiting: 3,
		Sessions: []liveSession{{"decode", 40, 30, 35, 10, 5}, {State: "empty"}},
		Totals:   sessionTotals{1000, 2, 50, 1, 7, 5},
	}
	if d := cmp.Diff(want, got); d != "" || got.Model == "" || got.ContextTokens == 0 {
		t.Errorf("(-want +got):\n%s", d)
	}
	s = newTestServer(t, &fakeScheduler{}, nil) // before the worker's first turn
	if w := ask(s, http.MethodGet, "/v1/sessions"); !strings.Contains(w.Body.String(), `"sessions":[]`) {
		t.Errorf("without a session: %s", w.Body)
	}
}

// A listing can be limited to what was used last; the order and the counts stay.
func TestKVLimit(t *testing.T) {
	s := newTestServer(t, &fakeScheduler{}, func(c *Config) { c.Store = testStore{} })
	for query, want := range map[string][]string{"": {"aa11", "bb22"}, "?limit=2": {"aa11", "bb22"}, "?limit=1": {"aa11"}, "?limit=0": nil} {
		var got kvBody
		w := ask(s, http.MethodGet, "/v1/kv"+query)
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, e := range got.Entries {
			ids = append(ids, e.ID)
		}
		if d := cmp.Diff(want, ids); d != "" || got.Segments != 2 || len(got.Quarantine) != 1 || got.Quarantine[0].Why != "corrupt" {
			t.Errorf("%s: %s %s", query, d, w.Body)
		}
	}
	for _, bad := range []string{"x", "-1", "1.5", "99999999999999999999"} {
		if w := ask(s, http.MethodGet, "/v1/kv?limit="+bad); w.Code != http.StatusBadRequest {
			t.Errorf("limit=%s: %d %s", bad, w.Code, w.Body)
		}
	}
}

// The quarantine is read from its files only when it has changed.
func TestQuarantineIsRemembered(t *testing.T) {
	var j jail
	store := &countingStore{}
	read := func(files int) {
		t.Helper()
		list, err := j.read(t.Context(), store, kvstore.Stats{QuarantineFiles: files})
		if err != nil || len(list) != 1 {
			t.Fatalf("%v %v", list, err)
		}
	}
	read(1)
	read(1)
	if store.reads != 1 {
		t.Errorf("read %d times without a change", store.reads)
	}
	read(2)
	if store.reads != 2 {
		t.Errorf("read %d times after a change", store.reads)
	}
}

type countingStore struct {
	testStore
	reads int
}

func (c *countingStore) Quarantined(ctx context.Context) ([]kvstore.JailInfo, error) {
	c.reads++
	return c.testStore.Quarantined(ctx)
}
