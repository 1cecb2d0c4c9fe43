package run

import (
	"context"

	"ds4/runtime/client"
)

// Names on the server's metrics page, the only ones that this package relies on.
const (
	metricPrefillTokens  = "ds4_prefill_tokens_total"
	metricPrefillSeconds = "ds4_prefill_seconds_total"
	metricRestoredTokens = "ds4_restored_tokens_total"
	metricAttempts       = "ds4_prefill_attempts_total"
)

// counters is what the backend has done since its process started. Reuse is
// judged by them, not by what an answer claims.
type counters struct {
	pid       int
	evaluated float64 // prompt tokens
	seconds   float64 // of prefill
	restored  float64 // tokens read from disk
	attempts  float64 // prompts given to the device
}

func (c counters) minus(o counters) counters {
	return counters{c.pid, c.evaluated - o.evaluated, c.seconds - o.seconds, c.restored - o.restored, c.attempts - o.attempts}
}

// counters asks the server. It is no error if a server has none: then reuse is
// not judged.
func (p *rep) counters(ctx context.Context) (counters, bool) {
	m, pid, ok := p.metrics(ctx)
	if !ok {
		return counters{}, false
	}
	var c counters
	c.pid = pid
	c.evaluated, ok = m.Sum(metricPrefillTokens, nil)
	c.seconds, _ = m.Sum(metricPrefillSeconds, nil)
	c.restored, _ = m.Sum(metricRestoredTokens, nil)
	c.attempts, _ = m.Sum(metricAttempts, nil)
	return c, ok
}

// metrics reads the page of a server that is up; it does not wait for one.
func (p *rep) metrics(ctx context.Context) (client.Metrics, int, bool) {
	ctx, cancel := context.WithTimeout(ctx, counterTimeout)
	defer cancel()
	url, pid := p.r.opt.Target, 0
	if url == "" {
		srv := p.server.Load()
		if srv == nil {
			return nil, 0, false
		}
		cur := srv.Current()
		if _, ended := cur.Exited(); ended {
			return nil, 0, false
		}
		url, pid = cur.URL(), cur.PID()
	}
	c, err := client.New(url)
	if err != nil {
		return nil, 0, false
	}
	m, err := c.Metrics(ctx)
	return m, pid, err == nil
}
