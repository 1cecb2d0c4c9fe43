package scheduler

import "time"

// pace remembers how long passes take, for the watchdog and for the decision
// whether a restore is worth waiting for.
type pace struct {
	min      time.Duration // of a limit
	perToken time.Duration // slowest seen, chunks only
	prefill  float64       // tokens per second, smoothed
}

const (
	watchdogFactor = 20 // times the expected time
	watchdogFirst  = 8  // times min, while nothing is known
	paceSmoothing  = 0.25
	// paceUnknown, in tokens per second, is assumed until a chunk was timed.
	paceUnknown   = 100
	paceMinTokens = 16 // of a pass that tells something about prefill
)

func (p *pace) observe(tokens int, took time.Duration) {
	p.perToken = max(p.perToken, took/time.Duration(tokens))
	if tokens < paceMinTokens {
		return
	}
	r := rate(tokens, took)
	if p.prefill == 0 {
		p.prefill = r
	}
	p.prefill += paceSmoothing * (r - p.prefill)
}

// limit is when a pass over so many tokens counts as hung.
func (p *pace) limit(tokens int) time.Duration {
	if p.perToken == 0 {
		return watchdogFirst * p.min
	}
	return max(p.min, watchdogFactor*p.perToken*time.Duration(tokens))
}

// estimate is how long a cold prefill of so many tokens would take.
func (p *pace) estimate(tokens int) time.Duration {
	r := p.prefill
	if r == 0 {
		r = paceUnknown
	}
	return time.Duration(float64(tokens) / r * float64(time.Second))
}
