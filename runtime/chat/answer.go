package chat

import (
	"bytes"
	"strings"

	"ds4/runtime/tokenizer"
)

// Answer takes apart the tokens of one assistant turn as they are sampled: what
// stands inside the think markers is reasoning, the rest is visible text and, if the
// turn may have them, tool calls. Markers are recognised by token id: an answer that
// spells </think> in ordinary tokens stays what it is, and so does a tag.
//
// All texts come in whole characters: bytes of an unfinished UTF-8 sequence wait
// for the rest, bytes that are no UTF-8 become U+FFFD.
type Answer struct {
	tok             *tokenizer.Tokenizer
	think, endThink int32
	reasoning       bool
	begun           bool // something was said since the start of the turn
	utf8            tokenizer.UTF8Stream
	calls           *callParser // nil: tags are text
	cache           []byte      // scratch
	parts           []Part      // of the present token

	pushed   int       // tokens
	literals []int     // numbers of control tokens that were shown as text
	controls []control // of the visible part, if the turn may call tools
	fed      int       // bytes of cache text of the visible part, if the turn may call tools
}

// control is a control token that may be part of a block of calls.
type control struct{ number, at int }

// AnswerOptions say how a turn begins and what it may hold.
type AnswerOptions struct {
	Thinking bool // the prompt ended with the think marker: the turn begins inside the reasoning
	Tools    bool // the turn may call tools
}

// NewAnswer starts a turn.
func NewAnswer(tok *tokenizer.Tokenizer, opt AnswerOptions) *Answer {
	a := &Answer{tok: tok, think: -1, endThink: -1, reasoning: opt.Thinking}
	if id, ok := tok.ID(tokenizer.ThinkToken); ok {
		a.think = id
	}
	if id, ok := tok.ID(tokenizer.EndThinkToken); ok {
		a.endThink = id
	}
	if opt.Tools {
		a.calls = &callParser{emit: a.put}
	}
	return a
}

// put adds a part, or joins it to the one before.
func (a *Answer) put(p Part) {
	if p.Text == "" && p.Kind != PartCallEnd {
		return
	}
	if n := len(a.parts); n > 0 && a.parts[n-1].Kind == p.Kind && a.parts[n-1].Index == p.Index &&
		p.Kind != PartCall && p.Kind != PartCallEnd {
		a.parts[n-1].Text += p.Text
		return
	}
	a.parts = append(a.parts, p)
}

// Push takes the next token and returns what it completes, valid until the next call.
// The end marker inside reasoning ends it; the think marker as the first token of a
// turn begins it. The begin and end tokens of a text say nothing; any other control
// token is shown as its string.
func (a *Answer) Push(id int32) []Part {
	a.parts = a.parts[:0]
	first := !a.begun
	a.begun = true
	defer func() { a.pushed++ }()
	switch {
	case id == a.endThink && a.reasoning:
		a.put(Part{Kind: PartReasoning, Text: a.utf8.Flush()})
		a.reasoning = false
	case id == a.think && first:
		a.reasoning = true
	case id == a.tok.BOS() || id == a.tok.EOS():
	case a.calls != nil && !a.reasoning:
		if a.tok.Control(id) {
			a.controls = append(a.controls, control{a.pushed, a.fed})
		}
		a.cache = a.tok.CacheText(a.cache[:0], id)
		a.fed += len(a.cache)
		a.calls.Write(a.cache)
	default:
		kind := PartText
		if a.reasoning {
			kind = PartReasoning
		}
		if a.tok.Control(id) {
			a.literals = append(a.literals, a.pushed)
		}
		a.put(Part{Kind: kind, Text: a.utf8.Write(a.tok.Bytes(id))})
	}
	return a.parts
}

// Literals are the numbers of the tokens so far, from 0, that are control tokens and were
// shown as text: inside the reasoning, in a turn without tools, before a block of calls,
// or in one that is malformed. Who sends the turn back sends them as text. The first
// known ones are left out; later calls add to the list and change nothing of it.
func (a *Answer) Literals(known int) (list []int) {
	list = append(list, a.literals[min(known, len(a.literals)):]...)
	known = max(known-len(a.literals), 0)
	for _, c := range a.controls[min(known, len(a.controls)):] {
		if closed, good := a.calls.closed(); c.at >= a.calls.shown && (!closed || good) {
			break
		}
		list = append(list, c.number)
	}
	return list
}

// Settled reports whether what was said so far is certain to stay what it is: not inside a
// block of calls, nor in what may become one.
func (a *Answer) Settled() bool {
	return a.calls == nil || a.reasoning || a.calls.state == afterBlock || a.calls.state == inText && !a.calls.Syntax()
}

// Reasoning reports whether the turn is still inside its reasoning.
func (a *Answer) Reasoning() bool { return a.reasoning }

// Syntax reports whether the next token is prescribed by the format of tool calls, so
// that it should be the most likely one whatever the sampling.
func (a *Answer) Syntax() bool { return a.calls != nil && !a.reasoning && a.calls.Syntax() }

// Flush ends the turn and returns what was held back.
func (a *Answer) Flush() []Part {
	a.parts = a.parts[:0]
	kind := PartText
	if a.reasoning {
		kind = PartReasoning
	}
	a.put(Part{Kind: kind, Text: a.utf8.Flush()})
	if a.calls != nil {
		a.calls.Flush()
	}
	return a.parts
}

// Block is the block of tool calls of a turn.
type Block struct {
	Closed bool // it is complete: the turn ends here
	Open   bool // it has begun and is not complete
	Good   bool // it is complete and keeps to the format
	// Cache is what was sampled, from the blank space before the block on, as cache
	// text. Rendered after the same visible text it gives the same bytes.
	Cache []byte
}

// Text is the block as a reader sees it.
func (b Block) Text() string { return toValid(string(plain(b.Cache))) }

// Block returns what there is of a block of calls. The turn ends with the first one
// that is closed.
func (a *Answer) Block() Block {
	if a.calls == nil {
		return Block{}
	}
	closed, good := a.calls.closed()
	return Block{Closed: closed, Open: a.calls.open(), Good: good, Cache: bytes.Clone(a.calls.block)}
}

// Ended reports whether the turn is over because its block of calls is closed.
func (a *Answer) Ended() bool { return a.calls != nil && a.calls.state == afterBlock }

// Begun reports whether a block of calls has begun, ended or not.
func (a *Answer) Begun() bool { return a.calls != nil && a.calls.state != inText }

// ParseBlock reads the calls of a block, given as Block.Cache; ok is false if it is
// not exactly one good block, or holds control tokens besides the tags.
func ParseBlock(cache []byte) (calls []ToolCall, ok bool) {
	rest := bytes.ReplaceAll(cache, []byte(dsml), nil)
	if bytes.IndexByte(rest, tokenizer.CacheMark) >= 0 || !bytes.HasSuffix(cache, []byte(blockClose)) {
		return nil, false
	}
	var arguments strings.Builder // of the last call
	p := &callParser{emit: func(part Part) {
		switch part.Kind {
		case PartText:
			ok = ok || part.Text != ""
		case PartCall:
			calls = append(calls, ToolCall{Name: part.Text})
		case PartArguments:
			arguments.WriteString(part.Text)
		case PartCallEnd:
			calls[part.Index].Arguments = arguments.String()
			arguments.Reset()
		}
	}}
	p.Write(cache)
	text := ok
	_, good := p.closed()
	return calls, good && !text && len(p.block) == len(cache)
}
