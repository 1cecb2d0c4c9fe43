// Package reports holds the one result type of ds4bench and its file format.
//
// A results file is JSON lines: a run record that says what was measured, where
// and with what; one result per scenario and repetition, appended the moment it
// is known; and an end record. A killed run keeps every line it wrote, and its
// missing end record shows that it was killed. Files may be concatenated.
//
// The package promises that what Writer accepts, Read returns unchanged, and
// that Read refuses everything else with the line and the reason. It computes
// nothing: statistics are in reports/stat, and each writer of a human or machine
// format is a package of its own. It imports nothing of this module, so that a
// results file can be read without the harness.
package reports

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Format is the version of the file format, in every run record. It changes when
// a reader of the older format would misunderstand a newer file.
const Format = "ds4bench/1"

// Limits on one results file. Read refuses what is beyond them, Writer never
// writes it.
const (
	MaxLineBytes = 4 << 20 // one record
	MaxRecords   = 1 << 20 // records of one file
	MaxTextBytes = 16 << 10
	MaxSamples   = 1 << 16 // samples of one metric, frontiers of one result
	MaxEvents    = 1 << 14 // events of one timeline
)

// Verdict is what a scenario's repetition counts as.
type Verdict string

// The verdicts. Inconclusive is never a pass: a fault that did not fire proves
// nothing. Skipped is a scenario that this host or this invocation cannot run.
const (
	Pass         Verdict = "pass"
	Fail         Verdict = "fail"
	Inconclusive Verdict = "inconclusive"
	Skipped      Verdict = "skipped"
)

// Verdicts lists every verdict, in the order in which reports count them.
func Verdicts() []Verdict { return []Verdict{Pass, Fail, Inconclusive, Skipped} }

// Result is one repetition of one scenario, or one round of speed measurements.
type Result struct {
	Scenario   string    `json:"scenario"` // the scenario's id; "speed" or "serve-speed" for a round of these
	Title      string    `json:"title,omitempty"`
	Origin     string    `json:"origin,omitempty"` // the issue or report that the scenario replays
	Lane       string    `json:"lane,omitempty"`
	Tags       []string  `json:"tags,omitempty"`
	Repetition int       `json:"repetition"` // from 1
	Seed       uint64    `json:"seed"`
	Start      time.Time `json:"start"`
	DurationMS float64   `json:"duration_ms"` // wall clock of the repetition

	Verdict  Verdict  `json:"verdict"`
	Outcome  string   `json:"outcome,omitempty"`  // recovered, degraded, refused, wrong, stuck, inconclusive
	Reason   string   `json:"reason,omitempty"`   // why it is skipped or inconclusive
	Failures []string `json:"failures,omitempty"` // one text per failed expectation, check or step
	Checks   []Check  `json:"checks,omitempty"`   // the standard five
	Faults   []Fault  `json:"faults,omitempty"`
	Warnings []string `json:"warnings,omitempty"` // what makes the numbers doubtful

	Metrics   map[string]Metric `json:"metrics,omitempty"`
	Timeline  []Event           `json:"timeline,omitempty"`
	Frontiers []Frontier        `json:"frontiers,omitempty"` // speed rounds only, context growing
	Load      *Load             `json:"load,omitempty"`      // serve-speed only
	Machine   *Machine          `json:"machine,omitempty"`   // while a speed was measured
	Side      string            `json:"side,omitempty"`      // SideA or SideB, if two servers were measured in turns

	Rerun   string `json:"rerun,omitempty"`    // the command line that repeats exactly this
	WorkDir string `json:"work_dir,omitempty"` // only when it was kept
}

// Check is one of the checks that follow every scenario.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// The names of the standard five, in the order in which they are made.
const (
	CheckProcess  = "process"  // alive, or stopped as told
	CheckAttempts = "attempts" // device attempts per range within the limit
	CheckControl  = "control"  // the next good request equals the answer without a cache
	CheckBudget   = "budget"   // bytes under the cache directory within its budgets
	CheckTemp     = "temp"     // no temporary file left after a restart
)

// StandardFive lists the names of the checks that every scenario makes.
func StandardFive() []string {
	return []string{CheckProcess, CheckAttempts, CheckControl, CheckBudget, CheckTemp}
}

// Fault is one armed rule and how often it fired.
type Fault struct {
	Rule  string `json:"rule"`
	Armed int    `json:"armed"`
	Fired int    `json:"fired"`
}

// Metric is one measured quantity with every sample kept.
type Metric struct {
	Unit    string    `json:"unit"` // see Unit
	Samples []float64 `json:"samples"`
}

