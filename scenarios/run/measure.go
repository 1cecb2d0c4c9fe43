package run

import (
	"ds4/faults/corrupt"
	"ds4/reports"
)

func (p *rep) addMetric(name string, v float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if name == "start_ms" || wanted(p.s.Measure, name) {
		p.res.AddMetric(name, v)
	}
}

func wanted(list []string, name string) bool {
	for _, n := range list {
		if n == name {
			return true
		}
	}
	return false
}

// measure adds what the scenario asked for. Values of chats are those of every
// named chat that worked, under "NAME.metric" too when there are several; the
// plain name holds the last one.
func (p *rep) measure() {
	p.mu.Lock()
	var last *answer
	var good []*answer
	for _, a := range p.all {
		if a.name != "" && a.err == nil && !a.abandoned {
			good = append(good, a)
			last = a
		}
	}
	p.mu.Unlock()
	for _, a := range good {
		for name, v := range values(a) {
			p.addNamed(a.name, name, v)
		}
	}
	if last == nil {
		return
	}
	for name, v := range values(last) {
		p.addMetric(name, v)
	}
	attempts := 0
	for _, a := range good {
		attempts += a.attempts
	}
	p.addMetric("attempts", float64(attempts))
	if files, err := corrupt.Quarantined(p.kv); err == nil {
		p.addMetric("quarantined", float64(len(files)))
	}
	if n, err := corrupt.DirBytes(p.kv); err == nil {
		p.addMetric("disk_bytes", float64(n))
	}
}

// addNamed adds a metric of one chat, named after it, if the scenario measures it.
func (p *rep) addNamed(chat, name string, v float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if wanted(p.s.Measure, name) {
		p.res.AddMetric(chat+"."+name, v)
	}
}

// values are the numbers of one chat. Rates are the backend's: tokens that it
// evaluated over the time that it took.
func values(a *answer) map[string]float64 {
	m := map[string]float64{
		reports.MetricTTFT:     reports.Milliseconds(a.got.FirstToken),
		"total_ms":             reports.Milliseconds(a.got.Total),
		reports.MetricRecovery: reports.Milliseconds(a.asked),
		"retries":              float64(a.attempts - 1),
	}
	if a.got.HasUsage {
		m["cached_tokens"] = float64(a.got.Usage.Details.CachedTokens)
	}
	if a.counted {
		m[reports.MetricRestoredTokens] = a.work.restored
		m[reports.MetricReprefilledTokens] = a.work.evaluated
		if a.work.seconds > 0 && a.work.evaluated > 0 {
			m[reports.MetricPrefillTPS] = a.work.evaluated / a.work.seconds
		}
	}
	return m
}
