package chat

import "ds4/runtime/tokenizer"

// Answer takes apart the tokens of one assistant turn as they are sampled: what
// stands inside the think markers is reasoning, the rest is visible text. The
// markers are recognised by token id: an answer that spells </think> in ordinary
// tokens stays what it is.
//
// Both texts come in whole characters: bytes of an unfinished UTF-8 sequence wait
// for the rest, bytes that are no UTF-8 become U+FFFD.
type Answer struct {
	tok             *tokenizer.Tokenizer
	think, endThink int32
	reasoning       bool
	begun           bool // something was said since the start of the turn
	utf8            tokenizer.UTF8Stream
}

// NewAnswer starts a turn. thinking says that the prompt ended with the think
// marker, so the turn begins inside the reasoning.
func NewAnswer(tok *tokenizer.Tokenizer, thinking bool) *Answer {
	a := &Answer{tok: tok, think: -1, endThink: -1, reasoning: thinking}
	if id, ok := tok.ID(tokenizer.ThinkToken); ok {
		a.think = id
	}
	if id, ok := tok.ID(tokenizer.EndThinkToken); ok {
		a.endThink = id
	}
	return a
}

// Push takes the next token and returns the text that it completes; either part
// may be empty. The end marker inside reasoning ends it; the think marker as the
// first token of a turn begins it. The begin and end tokens of a text say nothing;
// any other control token is shown as its string.
func (a *Answer) Push(id int32) (reasoning, text string) {
	first := !a.begun
	a.begun = true
	switch {
	case id == a.endThink && a.reasoning:
		reasoning = a.utf8.Flush()
		a.reasoning = false
		return reasoning, ""
	case id == a.think && first:
		a.reasoning = true
		return "", ""
	case id == a.tok.BOS() || id == a.tok.EOS():
		return "", ""
	}
	return a.side(a.utf8.Write(a.tok.Bytes(id)))
}

// Reasoning reports whether the turn is still inside its reasoning.
func (a *Answer) Reasoning() bool { return a.reasoning }

// Flush ends the turn and returns what was held back.
func (a *Answer) Flush() (reasoning, text string) {
	return a.side(a.utf8.Flush())
}

func (a *Answer) side(s string) (reasoning, text string) {
	if a.reasoning {
		return s, ""
	}
	return "", s
}
