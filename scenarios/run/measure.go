package run

import (
	"slices"

	"ds4/faults/corrupt"
	"ds4/reports"
)

// minRateTokens is how many tokens a chat has to evaluate before its prefill rate
// says anything: a handful is all overhead.
const minRateTokens = 64

// always are measured whether a scenario asks for them or not.
var always = []string{"start_ms", reports.MetricRetries}

// addMetric adds a sample if the scenario measures the quantity. chat is the name
// that it belongs to, "" for the repetition as a whole.
func (p *rep) addMetric(chat, name string, v float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.s.Measure, name) && (chat != "" || !slices.Contains(always, name)) {
		return
	}
	if chat != "" {
		name = chat + "." + name
	}
	p.res.AddMetric(name, v)
}

// measure adds what the scenario asked for: the numbers of each named chat under
// NAME.metric, and under the plain name those of the last chat, or of all chats
// together where a sum means something.
func (p *rep) measure() {
	p.mu.Lock()
	var good []*answer
	for _, a := range p.all {
		if a.name != "" && a.err == nil && !a.abandoned {
			good = append(good, a)
		}
	}
	p.mu.Unlock()
	if len(good) == 0 {
		return
	}
	var attempts int
	var work counters
	for _, a := range good {
		for name, v := range values(a) {
			p.addMetric(a.name, name, v)
		}
		attempts += a.attempts
		work.evaluated += a.work.evaluated
		work.seconds += a.work.seconds
	}
	for name, v := range values(good[len(good)-1]) {
		if name != reports.MetricPrefillTPS {
			p.addMetric("", name, v)
		}
	}
	if work.seconds > 0 && work.evaluated >= minRateTokens {
		p.addMetric("", reports.MetricPrefillTPS, work.evaluated/work.seconds)
	}
	p.addMetric("", "attempts", float64(attempts))
	p.addMetric("", reports.MetricRetries, float64(attempts-len(good)))
	if files, err := corrupt.Quarantined(p.kv); err == nil {
		p.addMetric("", "quarantined", float64(len(files)))
	}
	if n, err := corrupt.DirBytes(p.kv); err == nil {
		p.addMetric("", "disk_bytes", float64(n))
	}
}

// values are the numbers of one chat. Rates are the backend's: tokens that it
// evaluated over the time that it took.
func values(a *answer) map[string]float64 {
	m := map[string]float64{
		reports.MetricTTFT:     reports.Milliseconds(a.got.FirstToken),
		"total_ms":             reports.Milliseconds(a.got.Total),
		reports.MetricRecovery: reports.Milliseconds(a.asked),
	}
	if a.got.HasUsage {
		m["cached_tokens"] = float64(a.got.Usage.Details.CachedTokens)
	}
	if a.counted {
		m[reports.MetricRestoredTokens] = a.work.restored
		m[reports.MetricReprefilledTokens] = a.work.evaluated
		if a.work.seconds > 0 && a.work.evaluated >= minRateTokens {
			m[reports.MetricPrefillTPS] = a.work.evaluated / a.work.seconds
		}
	}
	return m
}
