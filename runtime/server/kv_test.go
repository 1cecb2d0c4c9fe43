package server

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ds4/runtime/kvstore"
)

// testStore is the inventory of a small cache.
type testStore struct{}

func (testStore) Stats() kvstore.Stats {
	return kvstore.Stats{
		Segments: 2, SegmentBytes: 3000, QuarantineFiles: 1, QuarantineBytes: 100, ForeignBytes: 7,
		UsedBytes: 3200, BudgetBytes: 4096, Healthy: true,
		Recovery: kvstore.Verdicts{Scanned: 4, OK: 2, Stale: 1, Corrupt: 1, FreedBytes: 55, Time: 1500 * time.Microsecond},
		Stored:   3, StoreFailed: 1, RestoreFailed: 5, RestoreAbandoned: 2,
		WriteTime: 250 * time.Millisecond, Evictions: map[string]int{"stale": 1},
	}
}

func (testStore) List() []kvstore.Entry {
	at := time.Unix(1_700_000_000, 0).UTC()
	return []kvstore.Entry{
		{ID: "aa11", To: 2048, Text: 9000, Bytes: 2000, Hits: 1.5, Created: at, LastUsed: at.Add(time.Hour), State: kvstore.StateOK},
		{ID: "bb22", Parent: "aa11", From: 2048, To: 3000, Text: 4000, Bytes: 1000, Created: at, LastUsed: at, Strikes: 1, State: kvstore.StateProbation},
	}
}

func (testStore) Quarantined(context.Context) ([]kvstore.JailInfo, error) {
	return []kvstore.JailInfo{{Name: "cc33.1700000000.corrupt", ID: "cc33", Since: time.Unix(1_700_000_000, 0), Why: "corrupt", Error: "checksum of raw",
		From: 0, To: 512, Strikes: 1, Bytes: 100}}, nil
}

func (testStore) HoldingKey() string { return "the-key" }

func (testStore) Purge(context.Context, kvstore.Selection) (kvstore.PurgeReport, error) {
	return kvstore.PurgeReport{}, kvstore.ErrUnavailable
}

func (testStore) Readmit(string) (kvstore.FileRef, error) {
	return kvstore.FileRef{}, kvstore.ErrUnavailable
}

// TestKVClearErrors: what the cache cannot do is told as it is.
func TestKVClearErrors(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
	}{
		{nil, http.StatusOK},
		{fmt.Errorf("%w: held by pid 7", kvstore.ErrReadOnly), http.StatusConflict},
		{kvstore.ErrBusy, http.StatusServiceUnavailable},
		{kvstore.ErrUnavailable, http.StatusServiceUnavailable},
		{fmt.Errorf("anything else"), http.StatusInternalServerError},
	} {
		sched := &fakeScheduler{clear: func(context.Context) error { return tt.err }}
		s := newTestServer(t, sched, func(c *Config) { c.Store = testStore{} })
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/kv/clear", nil))
		if w.Code != tt.status || tt.err != nil && !strings.Contains(w.Body.String(), strings.TrimPrefix(tt.err.Error(), "kvstore: ")) {
			t.Errorf("%v: %d %s", tt.err, w.Code, w.Body)
		}
	}
}
