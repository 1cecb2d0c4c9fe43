package chat

import (
	"bytes"
	"slices"
	"strings"

	"ds4/runtime/tokenizer"
)

// CallsForced is how an answer begins that must call a tool: the block up to the name of
// the first call, or up to its parameters if name says which. It is cache text.
func CallsForced(name string) []byte {
	text := []byte("\n\n" + blockOpen + "\n" + invokeOpen)
	if name == "" {
		return text
	}
	return append(tokenizer.AppendCacheText(text, escapeAttribute.Replace(name)), "\">\n"...)
}

// CallsEnd closes a block behind one of its calls. It is cache text.
func CallsEnd() []byte { return []byte(blockClose) }

// NextName limits the choice of a tool: while the name of a call is being written, it
// returns a test for the bytes of the next token, which passes those that go on towards
// one of the names and its end. nil elsewhere.
func (a *Answer) NextName(names []string) func(token []byte) bool {
	if a.calls == nil || a.reasoning || a.calls.state != inName {
		return nil
	}
	written := string(a.calls.held)
	var rest []string
	for _, name := range names {
		if tail, ok := strings.CutPrefix(escapeAttribute.Replace(name)+`">`, written); ok {
			rest = append(rest, tail)
		}
	}
	return func(token []byte) bool {
		return len(token) > 0 && slices.ContainsFunc(rest, func(tail string) bool {
			return strings.HasPrefix(tail, string(token)) || bytes.HasPrefix(token, []byte(tail))
		})
	}
}
