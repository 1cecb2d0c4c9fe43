package server

import (
	"net/http"

	"ds4/runtime/server/ui"
)

// sessionsBody is what the server is doing, for people who watch. It never holds text.
type sessionsBody struct {
	Model         string        `json:"model"`
	Version       string        `json:"version"`
	ContextTokens int           `json:"context_tokens"` // of each session
	Waiting       int           `json:"waiting"`        // requests in the queue
	Sessions      []liveSession `json:"sessions"`
	Totals        sessionTotals `json:"totals"`
}

type liveSession struct {
	State            string `json:"state"` // empty, idle, restoring, prefill, decode
	Tokens           int    `json:"tokens"`
	SavedTokens      int    `json:"saved_tokens"` // of them, also on disk
	PromptTokens     int    `json:"prompt_tokens"`
	CachedTokens     int    `json:"cached_tokens"`
	CompletionTokens int    `json:"completion_tokens"`
}

// sessionTotals are counters since the start. Times are the backend's.
type sessionTotals struct {
	PrefillTokens  uint64  `json:"prefill_tokens"`
	PrefillSeconds float64 `json:"prefill_seconds"`
	DecodeTokens   uint64  `json:"decode_tokens"`
	DecodeSeconds  float64 `json:"decode_seconds"`
	CachedTokens   uint64  `json:"cached_tokens"`
	RestoredTokens uint64  `json:"restored_tokens"` // of the cached ones, read from disk
}

// handleSessions serves GET /v1/sessions.
func (s *Server) handleSessions(w http.ResponseWriter, _ *http.Request) error {
	st := s.cfg.Scheduler.Stats()
	body := sessionsBody{
		Model: s.cfg.Model.ID, Version: s.cfg.Version, ContextTokens: s.cfg.Model.ContextTokens, Waiting: st.QueueDepth,
		Sessions: []liveSession{},
		Totals: sessionTotals{
			PrefillTokens: st.PrefillTokens, PrefillSeconds: st.PrefillTime.Seconds(), DecodeTokens: st.DecodeTokens, DecodeSeconds: st.DecodeTime.Seconds(),
			CachedTokens: st.CachedTokens, RestoredTokens: st.RestoredTokens,
		},
	}
	for _, v := range st.Sessions {
		body.Sessions = append(body.Sessions, liveSession(v))
	}
	return s.writeJSON(w, http.StatusOK, body)
}

// handlePage serves GET /: the page for people.
func handlePage(w http.ResponseWriter, r *http.Request) error {
	ui.Serve(w, r)
	return nil
}
