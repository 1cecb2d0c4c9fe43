package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Health states, from best to worst.
const (
	HealthOK             = "ok"
	HealthDegradedCache  = "degraded-cache"  // answers are right, reuse from disk is limited
	HealthDegradedDevice = "degraded-device" // new requests are refused until a canary passes
	HealthStopping       = "stopping"
)

// Health is the scheduler's state in words.
type Health struct {
	State   string
	Reasons []string // one line each, empty when State is ok
	// RetryAfter is when the device is tried next, for degraded-device.
	RetryAfter time.Duration
}

// Stats are counters since New, and gauges of the moment. Durations are backend
// time: what the device worked, not what clients waited.
type Stats struct {
	QueueDepth     int // gauge: requests waiting
	ActiveRequests int // gauge: requests that hold a session
	LiveSessions   int // gauge: sessions with at least one position
	Sessions       []Session

	Requests  map[string]uint64 // by outcome: stop, length, tool_calls, error, cancelled, rejected, shutdown
	Reuse     map[string]uint64 // completed prefills by source, see the Source constants
	Failures  map[string]uint64 // by class: device, resource, restore, internal
	Cancelled uint64

	PrefillTokens uint64 // evaluated
	PrefillTime   time.Duration
	PrefillChunks uint64
	DecodeTokens  uint64 // evaluated in decode
	DecodeTime    time.Duration
	// DecodeReadBytes is the least that decode had to read: active weights and rows
	// of the sessions.
	DecodeReadBytes uint64
	CachedTokens    uint64 // reused, memory and disk
	RestoredTokens  uint64 // of CachedTokens, those read from disk
	RestoreTime     time.Duration
	SaveStall       time.Duration // prefill and decode stood still while a segment was copied or waited for the writer

	PrefillAttempts uint64 // prompts given to the device
	InlineRetries   uint64
	LimitReached    uint64 // ranges cleared
	Convicted       uint64 // chains found guilty by a cold success
	MaxStreak       int    // gauge: the longest streak of failures of a range
	RangesFailing   int    // gauge

	BreakerOpen    bool
	BreakerOpened  uint64
	CanaryPassed   uint64
	CanaryFailed   uint64
	DeviceRebuilds uint64
}

// counters is Stats behind a lock.
type counters struct {
	mu sync.Mutex
	s  Stats
}

func newCounters() *counters {
	return &counters{s: Stats{
		Requests: map[string]uint64{}, Reuse: map[string]uint64{}, Failures: map[string]uint64{},
	}}
}

func (c *counters) add(f func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.s)
}

func (c *counters) snapshot() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.s
	s.Sessions = slices.Clone(c.s.Sessions)
	s.Requests, s.Reuse, s.Failures = maps.Clone(s.Requests), maps.Clone(s.Reuse), maps.Clone(s.Failures)
	return s
}

// rate is tokens per second, 0 for no time.
func rate(tokens int, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(tokens) / d.Seconds()
}

// seconds formats a duration as log lines show it.
func seconds(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }
