package server

import (
	"bytes"
	"encoding/json"
	"strings"

	"ds4/runtime/chat"
)

// freeInput takes the free-form input of a custom tool out of the arguments that carry
// it, {"input": "..."}, while they come. The model may have named it otherwise, or not at
// all: that shows only at the end.
type freeInput struct {
	state     inputState
	arguments []byte // all of them
	raw       []byte // of the string, what is not decoded yet
	text      []byte // decoded
}

type inputState int

const (
	inputOpens  inputState = iota // before the string
	inputInside                   // in it
	inputClosed                   // behind it
	inputOther                    // the arguments begin otherwise
)

// inputOpening is how arguments begin that can be passed on while they come.
const inputOpening = `{"` + chat.FreeArgument + `":"`

// write takes a piece of the arguments and returns the input that it completes.
func (f *freeInput) write(fragment string) string {
	f.arguments = append(f.arguments, fragment...)
	if f.state == inputOpens {
		switch {
		case bytes.HasPrefix(f.arguments, []byte(inputOpening)):
			f.state, fragment = inputInside, string(f.arguments[len(inputOpening):])
		case !strings.HasPrefix(inputOpening, string(f.arguments)):
			f.state = inputOther
		}
	}
	if f.state != inputInside {
		return ""
	}
	f.raw = append(f.raw, fragment...)
	n, closed := wholeEscapes(f.raw)
	var text string
	if json.Unmarshal([]byte(`"`+string(f.raw[:n])+`"`), &text) != nil {
		return "" // then the block is malformed, and no call of it is made
	}
	f.raw = f.raw[n:]
	if closed {
		f.state = inputClosed
	}
	f.text = append(f.text, text...)
	return text
}

// whole is the input at the end of a call; passed says that write has returned all of it.
func (f *freeInput) whole() (input string, passed bool) {
	if f.state == inputClosed {
		return string(f.text), true
	}
	return chat.FreeInput(string(f.arguments)), false
}

// wholeEscapes returns how much of the inside of a JSON string can be decoded already: up
// to its end, or to an escape that is not complete. Two that make up one character belong
// together.
func wholeEscapes(raw []byte) (n int, closed bool) {
	for n < len(raw) {
		switch {
		case raw[n] == '"':
			return n, true
		case raw[n] != '\\':
			n++
			continue
		}
		size := 2
		if n+1 < len(raw) && raw[n+1] == 'u' {
			size = 6
			if highSurrogate(raw[n:]) && (n+6 >= len(raw) || raw[n+6] == '\\' && (n+7 >= len(raw) || raw[n+7] == 'u')) {
				size = 12
			}
		}
		if n+size > len(raw) {
			return n, false
		}
		n += size
	}
	return n, false
}

// highSurrogate reports whether an escape is the first half of two: \uD800 to \uDBFF.
func highSurrogate(escape []byte) bool {
	return len(escape) >= 4 && (escape[2] == 'd' || escape[2] == 'D') && strings.IndexByte("89abAB", escape[3]) >= 0
}
