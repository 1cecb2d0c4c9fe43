package run

import (
	"errors"
	"slices"
	"time"

	"ds4/faults"
	"ds4/faults/proc"
	"ds4/reports"
	"ds4/runtime/client"
)

// maxFirings bounds the firings of rules in a timeline: a rule that fires at every
// write says the same thing every time. Result.Faults counts all of them.
const maxFirings = 200

// Outcomes of a step and of a request in a timeline.
const (
	eventOK        = "ok"
	eventFailed    = "failed"
	eventAbandoned = "abandoned"
)

// event adds something that happens now.
func (p *rep) event(kind, text string) { p.eventAt(time.Now(), kind, text) }

// eventAt adds something that happened before now. conclude puts it in its place.
func (p *rep) eventAt(at time.Time, kind, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.res.Timeline) < reports.MaxEvents-1 {
		p.res.AddEvent(at.Sub(p.start), kind, text)
	}
}

// span adds something that begins now and lasts until the returned function is
// called with what came of it.
func (p *rep) span(kind, text string) (end func(outcome string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	began, i := time.Now(), len(p.res.Timeline)
	if i >= reports.MaxEvents-1 {
		return func(string) {}
	}
	p.res.AddEvent(began.Sub(p.start), kind, text)
	return func(outcome string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		e := &p.res.Timeline[i]
		e.DurationMS, e.Outcome = reports.Milliseconds(time.Since(began)), outcome
	}
}

// outcomeOf says what came of a step or a request.
func outcomeOf(err error) string {
	switch {
	case err == nil, errors.Is(err, errEnough):
		return eventOK
	case errors.Is(err, client.ErrAbandoned):
		return eventAbandoned
	}
	return eventFailed
}

// firingEvents are the moments at which rules fired, as the log saw them.
func firingEvents(log *proc.Log, start time.Time) []reports.Event {
	if log == nil {
		return nil
	}
	var out []reports.Event
	for _, line := range log.Since(0) {
		f, ok := faults.ParseFiring(line.Text)
		if !ok || !f.Fired {
			continue
		}
		out = append(out, reports.Event{AtMS: max(reports.Milliseconds(line.At.Sub(start)), 0), Kind: reports.EventFault, Text: "fired " + f.Rule})
		if len(out) == maxFirings {
			break
		}
	}
	return out
}

// finishTimeline adds what only the log knows, and the end, and puts everything
// in the order of time. Its caller holds mu.
func (p *rep) finishTimeline() {
	firings := firingEvents(p.log, p.start)
	p.res.Timeline = append(p.res.Timeline, firings[:min(len(firings), reports.MaxEvents-1-len(p.res.Timeline))]...)
	slices.SortStableFunc(p.res.Timeline, func(a, b reports.Event) int {
		switch {
		case a.AtMS < b.AtMS:
			return -1
		case a.AtMS > b.AtMS:
			return 1
		}
		return 0
	})
	p.res.AddEvent(time.Since(p.start), reports.EventEnd, string(p.res.Verdict))
}
