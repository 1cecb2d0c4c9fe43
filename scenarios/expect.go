package scenarios

// Bounds is a condition on a count. All that is set must hold.
type Bounds struct {
	Exactly *int64 `json:"exactly,omitempty"`
	AtLeast *int64 `json:"at_least,omitempty"`
	AtMost  *int64 `json:"at_most,omitempty"`
}

// Hold says whether n satisfies the bounds.
func (b Bounds) Hold(n int64) bool {
	return (b.Exactly == nil || n == *b.Exactly) && (b.AtLeast == nil || n >= *b.AtLeast) && (b.AtMost == nil || n <= *b.AtMost)
}

// Empty says that nothing is asked.
func (b Bounds) Empty() bool { return b.Exactly == nil && b.AtLeast == nil && b.AtMost == nil }

// Expect is one assertion. Exactly one field is set.
type Expect struct {
	Outcome     Words         `json:"outcome,omitempty" jsonschema:"recovered, degraded or refused; a list allows any of them"`
	Retries     *ChatBounds   `json:"retries,omitempty" jsonschema:"further attempts that a chat, or all of them, needed"`
	Equal       []string      `json:"equal,omitempty" jsonschema:"these answers are the same, byte for byte"`
	Fired       *FiredBounds  `json:"fired,omitempty" jsonschema:"how often the rules of a fault point fired"`
	Quarantined *Bounds       `json:"quarantined,omitempty" jsonschema:"files in the quarantine directory"`
	Segments    *Bounds       `json:"segments,omitempty" jsonschema:"published segment files"`
	Unchanged   string        `json:"unchanged,omitempty" jsonschema:"name of a kept copy: each segment of it is there, and nothing has written to it since"`
	Temps       *Bounds       `json:"temps,omitempty" jsonschema:"files under tmp"`
	Markers     *Bounds       `json:"markers,omitempty" jsonschema:"markers of restores in progress"`
	Deaths      *Bounds       `json:"deaths,omitempty" jsonschema:"ends of the process that no step commanded"`
	Cached      *ChatBounds   `json:"cached,omitempty" jsonschema:"prompt tokens that the answer reports as reused"`
	Restored    *ChatBounds   `json:"restored,omitempty" jsonschema:"tokens that the backend's counters say were read from disk during the chat"`
	Reused      *ChatBounds   `json:"reused,omitempty" jsonschema:"percent of the prompt's tokens that the answer reports as reused"`
	Evaluated   *ChatBounds   `json:"evaluated,omitempty" jsonschema:"prompt tokens that the backend's counters say were evaluated during the chat"`
	Keepalives  *ChatBounds   `json:"keepalives,omitempty" jsonschema:"signs of life, comments, in the stream of a chat"`
	Log         *LogMatch     `json:"log,omitempty" jsonschema:"lines of the server's log"`
	Metric      *MetricBounds `json:"metric,omitempty" jsonschema:"a sample of /metrics, summed over its labels"`
	Error       *ErrorMatch   `json:"error,omitempty" jsonschema:"the last error that a chat met"`
	Exit        *ExitMatch    `json:"exit,omitempty" jsonschema:"how the process ended"`
	Faster      *Faster       `json:"faster,omitempty" jsonschema:"one chat's time to its first token is shorter than another's"`
	DiskBytes   *Bounds       `json:"disk_bytes,omitempty" jsonschema:"everything under the cache directory"`
	Page        *PageMatch    `json:"page,omitempty" jsonschema:"what a page of the server says"`
	Growth      *Growth       `json:"growth,omitempty" jsonschema:"how much a sample of /metrics has grown since a mark, in the same process"`
	Health      string        `json:"health,omitempty" jsonschema:"the status that /healthz reports"`
}

// Words is one word or a list of words.
type Words []string

// ChatBounds is a condition on a number of one chat; without a name, on the sum
// over all chats so far.
type ChatBounds struct {
	Chat   string `json:"chat,omitempty"`
	Bounds `yaml:",inline"`
}

// FiredBounds is a condition on the firings of one fault point.
type FiredBounds struct {
	Fault  string `json:"fault"`
	Bounds `yaml:",inline"`
}

// LogMatch counts lines since the scenario, or the pass of a sweep, began. With
// no bounds at least one line must match.
type LogMatch struct {
	Matches string `json:"matches"`
	// Distinct counts texts and not lines: what the first group matched, or the
	// whole expression if it has none.
	Distinct bool `json:"distinct,omitempty" jsonschema:"count different texts of the first group, and not lines"`
	Bounds   `yaml:",inline"`
}

// PageMatch looks into a page of the running server.
type PageMatch struct {
	Path    string `json:"path" jsonschema:"such as /healthz or /v1/kv"`
	Matches string `json:"matches" jsonschema:"regular expression"`
}

// MetricBounds is a condition on a sample of the metrics page of the running
// process.
type MetricBounds struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	Bounds `yaml:",inline"`
}

// Growth bounds the growth of a number of the running process. Garbage and
// connections that end take a while to go, so it is looked at again for some time.
type Growth struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	Since  string            `json:"since" jsonschema:"name of a mark"`
	AtMost Bytes             `json:"at_most" jsonschema:"the slack, such as 20 or 64MiB"`
}

// ErrorMatch describes an error answer; empty fields match anything.
type ErrorMatch struct {
	Chat      string `json:"chat"`
	Code      string `json:"code,omitempty"`
	Status    int    `json:"status,omitempty"`
	Retryable *bool  `json:"retryable,omitempty"`
	Message   string `json:"message,omitempty" jsonschema:"regular expression"`
}

// ExitMatch describes the end of the last process.
type ExitMatch struct {
	Code   int      `json:"code"`
	Within Duration `json:"within,omitzero" jsonschema:"from the signal to the end"`
}

// Faster compares times to the first token.
type Faster struct {
	Chat    string `json:"chat"`
	Than    string `json:"than"`
	Percent int    `json:"percent" jsonschema:"at most so many percent of the other's time"`
}

// Measures lists what a scenario may ask to be measured. The first ones are
// values of the last named chat, the others of the whole repetition.
func Measures() []string {
	return []string{
		"prefill_tps", "ttft_ms", "total_ms", "restored_tokens", "reprefilled_tokens", "cached_tokens",
		"recovery_ms", "start_ms", "attempts", "quarantined", "disk_bytes",
	}
}
