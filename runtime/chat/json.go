package chat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// jsonValue passes a JSON value on while it is sampled. Objects, arrays and strings
// go on as they come; a number or a word waits for its end, and what is none becomes
// a string. Raw control characters inside strings are escaped.
type jsonValue struct {
	all      strings.Builder // what was passed on, or waits
	compound bool
	quoted   bool // inside a string
	escaped  bool // behind a backslash
}

func (v *jsonValue) inString() bool { return v.quoted }

// write takes text and returns what may be passed on.
func (v *jsonValue) write(text string) string {
	if v.all.Len() == 0 {
		text = strings.TrimLeft(text, blank)
		v.compound = text != "" && strings.IndexByte(`{["`, text[0]) >= 0
	}
	if !v.compound {
		v.all.WriteString(text)
		return ""
	}
	var out strings.Builder
	for i := range len(text) {
		c := text[i]
		switch {
		case v.quoted && c < ' ':
			fmt.Fprintf(&out, `\u%04x`, c)
			v.escaped = false
			continue
		case v.escaped:
			v.escaped = false
		case v.quoted && c == '\\':
			v.escaped = true
		case c == '"':
			v.quoted = !v.quoted
		}
		out.WriteByte(c)
	}
	v.all.WriteString(out.String())
	return out.String()
}

// end returns what is left to pass on; ok is false if that is no JSON.
func (v *jsonValue) end() (rest string, ok bool) {
	text := v.all.String()
	switch valid := json.Valid([]byte(text)); {
	case v.compound:
		return "", valid
	case valid:
		return strings.TrimRight(text, blank), true
	}
	return `"` + quoted(text) + `"`, true
}

// quoted writes text as it stands inside a JSON string, without the quotes.
func quoted(text string) string {
	if text == "" {
		return ""
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		return "" // strings have no errors
	}
	s := strings.TrimSuffix(b.String(), "\n")
	return s[1 : len(s)-1]
}
