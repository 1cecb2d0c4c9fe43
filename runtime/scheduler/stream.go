package scheduler

import (
	"strings"

	"ds4/runtime/chat"
	"ds4/runtime/tokenizer"
)

// Limits of a request's stop strings.
const (
	maxStops     = 16
	maxStopBytes = 1024
)

// answer turns sampled tokens into events: reasoning, visible text and tool calls are
// told apart, characters are whole, and stop strings are held back until it is certain
// that they are none.
type answer struct {
	parts *chat.Answer
	stop  stopper
	list  []Event // of the present token
	tok   *tokenizer.Tokenizer
	said  int // bytes of the tokens that are not reasoning, but for one that completes a stop string
	shown int // bytes of visible text
}

func newAnswer(tok *tokenizer.Tokenizer, r *Request) *answer {
	return &answer{
		parts: chat.NewAnswer(tok, chat.AnswerOptions{Thinking: r.Thinking, Tools: r.Tools}),
		stop:  newStopper(r.Stop),
		tok:   tok,
	}
}

// push takes the next token and returns what it completes, valid until the next call.
// stopped says that a stop string is complete: text ends before it, and nothing may be
// pushed any more.
func (a *answer) push(id int32) (events []Event, stopped bool) {
	a.list = a.list[:0]
	reasoning := a.parts.Reasoning()
	stopped = a.take(a.parts.Push(id))
	if !stopped && !reasoning && !a.parts.Reasoning() {
		a.said += len(a.tok.Bytes(id))
	}
	return a.list, stopped
}

// overshot reports whether a stop string began before the token that completed it: then
// what was evaluated is more than what the client got.
func (a *answer) overshot() bool { return a.stop.found != "" && a.shown < a.said }

// flush returns what was held back, at the end of an answer that no stop string
// ended.
func (a *answer) flush() (events []Event, stopped bool) {
	a.list = a.list[:0]
	if stopped = a.take(a.parts.Flush()); !stopped {
		a.text(a.stop.flush())
	}
	return a.list, stopped
}

// take turns parts into events; only visible text is searched for stop strings.
func (a *answer) take(parts []chat.Part) (stopped bool) {
	for _, p := range parts {
		switch p.Kind {
		case chat.PartReasoning:
			a.list = append(a.list, Event{Kind: EventReasoning, Text: p.Text})
		case chat.PartText:
			text, stopped := a.stop.write(p.Text)
			a.text(text)
			if stopped {
				return true
			}
		case chat.PartCall:
			a.text(a.stop.flush()) // no text follows
			a.list = append(a.list, Event{Kind: EventCall, Index: p.Index, Text: p.Text})
		case chat.PartArguments:
			a.list = append(a.list, Event{Kind: EventArguments, Index: p.Index, Text: p.Text})
		case chat.PartCallEnd:
			a.list = append(a.list, Event{Kind: EventCallEnd, Index: p.Index})
		}
	}
	return false
}

func (a *answer) text(text string) {
	if text != "" {
		a.shown += len(text)
		a.list = append(a.list, Event{Kind: EventText, Text: text})
	}
}

// stopper finds the earliest stop string in a stream of text.
type stopper struct {
	stops []string
	held  string
	found string // the one that was complete
}

func newStopper(stops []string) stopper {
	var s stopper
	for _, x := range stops {
		if x != "" {
			s.stops = append(s.stops, x)
		}
	}
	return s
}

// write takes text and returns what is certainly not part of a stop string. If
// one is complete, it returns what stands before it.
func (s *stopper) write(text string) (out string, stopped bool) {
	if len(s.stops) == 0 {
		return text, false
	}
	s.held += text
	at := -1
	for _, x := range s.stops {
		if i := strings.Index(s.held, x); i >= 0 && (at < 0 || i < at) {
			at, s.found = i, x
		}
	}
	if at >= 0 {
		out, s.held = s.held[:at], ""
		return out, true
	}
	keep := s.pending()
	out, s.held = s.held[:len(s.held)-keep], s.held[len(s.held)-keep:]
	return out, false
}

// pending is the length of the longest suffix of held that a stop string begins
// with.
func (s *stopper) pending() int {
	longest := 0
	for _, x := range s.stops {
		for n := min(len(x)-1, len(s.held)); n > longest; n-- {
			if strings.HasSuffix(s.held, x[:n]) {
				longest = n
				break
			}
		}
	}
	return longest
}

func (s *stopper) flush() string {
	out := s.held
	s.held = ""
	return out
}
