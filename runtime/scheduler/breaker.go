package scheduler

import "time"

// Canaries are sent canaryFirst after the breaker opened, then after twice as
// long each time, at most canaryMost apart.
const (
	canaryFirst  = 5 * time.Second
	canaryMost   = 60 * time.Second
	canaryTokens = 8 // length of the canary's prompt
)

// breaker keeps requests away from a device that does not work. It is closed
// until trip; then only canaries reach the device, until one passes. It has no
// clock of its own and no lock: the worker owns it.
type breaker struct {
	reason string
	open   bool
	next   time.Time // when the next canary is due
	delay  time.Duration
}

// trip opens the breaker; an open one keeps its schedule.
func (b *breaker) trip(reason string, now time.Time) (opened bool) {
	if b.open {
		return false
	}
	*b = breaker{reason: reason, open: true, delay: canaryFirst, next: now.Add(canaryFirst)}
	return true
}

// due reports whether a canary should be sent.
func (b *breaker) due(now time.Time) bool { return b.open && !now.Before(b.next) }

// result records how a canary went. A failed one doubles the delay.
func (b *breaker) result(passed bool, now time.Time) {
	if passed {
		*b = breaker{}
		return
	}
	b.delay = min(2*b.delay, canaryMost)
	b.next = now.Add(b.delay)
}

// retryAfter is how long until the next canary, at least a second, 0 if closed.
func (b *breaker) retryAfter(now time.Time) time.Duration {
	if !b.open {
		return 0
	}
	return max(b.next.Sub(now), time.Second)
}
