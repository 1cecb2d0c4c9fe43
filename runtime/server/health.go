package server

import (
	"net/http"

	"ds4/runtime/scheduler"
)

// healthBody is the answer of GET /healthz.
type healthBody struct {
	Status  string   `json:"status"`
	Reasons []string `json:"reasons,omitempty"`
}

// health is the state of the server: the scheduler's, or worse.
func (s *Server) health() scheduler.Health {
	h := s.cfg.Scheduler.Health()
	if s.stopping.Load() {
		return scheduler.Health{State: scheduler.HealthStopping, Reasons: []string{"shutdown was requested"}}
	}
	if s.cfg.CacheProblem != "" {
		if h.State == scheduler.HealthOK {
			h.State = scheduler.HealthDegradedCache
		}
		h.Reasons = append(h.Reasons, s.cfg.CacheProblem)
	}
	return h
}

// handleHealth serves GET /healthz: 200 as long as requests are answered, 503 when
// they are refused.
func (s *Server) handleHealth(w http.ResponseWriter, _ *http.Request) error {
	h := s.health()
	status := http.StatusOK
	if h.State == scheduler.HealthDegradedDevice || h.State == scheduler.HealthStopping {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", retryAfterSeconds(max(h.RetryAfter, retryShutdown)))
	}
	return s.writeJSON(w, status, healthBody{Status: h.State, Reasons: h.Reasons})
}
