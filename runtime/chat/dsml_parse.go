package chat

import (
	"bytes"
	"strings"

	"ds4/runtime/tokenizer"
)

// parseState is where a callParser stands.
type parseState int

const (
	inText      parseState = iota // before the block: what comes is visible
	inBlock                       // between calls
	inName                        // of a tool
	inInvoke                      // between parameters
	inParameter                   // in a parameter's name, up to its value
	inString                      // in a value that is text
	inJSON                        // in a value that is JSON
	inBroken                      // the block is no block: it is read up to its end and not obeyed
	afterBlock                    // it is closed
)

// callParser takes the visible part of an answer apart as it is sampled: the text
// before the block of calls, and the calls. It works on cache text, in which text
// cannot be taken for a tag. It holds back only what may become a tag, and the blank
// space before the block, which nobody should see.
type callParser struct {
	emit  func(Part)
	state parseState
	held  []byte // cache text that is not decided yet
	shown int    // bytes of cache text that were passed on as text
	block []byte // cache text of the block so far and of the blank space before it

	calls      int // begun
	parameters int // of the present call
	utf8       tokenizer.UTF8Stream
	json       jsonValue
}

// Write takes the cache text of whole tokens. What follows the block is ignored.
func (p *callParser) Write(cache []byte) {
	if p.state == afterBlock {
		return
	}
	p.held = append(p.held, cache...)
	for p.step() {
	}
}

// Flush shows what was held back before a block that never began. A tag that was cut stays
// where it is: no reader can do anything with it.
func (p *callParser) Flush() {
	if p.state == inText {
		if !p.Syntax() {
			p.show(p.held)
			p.held = nil
		}
		p.emit(Part{Kind: PartText, Text: p.utf8.Flush()})
	}
}

// Syntax reports whether what comes next is prescribed by the format: tags and the
// punctuation of JSON, in contrast to the contents of values.
func (p *callParser) Syntax() bool {
	switch p.state {
	case inText:
		return bytes.Contains(p.held, []byte("<"+dsml))
	case inBlock, inName, inInvoke, inParameter:
		return true
	case inString:
		return p.insideTag()
	case inJSON:
		return p.insideTag() || !p.json.inString()
	}
	return false
}

// insideTag reports whether what is held can be nothing but a closing tag.
func (p *callParser) insideTag() bool { return bytes.Contains(p.held, []byte("/"+dsml)) }

// step decides some of what is held; false if that needs more.
func (p *callParser) step() bool {
	switch p.state {
	case inText:
		return p.stepText()
	case inBlock:
		return p.choose(func() { p.state = inName }, invokeOpen, p.close, blockClose)
	case inName:
		return p.stepName()
	case inInvoke:
		return p.choose(func() { p.state = inParameter }, parameterOpen, p.endCall, invokeClose)
	case inParameter:
		return p.stepParameter()
	case inString:
		return p.stepString()
	case inJSON:
		return p.stepJSON()
	case inBroken:
		return p.stepBroken()
	}
	return false
}

// take moves n bytes of what is held to the block.
func (p *callParser) take(n int) {
	p.block = append(p.block, p.held[:n]...)
	p.held = p.held[n:]
}

const blank = " \t\r\n"

func (p *callParser) stepText() bool {
	at := bytes.Index(p.held, []byte(blockOpen))
	if at < 0 {
		text := bytes.TrimRight(p.held[:len(p.held)-partial(p.held, blockOpen)], blank)
		p.show(text)
		p.held = p.held[len(text):]
		return false
	}
	text := bytes.TrimRight(p.held[:at], blank)
	p.show(text)
	p.emit(Part{Kind: PartText, Text: p.utf8.Flush()})
	p.held = p.held[len(text):]
	p.take(at - len(text) + len(blockOpen))
	p.state = inBlock
	return true
}

func (p *callParser) show(cache []byte) {
	p.shown += len(cache)
	p.emit(Part{Kind: PartText, Text: p.utf8.Write(plain(cache))})
}

// choose passes over blank space and takes the one of two tags that follows.
func (p *callParser) choose(first func(), firstTag string, second func(), secondTag string) bool {
	p.take(len(p.held) - len(bytes.TrimLeft(p.held, blank)))
	held := string(p.held[:min(len(p.held), len(firstTag)+len(secondTag))]) // of what may be much
	switch {
	case strings.HasPrefix(held, firstTag):
		p.take(len(firstTag))
		first()
		return true
	case strings.HasPrefix(held, secondTag):
		p.take(len(secondTag))
		second()
		return true
	case strings.HasPrefix(firstTag, held), strings.HasPrefix(secondTag, held):
		return false
	}
	return p.giveUp()
}

// attribute reads a value up to the quote that ends it, of which the caller takes
// n+1 bytes.
func (p *callParser) attribute(limit int) (value string, n int, ok bool) {
	const longestEntity = len("&quot;")
	n = bytes.IndexByte(p.held, '"')
	if n < 0 {
		if len(p.held) > longestEntity*limit {
			p.giveUp()
		}
		return "", 0, false
	}
	value = unescapeAttribute.Replace(string(p.held[:n]))
	if len(value) > limit || strings.IndexByte(value, tokenizer.CacheMark) >= 0 {
		p.giveUp()
		return "", 0, false
	}
	return value, n, true
}

