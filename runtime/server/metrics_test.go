package server

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"ds4/runtime/scheduler"
)

// scrape returns the metrics page as lines.
func scrape(t *testing.T, url string) map[string]bool {
	t.Helper()
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		t.Fatalf("%s %s\n%s", resp.Status, resp.Header.Get("Content-Type"), page)
	}
	lines := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		lines[strings.TrimSpace(line)] = true
	}
	return lines
}

func TestMetrics(t *testing.T) {
	const counted = `ds4_http_requests_total{code="404",route="unknown"} 1`
	sched := &fakeScheduler{
		submit: play(done("stop")),
		health: scheduler.Health{State: scheduler.HealthDegradedDevice},
		stats: scheduler.Stats{
			QueueDepth: 3, ActiveRequests: 2, LiveSessions: 4, Cancelled: 5,
			Requests: map[string]uint64{"stop": 7}, Reuse: map[string]uint64{"disk-text": 2},
			Failures: map[string]uint64{"device": 6}, PrefillTokens: 1000, PrefillTime: 2500 * time.Millisecond,
			RestoredTokens: 900, MaxStreak: 2, BreakerOpen: true, CanaryFailed: 8, PrefillAttempts: 11,
		},
	}
	url := listen(t, newTestServer(t, sched, func(c *Config) { c.Store, c.Backend = testStore{}, "cpu/avx2" }))
	resp, err := http.Get(url + "/no/such/path")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	// A request is counted when its answer has left.
	lines := scrape(t, url)
	for end := time.Now().Add(30 * time.Second); !lines[counted] && time.Now().Before(end); lines = scrape(t, url) {
		time.Sleep(time.Millisecond)
	}
	for _, want := range []string{
		`ds4_build_info{backend="cpu/avx2",model="ds4-tiny",version="test"} 1`,
		counted,
		"ds4_queue_depth 3", "ds4_active_requests 2", "ds4_live_sessions 4", "ds4_cancelled_total 5",
		`ds4_requests_total{outcome="stop"} 7`, `ds4_requests_total{outcome="length"} 0`,
		`ds4_prefills_total{source="disk-text"} 2`, `ds4_prefills_total{source="cold"} 0`,
		`ds4_failures_total{class="device"} 6`, `ds4_failures_total{class="restore"} 0`,
		"ds4_prefill_tokens_total 1000", "ds4_prefill_seconds_total 2.5", "ds4_prefill_attempts_total 11",
		"ds4_restored_tokens_total 900", "ds4_failure_streak 2", "ds4_breaker_open 1",
		`ds4_canaries_total{result="failed"} 8`,
		`ds4_health{state="degraded-device"} 1`, `ds4_health{state="ok"} 0`,
		`ds4_kv_bytes{state="segment"} 3000`, `ds4_kv_bytes{state="quarantine"} 100`, "ds4_kv_store_seconds_total 0.25",
		`ds4_kv_recovery_segments{verdict="stale"} 1`, `ds4_kv_evictions_total{reason="stale"} 1`,
		`ds4_kv_restore_failures_total{why="failed"} 3`, `ds4_kv_stores_total{result="stored"} 3`,
		"# TYPE ds4_prefill_tokens_total counter", "# TYPE ds4_breaker_open gauge",
	} {
		if !lines[want] {
			t.Errorf("no line %q", want)
		}
	}
	if t.Failed() {
		for line := range lines {
			if strings.HasPrefix(line, "ds4_") {
				t.Log(line)
			}
		}
	}
}
