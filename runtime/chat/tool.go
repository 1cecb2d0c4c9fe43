package chat

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Tool is a function that the model may call.
type Tool struct {
	Name        string
	Description string
	// Parameters is the JSON Schema of the arguments as the client wrote it; "" means
	// that there are none.
	Parameters string
}

// ToolCall is one call that an assistant turn made.
type ToolCall struct {
	ID        string
	Name      string
	Arguments string // a JSON object; of a client that sends something else, that
	// FreeForm says that the client knows the call by its FreeInput only.
	FreeForm bool
}

// FreeArgument is the one argument that a tool with free-form input has for the model.
const FreeArgument = "input"

// FreeInput takes free-form input out of the arguments that carry it. The model may have
// named it otherwise, or not at all: then it is all that there is.
func FreeInput(arguments string) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(arguments), &fields) != nil {
		return arguments
	}
	var input string
	if raw, ok := fields[FreeArgument]; ok && json.Unmarshal(raw, &input) == nil {
		return input
	}
	for _, raw := range fields {
		if len(fields) == 1 && json.Unmarshal(raw, &input) == nil {
			return input
		}
	}
	return arguments
}

// ChoiceKind says what a client wants of the tools that it offers.
type ChoiceKind int

const (
	ChoiceAuto     ChoiceKind = iota // the model decides
	ChoiceNone                       // the model does not see them
	ChoiceRequired                   // it must call one
	ChoiceNamed                      // it must call this one
)

// ToolChoice is the choice of a request. Name is set for ChoiceNamed.
type ToolChoice struct {
	Kind ChoiceKind
	Name string
}

// SameArguments reports whether two argument texts are the same JSON value, or the
// same text if one of them is none. Numbers are compared by value: clients that read
// them write 1 for 1.0.
func SameArguments(a, b string) bool {
	if a == b {
		return true
	}
	var x, y any
	return decodeExact(a, &x) == nil && decodeExact(b, &y) == nil && sameJSON(x, y)
}

func sameJSON(x, y any) bool {
	switch x := x.(type) {
	case map[string]any:
		y, ok := y.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for name, v := range x {
			w, ok := y[name]
			if !ok || !sameJSON(v, w) {
				return false
			}
		}
		return true
	case []any:
		y, ok := y.([]any)
		return ok && slices.EqualFunc(x, y, sameJSON)
	case json.Number:
		y, ok := y.(json.Number)
		return ok && sameNumber(x.String(), y.String())
	}
	return x == y // strings, booleans, null
}

// maxNumberBytes bounds the numbers that are compared by value; so does the range of
// float64, since an exponent can ask for any amount of memory.
const maxNumberBytes = 64

func sameNumber(a, b string) bool {
	if a == b {
		return true
	}
	if len(a) > maxNumberBytes || len(b) > maxNumberBytes {
		return false
	}
	f, errF := strconv.ParseFloat(a, 64)
	g, errG := strconv.ParseFloat(b, 64)
	if errF != nil || errG != nil || f != g || f == 0 { // 1e-99999 is 0, too
		return f == 0 && g == 0 && errF == nil && errG == nil && isZero(a) && isZero(b)
	}
	x, okX := new(big.Rat).SetString(a)
	y, okY := new(big.Rat).SetString(b)
	return okX && okY && x.Cmp(y) == 0
}

// isZero reports whether the digits of a number before its exponent are all zero.
func isZero(s string) bool {
	s, _, _ = strings.Cut(strings.ToLower(s), "e")
	return strings.Trim(s, "-0.") == ""
}

// checkTools refuses tools that the prompt has no place for.
func checkTools(tools []Tool) error {
	seen := make(map[string]bool, len(tools))
	for i, t := range tools {
		switch {
		case t.Name == "":
			return fmt.Errorf("chat: tool %d has no name: %w", i, ErrTools)
		case len(t.Name) > MaxNameBytes:
			return fmt.Errorf("chat: tool %d has a name of %d bytes, the limit is %d: %w", i, len(t.Name), MaxNameBytes, ErrTools)
		case seen[t.Name]:
			return fmt.Errorf("chat: two tools are named %.64q: %w", t.Name, ErrTools)
		case t.Parameters != "" && !json.Valid([]byte(t.Parameters)):
			return fmt.Errorf("chat: the parameters of tool %.64q are not JSON: %w", t.Name, ErrTools)
		}
		seen[t.Name] = true
	}
	return nil
}
