package faults

import (
	"fmt"
	"regexp"
	"strconv"

	"ds4/runtime/failpoint"
)

// Rule is one fault inside the runtime: a point, an action and its triggers. The
// language is the runtime's own, so that what a scenario says and what a server
// executes cannot drift apart.
type Rule = failpoint.Rule

// ParseRule reads POINT=ACTION[:KEY=VALUE...]. Unknown points, actions and
// triggers are errors that list the known ones.
func ParseRule(text string) (Rule, error) {
	r, err := failpoint.Parse(text)
	if err != nil {
		return Rule{}, fmt.Errorf("faults: %w", err)
	}
	return r, nil
}

// Firing is what one log line says about a rule.
type Firing struct {
	Rule  string // in its canonical form, as Rule.String prints it
	Fired bool   // false: armed
	N     int    // how often the rule has fired, this time included
}

var firingPattern = regexp.MustCompile(`fault (armed|fired) rule=("(?:[^"\\]|\\.)*")(?: n=([0-9]{1,9}))?`)

// ParseFiring finds the report of a rule in a line of a server's log.
func ParseFiring(line string) (Firing, bool) {
	m := firingPattern.FindStringSubmatch(line)
	if m == nil {
		return Firing{}, false
	}
	rule, err := strconv.Unquote(m[2])
	if err != nil {
		return Firing{}, false
	}
	f := Firing{Rule: rule, Fired: m[1] == "fired"}
	f.N, _ = strconv.Atoi(m[3])
	return f, f.Fired == (m[3] != "")
}

// FailsDevice says whether a rule, in its textual form, fails work of the device:
// each of its firings is one attempt that the device was asked for in vain. A
// delay fails nothing.
func FailsDevice(rule string) bool {
	r, err := failpoint.Parse(rule)
	if err != nil {
		return false
	}
	info, ok := failpoint.Lookup(r.Point)
	return ok && info.Device && r.Action.Kind != failpoint.KindDelay
}
