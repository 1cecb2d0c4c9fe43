package reports

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"unicode/utf8"
)

// record is one line of a results file; exactly one field is set.
type record struct {
	Run    *Run    `json:"run,omitempty"`
	Result *Result `json:"result,omitempty"`
	End    *End    `json:"end,omitempty"`
}

// Writer appends records to a stream, one write per record, so that a killed
// run leaves whole lines but for the last. It may be used from several goroutines.
type Writer struct {
	mu      sync.Mutex
	w       io.Writer
	results int
	err     error // the first failed write; nothing is written after it
}

// NewWriter writes the run record and returns the writer for its results.
func NewWriter(w io.Writer, run Run) (*Writer, error) {
	run.Format = Format
	if err := run.Shard.validate(); err != nil {
		return nil, fmt.Errorf("reports: run: %w", err)
	}
	wr := &Writer{w: w}
	if err := wr.append(record{Run: &run}); err != nil {
		return nil, err
	}
	return wr, nil
}

// Result appends one result. Texts longer than MaxTextBytes are shortened; a
// result that no reader would accept is refused, and the file stays readable.
func (w *Writer) Result(r *Result) error {
	c := shorten(*r)
	if err := c.validate(); err != nil {
		return fmt.Errorf("reports: result %s #%d: %w", r.Scenario, r.Repetition, err)
	}
	return w.append(record{Result: &c})
}

// End closes the run. Results counts itself.
func (w *Writer) End(e End) error {
	w.mu.Lock()
	e.Results = w.results
	w.mu.Unlock()
	if bad(e.DurationMS) {
		return fmt.Errorf("reports: end: duration_ms is %v: %w", e.DurationMS, ErrFormat)
	}
	return w.append(record{End: &e})
}

func (w *Writer) append(rec record) error {
	line, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("reports: encode: %w", err)
	}
	line = append(line, '\n')
	if len(line) > MaxLineBytes {
		return fmt.Errorf("reports: record of %d bytes, limit %d: %w", len(line), MaxLineBytes, ErrTooLarge)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	if _, err := w.w.Write(line); err != nil {
		w.err = fmt.Errorf("reports: write results: %w", err)
		return w.err
	}
	if rec.Result != nil {
		w.results++
	}
	return nil
}

// shorten returns the result with every free text within MaxTextBytes and every
// list within its limit. The first and the last of a long timeline say most, so
// the middle goes.
func shorten(r Result) Result {
	r.Reason = clip(r.Reason)
	r.Failures = clipAll(r.Failures)
	r.Warnings = clipAll(r.Warnings)
	r.Checks = append([]Check(nil), r.Checks...)
	for i := range r.Checks {
		r.Checks[i].Detail = clip(r.Checks[i].Detail)
	}
	if n := len(r.Timeline); n > MaxEvents {
		half := MaxEvents / 2
		r.Timeline = append(append([]Event(nil), r.Timeline[:half]...), r.Timeline[n-half:]...)
	} else {
		r.Timeline = append([]Event(nil), r.Timeline...)
	}
	for i := range r.Timeline {
		r.Timeline[i].Text, r.Timeline[i].Outcome = clip(r.Timeline[i].Text), clip(r.Timeline[i].Outcome)
	}
	return r
}

// maxTexts bounds failures and warnings of one result: with more, the first ones
// tell the cause.
const maxTexts = 100

func clipAll(texts []string) []string {
	n := len(texts)
	out := make([]string, 0, min(n, maxTexts+1))
	for _, t := range texts[:min(n, maxTexts)] {
		out = append(out, clip(t))
	}
	if n > maxTexts {
		out = append(out, fmt.Sprintf("and %d more", n-maxTexts))
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// clip shortens a text to MaxTextBytes at a rune's edge and says so in the text.
// Bytes that are not UTF-8, as damaged files and killed servers leave them in
// messages, become U+FFFD here and not on the way through JSON.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= MaxTextBytes {
		return s
	}
	const mark = " ...[shortened]"
	n := MaxTextBytes - len(mark)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + mark
}

