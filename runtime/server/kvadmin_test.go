package server

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ds4/runtime/kvstore"
)

// askedStore notes what it is asked and answers as a test wants.
type askedStore struct {
	testStore
	sel  kvstore.Selection
	name string
	err  error
}

func (s *askedStore) Purge(_ context.Context, sel kvstore.Selection) (kvstore.PurgeReport, error) {
	s.sel = sel
	return kvstore.PurgeReport{Freed: kvstore.Freed{Segments: 2, Bytes: 30}, Kept: 1, Files: []kvstore.FileRef{{Name: "aa", To: 9, Bytes: 30}}}, s.err
}

func (s *askedStore) Readmit(name string) (kvstore.FileRef, error) {
	s.name = name
	return kvstore.FileRef{Name: "aa", From: 1, To: 2, Bytes: 3}, s.err
}

func postKV(t *testing.T, store Store, path, body string) (int, string) {
	t.Helper()
	s := newTestServer(t, &fakeScheduler{}, func(c *Config) { c.Store = store })
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	if used := s.bodies.used.Load(); used != 0 {
		t.Errorf("%s %s: %d bytes of bodies are still counted", path, body, used)
	}
	return w.Code, w.Body.String()
}

// TestKVPurgeRequest: a body becomes a selection, and one with a typing error or
// without a filter becomes an error.
func TestKVPurgeRequest(t *testing.T) {
	keep := int64(0)
	id := [32]byte{0xab}
	for body, want := range map[string]kvstore.Selection{
		`{"all":true}`: {All: true},
		`{"holder":"the-key","older_than_seconds":1.5,"identity":"abcdef0123","keep_bytes":0,"dry_run":true}`: {
			OlderThan: 1500 * time.Millisecond, Identity: "abcdef0123", KeepBytes: &keep, DryRun: true},
		`{"quarantine":true,"older_than_seconds":60}`:          {Quarantine: true, OlderThan: time.Minute},
		`{"not_identity":"ab` + strings.Repeat("0", 62) + `"}`: {NotOf: &id},
	} {
		store := &askedStore{}
		code, answer := postKV(t, store, "/v1/kv/purge", body)
		if d := cmp.Diff(want, store.sel); code != http.StatusOK || d != "" {
			t.Errorf("%s: %d %s\n%s", body, code, answer, d)
		}
		if want := `{"segments":2,"quarantined":0,"others":0,"bytes":30,"kept":1,"failed":0,"files":[{"name":"aa","from":0,"to":9,"bytes":30}]}` + "\n"; answer != want {
			t.Errorf("answer %s", answer)
		}
	}
	for body, want := range map[string]int{
		`{}`: 400, `{"older_then_seconds":9}`: 400, `{"older_than_seconds":-1}`: 400, `{"older_than_seconds":1e300}`: 400,
		`{"all":true} {}`: 400, `[]`: 400, ``: 400, `{"all":true,"quarantine":true}`: 400, `{"identity":"x"}`: 400, `{"not_identity":"00"}`: 400,
		`{"all":true,"holder":"another"}`: 409, strings.Repeat(" ", maxAdminBytes+1): 413,
	} {
		store := &askedStore{}
		if code, answer := postKV(t, store, "/v1/kv/purge", body); code != want || !cmp.Equal(store.sel, kvstore.Selection{}) {
			t.Errorf("%.40s: %d %s, want %d", body, code, answer, want)
		}
	}
}

// TestKVRestoreRequest: errors of the store have their status.
func TestKVRestoreRequest(t *testing.T) {
	store := &askedStore{}
	code, answer := postKV(t, store, "/v1/kv/restore", `{"name":"aa.17.corrupt"}`)
	if code != http.StatusOK || store.name != "aa.17.corrupt" || answer != `{"name":"aa","from":1,"to":2,"bytes":3}`+"\n" {
		t.Errorf("%d %s %q", code, answer, store.name)
	}
	for _, c := range []struct {
		err  error
		want int
	}{
		{kvstore.ErrNotFound, 404}, {kvstore.ErrNotReadmitted, 409}, {kvstore.ErrReadOnly, 409}, {kvstore.ErrBusy, 503},
		{kvstore.ErrUnavailable, 503}, {fmt.Errorf("anything else"), 500},
	} {
		if code, answer := postKV(t, &askedStore{err: c.err}, "/v1/kv/restore", `{"name":"x"}`); code != c.want || !strings.Contains(answer, strings.TrimPrefix(c.err.Error(), "kvstore: ")) {
			t.Errorf("%v: %d %s, want %d", c.err, code, answer, c.want)
		}
	}
	for _, body := range []string{`{}`, `{"name":"x","why":"y"}`, `nonsense`} {
		if code, answer := postKV(t, &askedStore{}, "/v1/kv/restore", body); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", body, code, answer)
		}
	}
	s := newTestServer(t, &fakeScheduler{}, nil)
	for _, path := range []string{"/v1/kv/purge", "/v1/kv/restore"} {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(`{"all":true,"name":"x"}`)))
		if w.Code != http.StatusConflict {
			t.Errorf("%s without a cache: %d %s", path, w.Code, w.Body)
		}
	}
}

// TestKVRefusals: what is refused is told in the words of the request.
func TestKVRefusals(t *testing.T) {
	for body, want := range map[string]string{
		`{"all":1}`:                      "all: want true or false, got number",
		`{"older_than_seconds":"x"}`:     "older_than_seconds: want a number, got string",
		`{"older_than_seconds":-1}`:      "older_than_seconds: -1 is no age in seconds",
		`{"identity":7}`:                 "identity: want a string, got number",
		`{"keep_bytes":1.5,"all":true}`:  "keep_bytes: want a whole number, got number 1.5",
		`[]`:                             "invalid JSON request: want an object, got array",
		`{"ids":[]}`:                     `invalid JSON request: unknown field \"ids\"`,
		`{"all":tru`:                     "invalid JSON request: the document ends too early",
		`{}`:                             `"message":"nothing is selected"`,
		`{"all":true,"quarantine":true}`: `"message":"all cannot be narrowed"`,
	} {
		if code, answer := postKV(t, &askedStore{}, "/v1/kv/purge", body); code != http.StatusBadRequest || !strings.Contains(answer, want) ||
			strings.Contains(answer, "kvstore") || strings.Contains(answer, "json:") {
			t.Errorf("%s: %d %s, want %s", body, code, answer, want)
		}
	}
}

// FuzzKVPurge: whatever the body is, what reaches the store is a selection that
// selects something.
func FuzzKVPurge(f *testing.F) {
	for _, seed := range []string{`{"all":true}`, `{"older_than_seconds":1e9,"keep_bytes":-1}`, `{"not_identity":"00"}`, `{"identity":"abcdef01","identity":""}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		store := &askedStore{}
		code, _ := postKV(t, store, "/v1/kv/purge", body)
		if err := store.sel.Check(); (code == http.StatusOK) != (err == nil) {
			t.Fatalf("%d for %q: %+v, %v", code, body, store.sel, err)
		}
	})
}
