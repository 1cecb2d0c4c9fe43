package html

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"ds4/reports"
)

// Measures of a timeline drawing.
const (
	timelineWidth = 960.0
	gutter        = 78.0 // names of the lanes
	rightMargin   = 14.0
	barHeight     = 14.0
	nextMark      = 14.0 // between marks of the same kind
	maxRequestRow = 6    // rows of requests at the same time; more share the last one
	longest       = 1e12 // milliseconds; what claims to last longer is a forged file
	maxDrawn      = 800  // things of one kind in one drawing; the table has all events
)

// span is a bar of a timeline.
type span struct {
	from, to float64
	class    string
	title    string
	label    string
	row      int
}

// mark is a moment of a timeline.
type mark struct {
	at    float64
	class string
	title string
	what  string // the same for marks that mean the same
}

// history is a timeline, sorted into lanes.
type history struct {
	until      float64
	steps      []span
	server     []span
	requests   []span
	rows       int // of requests
	marks      []mark
	faults     []mark
	recoveries []span
	cut        bool // something was left out of the drawing
}

// readHistory sorts events into lanes.
func readHistory(r *reports.Result) history {
	events := slices.Clone(r.Timeline)
	slices.SortStableFunc(events, func(a, b reports.Event) int { return cmp.Compare(a.AtMS, b.AtMS) })
	h := history{until: r.DurationMS}
	for i := range events {
		e := &events[i]
		e.Text = clip(e.Text, maxTitle)
		h.until = max(h.until, e.AtMS+e.DurationMS)
	}
	h.until = min(h.until, longest)
	h.readSteps(events)
	h.readServer(events)
	h.readRequests(events)
	h.readMarks(events)
	h.readRecoveries(events)
	for _, list := range []*[]span{&h.steps, &h.server, &h.requests, &h.recoveries} {
		if len(*list) > maxDrawn {
			*list, h.cut = (*list)[:maxDrawn], true
		}
	}
	for _, list := range []*[]mark{&h.marks, &h.faults} {
		if len(*list) > maxDrawn {
			*list, h.cut = (*list)[:maxDrawn], true
		}
	}
	return h
}

// readSteps lets a step last until it ended or the next one began, whichever is
// first: a sweep lasts as long as all its steps, which are what one wants to see.
func (h *history) readSteps(events []reports.Event) {
	for _, e := range events {
		if e.Kind != reports.EventStep && e.Kind != reports.EventEnd {
			continue
		}
		if n := len(h.steps); n > 0 && h.steps[n-1].to > e.AtMS {
			h.steps[n-1].to = e.AtMS
		}
		if e.Kind == reports.EventEnd {
			return
		}
		s := span{from: e.AtMS, to: h.until, label: e.Text, class: "step" + alternate(len(h.steps)), title: e.Text}
		if e.DurationMS > 0 {
			s.to = e.AtMS + e.DurationMS
			s.title += ", " + duration(e.DurationMS)
		}
		if e.Outcome == "failed" {
			s.class, s.title = "step bad", s.title+", failed"
		}
		h.steps = append(h.steps, s)
	}
}

func alternate(i int) string {
	if i%2 == 1 {
		return " odd"
	}
	return ""
}

// readServer follows processes: starting, up, and nothing after their end.
func (h *history) readServer(events []reports.Event) {
	var open *span
	finish := func(at float64, how string) {
		if open == nil {
			return
		}
		open.to = at
		open.title = fmt.Sprintf("%s for %s%s", open.title, duration(open.to-open.from), how)
		h.server = append(h.server, *open)
		open = nil
	}
	for _, e := range events {
		switch e.Kind {
		case reports.EventStart:
			finish(e.AtMS, "")
			open = &span{from: e.AtMS, class: "starting", title: "server starts"}
			if e.Text != "" {
				open.title = "server starts with " + e.Text
			}
		case reports.EventReady:
			finish(e.AtMS, "")
			open = &span{from: e.AtMS, class: "up", title: "server answers", label: "up"}
		case reports.EventStop, reports.EventDied:
			finish(e.AtMS, ", then "+e.Text)
		}
	}
	finish(h.until, "")
}

// readRequests puts requests at the same time below each other.
func (h *history) readRequests(events []reports.Event) {
	var free []float64 // per row: when its last request ended
	for _, e := range events {
		if e.Kind != reports.EventRequest {
			continue
		}
		s := span{from: e.AtMS, to: e.AtMS + e.DurationMS, class: "request " + outcomeClass(e.Outcome), label: e.Text}
		s.title = strings.TrimSuffix(fmt.Sprintf("request %s, %s, %s", e.Text, duration(e.DurationMS), e.Outcome), ", ")
		row := slices.IndexFunc(free, func(end float64) bool { return end <= e.AtMS })
		if row < 0 {
			if row = len(free); row < maxRequestRow {
				free = append(free, 0)
			} else {
				row = maxRequestRow - 1
			}
		}
		free[row] = max(free[row], s.to)
		s.row = row
		h.requests = append(h.requests, s)
	}
	h.rows = max(len(free), 1)
}

// outcomeClass is the style of a known outcome, nothing for any other word.
func outcomeClass(outcome string) string {
	switch outcome {
	case "ok", "failed", "abandoned":
		return outcome
	}
	return ""
}

