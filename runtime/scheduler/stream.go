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

// answer turns sampled tokens into the text of events: reasoning and visible
// text are split by control tokens, characters are whole, and stop strings are
// held back until it is certain that they are none.
type answer struct {
	parts *chat.Answer
	stop  stopper
}

func newAnswer(tok *tokenizer.Tokenizer, r *Request) *answer {
	return &answer{parts: chat.NewAnswer(tok, r.Thinking), stop: newStopper(r.Stop)}
}

// push takes the next token. stopped says that a stop string is complete: text
// ends before it, and nothing may be pushed any more.
func (a *answer) push(id int32) (reasoning, text string, stopped bool) {
	reasoning, text = a.parts.Push(id)
	if text != "" {
		text, stopped = a.stop.write(text)
	}
	return reasoning, text, stopped
}

// flush returns what was held back, at the end of an answer that no stop string
// ended.
func (a *answer) flush() (reasoning, text string, stopped bool) {
	reasoning, text = a.parts.Flush()
	text, stopped = a.stop.write(text)
	if !stopped {
		text += a.stop.flush()
	}
	return reasoning, text, stopped
}

// stopper finds the earliest stop string in a stream of text.
type stopper struct {
	stops []string
	held  string
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
			at = i
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
