package faults

import (
	"fmt"
	"strings"
)

// Rule is one fault inside the runtime: a point, an action and its triggers.
type Rule struct {
	Point string
	text  string
}

// ParseRule reads POINT=ACTION[:KEY=VALUE...].
func ParseRule(text string) (Rule, error) {
	point, action, ok := strings.Cut(text, "=")
	if !ok || point == "" || action == "" {
		return Rule{}, fmt.Errorf("faults: rule %q: want POINT=ACTION[:KEY=VALUE...]", text)
	}
	return Rule{Point: point, text: text}, nil
}

func (r Rule) String() string { return r.text }
