package server

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"ds4/runtime/kvstore"
)

// Store is what the server needs of *kvstore.Store.
type Store interface {
	Stats() kvstore.Stats
	List() []kvstore.Entry
	Quarantined(ctx context.Context) ([]kvstore.JailInfo, error)
	HoldingKey() string // of the folder's lock file; "" if this process may not write
	Purge(ctx context.Context, sel kvstore.Selection) (kvstore.PurgeReport, error)
	Readmit(name string) (kvstore.FileRef, error)
}

// kvBody is the inventory of the disk cache. It never holds text of prompts.
type kvBody struct {
	Enabled         bool        `json:"enabled"`
	Healthy         bool        `json:"healthy"`
	ReadOnly        bool        `json:"read_only"`
	Reason          string      `json:"reason,omitempty"` // why it is off, not healthy or read-only
	Bytes           int64       `json:"bytes"`            // everything under the folder, as it counts for the budget
	BudgetBytes     int64       `json:"budget_bytes"`
	SegmentBytes    int64       `json:"segment_bytes"`
	QuarantineBytes int64       `json:"quarantine_bytes"`
	QuarantineFiles int         `json:"quarantine_files"`
	ForeignBytes    int64       `json:"foreign_bytes"`
	CallBytes       int64       `json:"tool_call_bytes"`
	Recovery        *kvRecovery `json:"recovery,omitempty"` // of this process's start
	Quarantine      []kvJailed  `json:"quarantine"`         // the latest first
	Segments        int         `json:"segments"`           // all of them, whatever limit says of entries
	Entries         []kvEntry   `json:"entries"`
}

// kvJailed is a segment that is not trusted any more, and why.
type kvJailed struct {
	Name    string    `json:"name"` // for POST /v1/kv/restore
	Since   time.Time `json:"since"`
	Why     string    `json:"why"`
	Error   string    `json:"error,omitempty"`
	From    int       `json:"from"`
	To      int       `json:"to"`
	Bytes   int64     `json:"bytes"`
	Strikes int       `json:"strikes"`
}

type kvRecovery struct {
	Scanned    int     `json:"scanned"`
	OK         int     `json:"ok"`
	Stale      int     `json:"stale"`
	Corrupt    int     `json:"corrupt"`
	Unreadable int     `json:"unreadable"`
	Orphan     int     `json:"orphan"`
	Poisoned   int     `json:"poisoned"`
	FreedBytes int64   `json:"freed_bytes"`
	Seconds    float64 `json:"seconds"`
}

// kvEntry is one segment.
type kvEntry struct {
	ID       string    `json:"id"`
	Parent   string    `json:"parent,omitempty"`
	From     int       `json:"from"` // first position
	To       int       `json:"to"`   // position after the last
	Tokens   int       `json:"tokens"`
	Bytes    int64     `json:"bytes"`
	Verdict  string    `json:"verdict"` // ok, probation, orphan, leaving
	Strikes  int       `json:"strikes"`
	Hits     float64   `json:"hits"` // decayed
	Created  time.Time `json:"created"`
	LastUsed time.Time `json:"last_used"`
}

// jail remembers the quarantine as it was read last: whoever watches asks every
// few seconds, and it is read from files.
type jail struct {
	mu    sync.Mutex
	files int
	bytes int64
	list  []kvJailed
}

// read returns the quarantine, from its files only if it has changed.
func (j *jail) read(ctx context.Context, store Store, st kvstore.Stats) ([]kvJailed, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.list != nil && j.files == st.QuarantineFiles && j.bytes == st.QuarantineBytes {
		return j.list, nil
	}
	infos, err := store.Quarantined(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]kvJailed, 0, len(infos))
	for _, q := range infos {
		list = append(list, kvJailed{q.Name, q.Since.UTC(), q.Why, q.Error, q.From, q.To, q.Bytes, q.Strikes})
	}
	j.files, j.bytes, j.list = st.QuarantineFiles, st.QuarantineBytes, list
	return list, nil
}

// entryLimit reads ?limit=N of a listing; without one there is none.
func entryLimit(r *http.Request) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return math.MaxInt, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, badField("limit", "%.20q is no number of entries", text)
	}
	return n, nil
}

