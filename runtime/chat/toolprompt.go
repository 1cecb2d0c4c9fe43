package chat

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"ds4/runtime/tokenizer"
)

// The section that offers tools, in the words that the models were trained with. Tags
// and think markers in it are control tokens.
var (
	toolsIntro = `## Tools

You have access to a set of tools to help answer the user question. You can invoke tools by writing a "` + blockOpen + `" block like the following:

` + blockOpen + `
` + invokeOpen + `$TOOL_NAME">
` + parameterOpen + `$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE` + parameterClose + `
...
` + invokeClose + `
` + invokeOpen + `$TOOL_NAME2">
...
` + invokeClose + `
` + blockClose + "\n\n" +
		"String parameters should be specified as raw text and set `string=\"true\"`. Preserve characters such as `>`, `&`, and `&&` exactly; " +
		"never replace normal string characters with XML or HTML entity escapes. Only if a string value itself contains the exact closing " +
		"parameter tag `" + parameterClose + "`, write that tag as `" + escapedClose + "` inside the value. For all other types (numbers, " +
		"booleans, arrays, objects), pass the value in JSON format and set `string=\"false\"`.\n\n" +
		"If thinking_mode is enabled (triggered by " + thinkMark + "), you MUST output your complete reasoning inside " + thinkMark + "..." +
		endThinkMark + " BEFORE any tool calls or final response.\n\nOtherwise, output directly after " + endThinkMark +
		" with tool calls or final response.\n\n### Available Tool Schemas\n\n"

	toolsOutro = "\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls. " +
		"Use the exact parameter names from the schemas."

	thinkMark    = string(tokenizer.AppendCacheControl(nil, tokenizer.ThinkToken))
	endThinkMark = string(tokenizer.AppendCacheControl(nil, tokenizer.EndThinkToken))
)

// toolSection writes the section for some tools: one schema a line.
func (b *builder) toolSection(tools []Tool) {
	b.cache(toolsIntro)
	for _, t := range tools {
		b.text(t.schema() + "\n")
	}
	b.cache(toolsOutro)
}

// schema is the JSON object that describes a tool to the model, spaced as the
// reference encoder spaces it.
func (t Tool) schema() string {
	s := `{"name": "` + quoted(t.Name) + `"`
	if t.Description != "" {
		s += `, "description": "` + quoted(t.Description) + `"`
	}
	if t.Parameters != "" {
		s += `, "parameters": ` + spacedJSON(t.Parameters)
	}
	return s + "}"
}

// spacedJSON writes valid JSON on one line with a space behind each comma and colon.
func spacedJSON(text string) string {
	var compact bytes.Buffer
	if json.Compact(&compact, []byte(text)) != nil {
		return text
	}
	out := make([]byte, 0, compact.Len()+compact.Len()/8)
	quoted, escaped := false, false
	for _, c := range compact.Bytes() {
		out = append(out, c)
		switch {
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ',' || c == ':'):
			out = append(out, ' ')
		}
	}
	return string(out)
}

// Tags around what a tool returned. They are ordinary text; one inside is made
// harmless, so that a result cannot end itself and go on as the user.
const (
	resultOpen     = "<tool_result>"
	resultClose    = "</tool_result>"
	resultEscaped  = "&lt;/tool_result>"
	turnSeparation = "\n\n" // between results, and before what the user adds
)

// userTurn writes one user turn: the results of calls in the order of the calls, and
// what the user says.
func (b *builder) userTurn(turn []Message, calls []ToolCall) {
	rank := func(m Message) int {
		if m.Role != RoleTool {
			return len(calls) + 1
		}
		if i := slices.IndexFunc(calls, func(c ToolCall) bool { return c.ID == m.CallID }); i >= 0 {
			return i
		}
		return len(calls)
	}
	turn = slices.Clone(turn)
	slices.SortStableFunc(turn, func(x, y Message) int { return rank(x) - rank(y) })
	b.control(tokenizer.UserToken)
	for i, m := range turn {
		if i > 0 {
			b.text(turnSeparation)
		}
		if m.Role == RoleTool {
			b.text(resultOpen + strings.ReplaceAll(m.Content, resultClose, resultEscaped) + resultClose)
			continue
		}
		b.text(m.Content)
	}
}

// assistantCalls writes the calls of an assistant turn: as they were sampled if that is
// known and says the same, else in the canonical form.
func (b *builder) assistantCalls(calls []ToolCall, opt Options) {
	if opt.Replay != nil {
		if block, ok := opt.Replay(calls[0].ID); ok && sameCalls(block, calls) {
			b.cache(string(block))
			return
		}
	}
	b.cache(string(appendCalls(nil, calls, opt.Tools)))
}

// sameCalls reports whether a block makes just these calls. A client may have edited
// its history, and what comes from a file may be anything.
func sameCalls(block []byte, calls []ToolCall) bool {
	parsed, ok := ParseBlock(block)
	return ok && slices.EqualFunc(parsed, calls, func(a, b ToolCall) bool {
		same := SameArguments(a.Arguments, b.Arguments) || b.FreeForm && FreeInput(a.Arguments) == FreeInput(b.Arguments)
		return a.Name == b.Name && same
	})
}

// cache adds cache text of this package's own making: tags and think markers become
// control tokens.
func (b *builder) cache(text string) {
	for text != "" {
		i := strings.IndexByte(text, tokenizer.CacheMark)
		if i < 0 {
			b.text(text)
			return
		}
		b.text(text[:i])
		text = text[i+1:]
		token := ""
		for _, name := range [...]string{tokenizer.DSMLToken, tokenizer.ThinkToken, tokenizer.EndThinkToken} {
			if strings.HasPrefix(text, name) {
				token = name
			}
		}
		if token == "" { // a literal mark, which is doubled
			b.text("\xff")
			text = strings.TrimPrefix(text, "\xff")
			continue
		}
		b.control(token)
		text = text[len(token):]
	}
}