// Event is a moment of a scenario, AtMS milliseconds after its start, or what
// began there, lasted DurationMS and had an Outcome: a step, the start of a
// server, a request.
type Event struct {
	AtMS       float64 `json:"at_ms"`
	Kind       string  `json:"kind"`
	Text       string  `json:"text,omitempty"`
	DurationMS float64 `json:"duration_ms,omitempty"`
	Outcome    string  `json:"outcome,omitempty"` // ok, failed, abandoned
}

// Kinds of events.
const (
	EventStart      = "start"       // a server was started
	EventReady      = "ready"       // it answered
	EventStep       = "step"        // a step began
	EventRequest    = "request"     // a request was sent: one attempt of a chat
	EventFault      = "fault"       // a fault was armed, fired or done to a file
	EventRetry      = "retry"       // a request is sent once more
	EventFirstToken = "first_token" // the first token of an answer
	EventGoodToken  = "good_token"  // the first token of the first right answer after a fault
	EventStop       = "stop"        // a server was stopped or killed
	EventDied       = "died"        // a server ended that nobody had told to
	EventEnd        = "end"
)

// Frontier is one row of a speed round: what it cost to grow the context to
// ContextTokens from the frontier before, and to decode from there.
type Frontier struct {
	FrontierTokens  int     `json:"frontier_tokens"`  // the frontier that was asked for
	ContextTokens   int     `json:"context_tokens"`   // tokens of context after the prefill, close to it
	EvaluatedTokens int     `json:"evaluated_tokens"` // of them, those this row evaluated
	PrefillMS       float64 `json:"prefill_ms"`       // backend time of EvaluatedTokens
	PrefillTPS      float64 `json:"prefill_tps"`
	DecodeTokens    int     `json:"decode_tokens"`
	DecodeMS        float64 `json:"decode_ms"`
	DecodeTPS       float64 `json:"decode_tps"`
	// DecodeReadBytes is what a decoded token has to read here, active weights and
	// rows of the KV cache, on average over the probe; 0 if the server does not say.
	DecodeReadBytes float64 `json:"decode_read_bytes,omitempty"`
}

// Names of metrics that reports show in columns of their own. A scenario may
// measure others.
const (
	MetricPrefillTPS        = "prefill_tps"
	MetricDecodeTPS         = "decode_tps"
	MetricTTFT              = "ttft_ms"
	MetricRecovery          = "recovery_ms"
	MetricRetries           = "retries"
	MetricRestoredTokens    = "restored_tokens"
	MetricReprefilledTokens = "reprefilled_tokens"
)

// Unit returns the unit of a metric from the last word of its name: units are
// part of names everywhere in this project. A name without one counts things.
func Unit(name string) string {
	_, last, _ := cutLast(name, "_")
	switch last {
	case "tps":
		return "tokens/s"
	case "rps":
		return "requests/s"
	case "percent":
		return "%"
	case "ms", "bytes", "tokens", "files":
		return last
	}
	return "count"
}

// Exact says whether a unit counts things, so that two measurements of the same
// work must be equal and not merely close.
func Exact(unit string) bool {
	return unit == "count" || unit == "bytes" || unit == "tokens" || unit == "files"
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}

// AddMetric appends samples to the metric of this name, with the unit that its
// name says. Values that are not finite are dropped: they are no measurement.
func (r *Result) AddMetric(name string, samples ...float64) {
	if r.Metrics == nil {
		r.Metrics = make(map[string]Metric)
	}
	m := r.Metrics[name]
	m.Unit = Unit(name)
	for _, s := range samples {
		if !math.IsNaN(s) && !math.IsInf(s, 0) {
			m.Samples = append(m.Samples, s)
		}
	}
	if len(m.Samples) == 0 {
		return
	}
	r.Metrics[name] = m
}

// AddFailure records one failed expectation, and makes the verdict a failure.
func (r *Result) AddFailure(format string, args ...any) {
	r.Failures = append(r.Failures, fmt.Sprintf(format, args...))
	r.Verdict = Fail
}

// AddEvent appends a moment at the given distance from the scenario's start.
func (r *Result) AddEvent(at time.Duration, kind, text string) {
	r.Timeline = append(r.Timeline, Event{AtMS: Milliseconds(at), Kind: kind, Text: text})
}

// MetricNames lists the metrics of a result, sorted.
func (r *Result) MetricNames() []string {
	names := make([]string, 0, len(r.Metrics))
	for name := range r.Metrics {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Milliseconds is a duration as the float of milliseconds that records hold.
func Milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