func (h *history) readMarks(events []reports.Event) {
	for _, e := range events {
		m := mark{at: e.AtMS, title: fmt.Sprintf("%s: %s", duration(e.AtMS), e.Text), what: e.Kind + e.Text}
		switch e.Kind {
		case reports.EventFirstToken:
			m.class, m.title = "first", "first token at "+m.title
		case reports.EventGoodToken:
			m.class, m.title = "good", "first good token at "+m.title
		case reports.EventRetry:
			m.class, m.title = "retry", "retry at "+m.title
		case reports.EventFault, reports.EventDied, reports.EventStop:
			m.class, m.title = "fault", e.Kind+" at "+m.title
			if e.Kind == reports.EventStop && e.Text != "SIGKILL" {
				m.class = "stop"
			}
			h.faults = append(h.faults, m)
			continue
		default:
			continue
		}
		h.marks = append(h.marks, m)
	}
}

// readRecoveries finds the spans that all this is about: from what went wrong to
// the first right answer's first token.
func (h *history) readRecoveries(events []reports.Event) {
	began, open := 0.0, false
	for _, e := range events {
		switch {
		case e.Kind == reports.EventFault, e.Kind == reports.EventDied, e.Kind == reports.EventStop && e.Text == "SIGKILL",
			e.Kind == reports.EventRetry:
			if !open {
				began, open = e.AtMS, true
			}
		case e.Kind == reports.EventGoodToken && open:
			text := duration(e.AtMS - began)
			h.recoveries = append(h.recoveries, span{from: began, to: e.AtMS, label: text, title: text + " from the fault to the first good token"})
			open = false
		}
	}
}

// drawTimeline draws the lanes of one repetition above each other.
func drawTimeline(r *reports.Result) (drawing template.HTML, cut bool) {
	h := readHistory(r)
	requests := float64(h.rows)*(barHeight+3) + 8
	lanes := []struct {
		name   string
		height float64
	}{{"recovery", 24}, {"steps", barHeight + 8}, {"server", barHeight + 8}, {"requests", requests}, {"faults", barHeight + 8}}
	height := 26.0
	for _, l := range lanes {
		height += l.height
	}
	s := newSVG(timelineWidth, height, "timeline", fmt.Sprintf("timeline of %s, repetition %d, %s", r.Scenario, r.Repetition, duration(h.until)))
	x := scale{0, max(h.until, 1), gutter, timelineWidth - rightMargin}
	y := 0.0
	top := map[string]float64{}
	for i, l := range lanes {
		top[l.name] = y
		if i > 0 {
			s.line(gutter, y, timelineWidth-rightMargin, y, "rule")
		}
		s.text(gutter-10, y+l.height/2+4, "end", "lane", l.name)
		y += l.height
	}
	timeAxis(s, x, y)
	for _, b := range h.recoveries {
		bracket(s, x, b, top["recovery"], y)
	}
	bars(s, x, h.steps, top["steps"]+4)
	bars(s, x, h.server, top["server"]+4)
	bars(s, x, h.requests, top["requests"]+5)
	for _, m := range h.marks {
		drawMark(s, x.place(m.at), top["requests"]+5+barHeight/2, m)
	}
	last := make(map[string]float64) // a rule that fires all the time is one mark, then a row of them
	for _, m := range h.faults {
		at := x.place(m.at)
		if before, again := last[m.what]; again && at-before < nextMark {
			continue
		}
		last[m.what] = at
		drawMark(s, at, top["faults"]+barHeight/2+4, m)
	}
	return s.end(), h.cut
}

// charWidth is about what a letter of a label takes.
const charWidth = 6.3

// bars draws bars, with labels where they fit.
func bars(s *svg, x scale, list []span, y float64) {
	const least = 1.5 // a bar that one sees
	for _, b := range list {
		from := x.place(b.from)
		width := max(x.place(b.to)-from, least)
		top := y + float64(b.row)*(barHeight+3)
		s.rect(from, top, width, barHeight, b.class, b.title)
		if room := int((width - 6) / charWidth); len([]rune(b.label)) <= room {
			s.text(from+4, top+barHeight-3.5, "start", "label "+b.class, b.label)
		}
	}
}

// bracket shows a recovery: a shade behind all lanes, and its length.
func bracket(s *svg, x scale, b span, top, bottom float64) {
	from, to := x.place(b.from), x.place(b.to)
	s.rect(from, top+18, max(to-from, 1), bottom-top-18, "recovering", b.title)
	s.path([]point{{from, top + 23}, {from, top + 18}, {to, top + 18}, {to, top + 23}}, false, "bracket", b.title)
	wide := charWidth * float64(len(b.label))
	if to-from < wide/2 { // a crowd of short ones: their lengths are in the table
		return
	}
	middle := min(max((from+to)/2, gutter+wide/2), timelineWidth-rightMargin-wide/2)
	s.text(middle, top+13, "middle", "recovery", b.label)
}

// drawMark draws a moment. Shapes differ, not only colours.
func drawMark(s *svg, x, y float64, m mark) {
	const r = 5.0
	switch m.class {
	case "good":
		s.path([]point{{x, y - r - 1}, {x + r + 1, y}, {x, y + r + 1}, {x - r - 1, y}}, true, "mark good", m.title)
	case "first":
		s.line(x, y-r-3, x, y+r+3, "mark first")
	case "retry":
		s.circle(x, y, r-1, "mark retry", m.title)
	case "stop":
		s.rect(x-r+1, y-r+1, 2*r-2, 2*r-2, "mark stop", m.title)
	default:
		s.path([]point{{x, y + r}, {x - r - 1, y - r}, {x + r + 1, y - r}}, true, "mark fault", m.title)
	}
}

// timeAxis writes the times below the lanes.
func timeAxis(s *svg, x scale, y float64) {
	const ticks = 8
	s.line(gutter, y, timelineWidth-rightMargin, y, "axis")
	for _, t := range x.ticks(ticks) {
		at := x.place(t)
		s.line(at, y, at, y+4, "axis")
		s.text(at, y+17, "middle", "tick", duration(t))
	}
}
