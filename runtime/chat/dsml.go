package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	"ds4/runtime/tokenizer"
)

// Tool calls are written in DSML: tags whose name is preceded by the control token
// tokenizer.DSMLToken. Only that token makes a tag. Text that spells one, whoever
// wrote it, stays text, in the prompt and in the answer.
//
//	<DSML|tool_calls>
//	<DSML|invoke name="read_file">
//	<DSML|parameter name="path" string="true">src/a&b.go</DSML|parameter>
//	<DSML|parameter name="lines" string="false">[1, 20]</DSML|parameter>
//	</DSML|invoke>
//	</DSML|tool_calls>

// Limits of one block of calls.
const (
	MaxCalls          = 128
	MaxNameBytes      = 256     // of a tool
	maxParameterBytes = 4 << 10 // of a parameter's name
)

// Tags as cache text.
var (
	dsml           = string(tokenizer.AppendCacheControl(nil, tokenizer.DSMLToken))
	blockOpen      = "<" + dsml + "tool_calls>"
	blockClose     = "</" + dsml + "tool_calls>"
	invokeOpen     = "<" + dsml + `invoke name="`
	invokeClose    = "</" + dsml + "invoke>"
	parameterOpen  = "<" + dsml + `parameter name="`
	parameterClose = "</" + dsml + "parameter>"
	// What the prompt tells the model to write where a value holds the closing tag.
	escapedClose = "&lt;/" + dsml + "parameter>"
	stringTrue   = ` string="true">`
	stringFalse  = ` string="false">`
)

// attribute values are escaped, contents are not.
var (
	escapeAttribute   = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")
	unescapeAttribute = strings.NewReplacer("&amp;", "&", "&lt;", "<", "&gt;", ">", "&quot;", `"`, "&apos;", "'")
)

// appendCalls writes calls in the canonical form, as cache text: what a prompt holds
// when the bytes that were sampled are not known. Parameters stand in the order of
// the tool's schema; those that it does not name follow in theirs.
func appendCalls(dst []byte, calls []ToolCall, tools []Tool) []byte {
	dst = append(dst, "\n\n"...)
	dst = append(dst, blockOpen...)
	dst = append(dst, '\n')
	for _, c := range calls {
		dst = append(dst, invokeOpen...)
		dst = tokenizer.AppendCacheText(dst, escapeAttribute.Replace(c.Name))
		dst = append(dst, "\">\n"...)
		for _, p := range parametersOf(c, tools) {
			dst = p.append(dst)
		}
		dst = append(dst, invokeClose...)
		dst = append(dst, '\n')
	}
	return append(dst, blockClose...)
}

// parameter is one argument of a call.
type parameter struct {
	name string
	text string // of a string its content, else JSON
	str  bool
}

func (p parameter) append(dst []byte) []byte {
	dst = append(dst, parameterOpen...)
	dst = tokenizer.AppendCacheText(dst, escapeAttribute.Replace(p.name))
	dst = append(dst, '"')
	if p.str {
		dst = append(dst, stringTrue...)
	} else {
		dst = append(dst, stringFalse...)
	}
	dst = tokenizer.AppendCacheText(dst, p.text)
	dst = append(dst, parameterClose...)
	return append(dst, '\n')
}

// parametersOf takes the arguments of a call apart. What is no JSON object becomes
// one string.
func parametersOf(c ToolCall, tools []Tool) []parameter {
	if strings.TrimSpace(c.Arguments) == "" {
		return nil
	}
	list, err := objectFields(c.Arguments)
	if err != nil {
		return []parameter{{name: "arguments", text: c.Arguments, str: true}}
	}
	var order []string
	if i := slices.IndexFunc(tools, func(t Tool) bool { return t.Name == c.Name }); i >= 0 {
		order = propertyOrder(tools[i].Parameters)
	}
	rank := make(map[string]int, len(order))
	for i, name := range order {
		rank[name] = i - len(order)
	}
	slices.SortStableFunc(list, func(a, b parameter) int { return rank[a.name] - rank[b.name] })
	return list
}

// objectFields reads the fields of a JSON object in their order.
func objectFields(text string) ([]parameter, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	tok, err := dec.Token()
	if err != nil || tok != json.Delim('{') {
		return nil, errors.Join(errNoObject, err)
	}
	var list []parameter
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, err
		}
		key, _ := name.(string)
		list = append(list, newParameter(key, raw))
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errNoObject
	}
	return list, nil
}

var errNoObject = errors.New("chat: not a JSON object")

// newParameter decides how a value is written. A string that has no exact form as
// text, such as half a surrogate pair, stays JSON.
func newParameter(name string, raw json.RawMessage) parameter {
	if raw[0] == '"' {
		var s string
		if json.Unmarshal(raw, &s) == nil && (!strings.ContainsRune(s, '\uFFFD') || !bytes.Contains(bytes.ToLower(raw), []byte(`\ud`))) {
			return parameter{name: name, text: s, str: true}
		}
	}
	var compact bytes.Buffer
	if json.Compact(&compact, raw) != nil {
		return parameter{name: name, text: string(raw)}
	}
	return parameter{name: name, text: compact.String()}
}

// propertyOrder lists the properties of a JSON Schema as it names them.
func propertyOrder(schema string) []string {
	fields, err := objectFields(schema)
	if err != nil {
		return nil
	}
	i := slices.IndexFunc(fields, func(p parameter) bool { return p.name == "properties" && !p.str })
	if i < 0 {
		return nil
	}
	properties, err := objectFields(fields[i].text)
	if err != nil {
		return nil
	}
	names := make([]string, len(properties))
	for i, p := range properties {
		names[i] = p.name
	}
	return names
}

// decodeExact reads one JSON value without rounding numbers.
func decodeExact(text string, v any) error {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errNoObject
	}
	return nil
}