func (p *callParser) stepName() bool {
	name, n, ok := p.attribute(MaxNameBytes)
	if !ok {
		return p.state == inBroken
	}
	switch rest := p.held[n:]; {
	case len(rest) < len(`">`):
		return false
	case name == "" || rest[1] != '>' || p.calls == MaxCalls:
		return p.giveUp()
	}
	p.take(n + len(`">`))
	p.emit(Part{Kind: PartCall, Index: p.calls, Text: toValid(name)})
	p.calls++
	p.parameters = 0
	p.state = inInvoke
	return true
}

func (p *callParser) endCall() {
	end := "}"
	if p.parameters == 0 {
		end = "{}"
	}
	p.argument(end)
	p.emit(Part{Kind: PartCallEnd, Index: p.calls - 1})
	p.state = inBlock
}

func (p *callParser) argument(text string) {
	p.emit(Part{Kind: PartArguments, Index: p.calls - 1, Text: text})
}

func (p *callParser) stepParameter() bool {
	name, n, ok := p.attribute(maxParameterBytes)
	if !ok {
		return p.state == inBroken
	}
	rest := string(p.held[n+1 : min(len(p.held), n+1+len(stringFalse))])
	begin := ",\"" // one more argument
	if p.parameters == 0 {
		begin = "{\""
	}
	begin += quoted(toValid(name)) + "\":"
	switch {
	case strings.HasPrefix(rest, stringTrue):
		p.take(n + 1 + len(stringTrue))
		p.argument(begin + `"`)
		p.state = inString
	case strings.HasPrefix(rest, stringFalse):
		p.take(n + 1 + len(stringFalse))
		p.argument(begin)
		p.json = jsonValue{}
		p.state = inJSON
	case strings.HasPrefix(stringTrue, rest), strings.HasPrefix(stringFalse, rest):
		return false
	default:
		return p.giveUp()
	}
	p.parameters++
	return true
}

func (p *callParser) stepString() bool {
	end := bytes.Index(p.held, []byte(parameterClose))
	before := p.held
	if end >= 0 {
		before = p.held[:end]
	}
	escaped := bytes.Index(before, []byte(escapedClose))
	switch {
	case escaped >= 0:
		p.content(p.held[:escaped])
		p.argument(quoted(p.utf8.Flush() + "</" + tokenizer.DSMLToken + "parameter>"))
		p.take(escaped + len(escapedClose))
		return true
	case end >= 0:
		p.content(p.held[:end])
		p.argument(quoted(p.utf8.Flush()) + `"`)
		p.take(end + len(parameterClose))
		p.state = inInvoke
		return true
	}
	n := len(p.held) - max(partial(p.held, parameterClose), partial(p.held, escapedClose))
	p.content(p.held[:n])
	p.take(n)
	return false
}

// content emits a piece of a string value.
func (p *callParser) content(cache []byte) { p.argument(quoted(p.utf8.Write(plain(cache)))) }

func (p *callParser) stepJSON() bool {
	end := bytes.Index(p.held, []byte(parameterClose))
	if end < 0 {
		n := len(p.held) - partial(p.held, parameterClose)
		p.argument(p.json.write(p.utf8.Write(plain(p.held[:n]))))
		p.take(n)
		return false
	}
	p.argument(p.json.write(p.utf8.Write(plain(p.held[:end])) + p.utf8.Flush()))
	rest, ok := p.json.end()
	if !ok {
		return p.giveUp()
	}
	p.argument(rest)
	p.take(end + len(parameterClose))
	p.state = inInvoke
	return true
}

// giveUp is for a block that breaks the rules of the format.
func (p *callParser) giveUp() bool {
	p.state = inBroken
	return true
}

func (p *callParser) stepBroken() bool {
	at := bytes.Index(p.held, []byte(blockClose))
	if at < 0 {
		p.take(len(p.held) - partial(p.held, blockClose))
		return false
	}
	p.take(at + len(blockClose))
	p.calls = -1
	p.close()
	return false
}

func (p *callParser) close() {
	p.state = afterBlock
	p.held = nil
}

// closed reports whether the block is complete, and whether it keeps to the format.
// A block without a single call does not.
func (p *callParser) closed() (complete, good bool) {
	return p.state == afterBlock, p.state == afterBlock && p.calls > 0
}

// open reports whether a block has begun and not ended.
func (p *callParser) open() bool { return p.state != inText && p.state != afterBlock }

// partial is the length of the longest end of b that tag begins with, but not all of
// tag.
func partial(b []byte, tag string) int {
	for n := min(len(b), len(tag)-1); n > 0; n-- {
		if string(b[len(b)-n:]) == tag[:n] {
			return n
		}
	}
	return 0
}

// plain turns the cache text of whole tokens into their bytes.
func plain(cache []byte) []byte {
	if bytes.IndexByte(cache, tokenizer.CacheMark) < 0 {
		return cache
	}
	out := make([]byte, 0, len(cache))
	for i := 0; i < len(cache); i++ {
		if cache[i] == tokenizer.CacheMark && i+1 < len(cache) {
			i++ // the next byte is a literal mark, or a control token's string begins
		}
		out = append(out, cache[i])
	}
	return out
}

// toValid replaces bytes that are no UTF-8.
func toValid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