// validate checks what JSON's types do not: known verdicts, finite numbers,
// bounded lists. Reader and Writer share it.
func (r *Result) validate() error {
	switch {
	case r.Scenario == "":
		return fmt.Errorf("scenario is empty: %w", ErrFormat)
	case r.Repetition < 1:
		return fmt.Errorf("repetition is %d, they count from 1: %w", r.Repetition, ErrFormat)
	case r.Verdict != Pass && r.Verdict != Fail && r.Verdict != Inconclusive && r.Verdict != Skipped:
		return fmt.Errorf("verdict is %q, known: pass, fail, inconclusive, skipped: %w", r.Verdict, ErrFormat)
	case r.Verdict == Pass && len(r.Failures) > 0:
		return fmt.Errorf("verdict is pass with %d failures: %w", len(r.Failures), ErrFormat)
	case bad(r.DurationMS):
		return fmt.Errorf("duration_ms is %v: %w", r.DurationMS, ErrFormat)
	case len(r.Timeline) > MaxEvents:
		return fmt.Errorf("timeline has %d events, limit %d: %w", len(r.Timeline), MaxEvents, ErrTooLarge)
	case len(r.Frontiers) > MaxSamples:
		return fmt.Errorf("%d frontiers, limit %d: %w", len(r.Frontiers), MaxSamples, ErrTooLarge)
	}
	for _, name := range r.MetricNames() {
		if err := r.Metrics[name].validate(); err != nil {
			return fmt.Errorf("metric %q: %w", name, err)
		}
	}
	if r.Side != "" && r.Side != SideA && r.Side != SideB {
		return fmt.Errorf("side is %q, known: %s, %s: %w", r.Side, SideA, SideB, ErrFormat)
	}
	if err := errors.Join(r.Load.validate(), r.Machine.validate()); err != nil {
		return err
	}
	for i, e := range r.Timeline {
		if bad(e.AtMS) {
			return fmt.Errorf("timeline event %d: at_ms is %v: %w", i, e.AtMS, ErrFormat)
		}
		if bad(e.DurationMS) {
			return fmt.Errorf("timeline event %d: duration_ms is %v: %w", i, e.DurationMS, ErrFormat)
		}
	}
	for i, f := range r.Frontiers {
		if err := f.validate(); err != nil {
			return fmt.Errorf("frontier %d: %w", i, err)
		}
		if i > 0 && f.ContextTokens <= r.Frontiers[i-1].ContextTokens {
			return fmt.Errorf("frontier %d: context_tokens %d after %d, they grow: %w",
				i, f.ContextTokens, r.Frontiers[i-1].ContextTokens, ErrFormat)
		}
	}
	return nil
}

func (m Metric) validate() error {
	if len(m.Samples) > MaxSamples {
		return fmt.Errorf("%d samples, limit %d: %w", len(m.Samples), MaxSamples, ErrTooLarge)
	}
	for i, s := range m.Samples {
		if math.IsNaN(s) || math.IsInf(s, 0) {
			return fmt.Errorf("sample %d is %v: %w", i, s, ErrFormat)
		}
	}
	return nil
}

func (f Frontier) validate() error {
	for _, v := range []float64{f.PrefillMS, f.PrefillTPS, f.DecodeMS, f.DecodeTPS, f.DecodeReadBytes} {
		if bad(v) {
			return fmt.Errorf("%v is no duration and no rate: %w", v, ErrFormat)
		}
	}
	if f.ContextTokens < 1 || f.EvaluatedTokens < 0 || f.DecodeTokens < 0 {
		return fmt.Errorf("negative or zero token counts: %w", ErrFormat)
	}
	return nil
}

// bad says that a duration or a rate is none.
func bad(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) || v < 0 }
