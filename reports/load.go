package reports

import "fmt"

// Names of metrics of serve-speed. Each sample is one request, one gap between
// two tokens, or, for rates and shares, one repetition.
const (
	MetricInterToken     = "itl_ms"          // between two events of a stream that carry text
	MetricEndToEnd       = "e2e_ms"          // from the request to the last byte of the answer
	MetricGoodput        = "goodput_rps"     // requests per second that met the objective
	MetricRequestRate    = "requests_rps"    // requests per second that were answered
	MetricOutputTPS      = "output_tps"      // tokens of all answers over the time of the repetition
	MetricCachedPercent  = "cached_percent"  // of the prompt tokens, those that were not evaluated
	MetricCeilingPercent = "ceiling_percent" // decode, of what the memory's read bandwidth allows
)

// Load is the work that one repetition of serve-speed put on the server.
type Load struct {
	Workload    string `json:"workload"`    // see Workloads
	Concurrency int    `json:"concurrency"` // requests in flight at a time
	Requests    int    `json:"requests"`    // sent
	Failed      int    `json:"failed"`      // of them, without a whole answer
	Good        int    `json:"good"`        // of them, answered within the objective
	// Objective is what an answer must meet to count as good.
	Objective    Objective `json:"objective"`
	PromptTokens int       `json:"prompt_tokens"` // of all requests, as the server counts
	CachedTokens int       `json:"cached_tokens"` // of them, reused
	OutputTokens int       `json:"output_tokens"` // of all answers
	DurationMS   float64   `json:"duration_ms"`   // first request sent until last answer read
}

// Objective is a service level: upper bounds on the latencies of one request. A
// bound of 0 does not count.
type Objective struct {
	TTFTMS     float64 `json:"ttft_ms,omitempty"`
	ITLMS      float64 `json:"itl_ms,omitempty"` // mean gap between tokens of the answer
	EndToEndMS float64 `json:"e2e_ms,omitempty"`
}

// Machine is what the computer did while a result was measured. What is not
// known is 0; doubts that follow from it are in the warnings of the result.
type Machine struct {
	OthersPercent float64 `json:"others_percent,omitempty"` // of the CPU time of all cores, used by neither server nor harness
	// WaitPercent is how long the threads of the server were ready to run and had no
	// core, all together, in percent of the time that passed.
	WaitPercent     float64 `json:"wait_percent,omitempty"`
	FrequencyLowMHz float64 `json:"frequency_low_mhz,omitempty"` // the slowest core, lowest and highest of what was seen
	FrequencyTopMHz float64 `json:"frequency_top_mhz,omitempty"`
	// ReadBPS is the read bandwidth of the memory that all cores reach together,
	// in bytes per second, measured right before the result.
	ReadBPS float64 `json:"read_bps,omitempty"`
}

// Sides of a comparison that is measured in turns. Repetition n of one belongs to
// repetition n of the other: they were measured one right after the other.
const (
	SideA = "a" // the baseline
	SideB = "b"
)

// maxRequests bounds the requests of one repetition of serve-speed.
const maxRequests = 1 << 20

func (l *Load) validate() error {
	if l == nil {
		return nil
	}
	for name, n := range map[string]int{
		"requests": l.Requests, "failed": l.Failed, "good": l.Good,
		"prompt_tokens": l.PromptTokens, "cached_tokens": l.CachedTokens, "output_tokens": l.OutputTokens,
	} {
		if n < 0 {
			return fmt.Errorf("load: %s is %d: %w", name, n, ErrFormat)
		}
	}
	switch {
	case l.Workload == "":
		return fmt.Errorf("load: workload is empty: %w", ErrFormat)
	case l.Concurrency < 1:
		return fmt.Errorf("load: concurrency is %d: %w", l.Concurrency, ErrFormat)
	case l.Requests > maxRequests || l.Failed+l.Good > l.Requests:
		return fmt.Errorf("load: %d requests, %d failed, %d good: %w", l.Requests, l.Failed, l.Good, ErrFormat)
	case bad(l.DurationMS) || bad(l.Objective.TTFTMS) || bad(l.Objective.ITLMS) || bad(l.Objective.EndToEndMS):
		return fmt.Errorf("load: a duration is negative or not finite: %w", ErrFormat)
	}
	return nil
}

func (m *Machine) validate() error {
	if m == nil {
		return nil
	}
	for _, v := range []float64{m.OthersPercent, m.WaitPercent, m.FrequencyLowMHz, m.FrequencyTopMHz, m.ReadBPS} {
		if bad(v) {
			return fmt.Errorf("machine: %v is no share, frequency or rate: %w", v, ErrFormat)
		}
	}
	return nil
}
