package chat

import (
	"encoding/json"
	"fmt"
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
// same text if one of them is none.
func SameArguments(a, b string) bool {
	if a == b {
		return true
	}
	var x, y any
	if decodeExact(a, &x) != nil || decodeExact(b, &y) != nil {
		return false
	}
	p, errP := json.Marshal(x) // sorts the keys
	q, errQ := json.Marshal(y)
	return errP == nil && errQ == nil && string(p) == string(q)
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