// latest returns the n entries that were used last, in the order of the list.
func latest(list []kvstore.Entry, n int) []kvstore.Entry {
	if len(list) <= n {
		return list
	}
	byUse := slices.Clone(list)
	slices.SortStableFunc(byUse, func(a, b kvstore.Entry) int { return b.LastUsed.Compare(a.LastUsed) })
	keep := make(map[string]bool, n)
	for _, e := range byUse[:n] {
		keep[e.ID] = true
	}
	return slices.DeleteFunc(list, func(e kvstore.Entry) bool { return !keep[e.ID] })
}

// handleKV serves GET /v1/kv; with ?limit=N the entries are those used last.
func (s *Server) handleKV(w http.ResponseWriter, r *http.Request) error {
	limit, err := entryLimit(r)
	if err != nil {
		return err
	}
	body := kvBody{Reason: s.cfg.CacheProblem, Entries: []kvEntry{}, Quarantine: []kvJailed{}}
	if s.cfg.Store == nil {
		if body.Reason == "" {
			body.Reason = "the server was started without a disk cache"
		}
		return s.writeJSON(w, http.StatusOK, body)
	}
	st := s.cfg.Store.Stats()
	v := st.Recovery
	body = kvBody{
		Enabled: true, Healthy: st.Healthy, ReadOnly: st.ReadOnly, Reason: st.HealthReason,
		Bytes: st.UsedBytes, BudgetBytes: st.BudgetBytes, SegmentBytes: st.SegmentBytes,
		QuarantineBytes: st.QuarantineBytes, QuarantineFiles: st.QuarantineFiles, ForeignBytes: st.ForeignBytes, CallBytes: st.CallBytes,
		Recovery: &kvRecovery{
			Scanned: v.Scanned, OK: v.OK, Stale: v.Stale, Corrupt: v.Corrupt, Unreadable: v.Unreadable,
			Orphan: v.Orphan, Poisoned: v.Poisoned, FreedBytes: v.FreedBytes, Seconds: v.Time.Seconds(),
		},
		Entries: []kvEntry{},
	}
	if body.Quarantine, err = s.jail.read(r.Context(), s.cfg.Store, st); err != nil {
		return fromStore(err)
	}
	list := s.cfg.Store.List()
	body.Segments = len(list)
	for _, e := range latest(list, limit) {
		body.Entries = append(body.Entries, kvEntry{
			ID: e.ID, Parent: e.Parent, From: e.From, To: e.To, Tokens: e.To - e.From, Bytes: e.Bytes,
			Verdict: e.State, Strikes: e.Strikes, Hits: e.Hits, Created: e.Created, LastUsed: e.LastUsed,
		})
	}
	return s.writeJSON(w, http.StatusOK, body)
}

// kvCleared is the answer of POST /v1/kv/clear.
type kvCleared struct {
	Cleared bool  `json:"cleared"`
	Bytes   int64 `json:"bytes"` // still under the folder: what is in use or not ours
}

// handleKVClear serves POST /v1/kv/clear: it empties the disk cache, the idle live
// sessions, the tool calls that are remembered and the memory of failures. Without a disk
// cache it does the rest.
func (s *Server) handleKVClear(w http.ResponseWriter, r *http.Request) error {
	// Nothing is asked of the body, but it ends before the work begins, which can take
	// longer than a body that nobody reads may.
	_, release, err := s.readBody(w, r, maxAdminBytes)
	if err != nil {
		return err
	}
	release()
	if err := s.cfg.Scheduler.ClearKV(r.Context()); err != nil {
		return fromStore(err)
	}
	s.forgetCalls()
	body := kvCleared{Cleared: true}
	if s.cfg.Store != nil {
		body.Bytes = s.cfg.Store.Stats().UsedBytes
	}
	return s.writeJSON(w, http.StatusOK, body)
}

// forgetCalls is for when everything that is known of prompts should go.
func (s *Server) forgetCalls() {
	if s.cfg.Calls != nil {
		s.cfg.Calls.Clear()
	}
}
