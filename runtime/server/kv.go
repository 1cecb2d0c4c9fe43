package server

import (
	"context"
	"net/http"
	"time"

	"ds4/runtime/kvstore"
)

// Store is what the server needs of *kvstore.Store.
type Store interface {
	Stats() kvstore.Stats
	List() []kvstore.Entry
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
	Recovery        *kvRecovery `json:"recovery,omitempty"` // of this process's start
	Entries         []kvEntry   `json:"entries"`
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

// handleKV serves GET /v1/kv.
func (s *Server) handleKV(w http.ResponseWriter, _ *http.Request) error {
	body := kvBody{Reason: s.cfg.CacheProblem, Entries: []kvEntry{}}
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
		QuarantineBytes: st.QuarantineBytes, QuarantineFiles: st.QuarantineFiles, ForeignBytes: st.ForeignBytes,
		Recovery: &kvRecovery{
			Scanned: v.Scanned, OK: v.OK, Stale: v.Stale, Corrupt: v.Corrupt, Unreadable: v.Unreadable,
			Orphan: v.Orphan, Poisoned: v.Poisoned, FreedBytes: v.FreedBytes, Seconds: v.Time.Seconds(),
		},
		Entries: []kvEntry{},
	}
	for _, e := range s.cfg.Store.List() {
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
