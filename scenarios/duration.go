package scenarios

import (
	"fmt"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// maxDuration bounds every duration of a scenario file: nothing waits longer.
const maxDuration = time.Hour

// Duration is a time.Duration that a scenario file writes as "1.5s" or "2m".
// It is a type of its own because the JSON Schema of time.Duration is an
// integer, which no author means.
type Duration time.Duration

// UnmarshalYAML reads a duration: positive or zero, at most an hour.
func (d *Duration) UnmarshalYAML(n ast.Node) error {
	text := n.GetToken().Value
	v, err := time.ParseDuration(text)
	switch {
	case err != nil || n.Type() != ast.StringType && n.Type() != ast.IntegerType:
		return badNode(n, "duration %q: want a number with a unit, such as 500ms, 20s or 2m", text)
	case v < 0 || v > maxDuration:
		return badNode(n, "duration %q: want 0s to %s", text, maxDuration)
	}
	*d = Duration(v)
	return nil
}

// badNode is an error that knows its place in the file.
func badNode(n ast.Node, format string, args ...any) error {
	return &yaml.SyntaxError{Message: fmt.Sprintf(format, args...), Token: n.GetToken()}
}

// MarshalText writes the duration as UnmarshalYAML reads it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Or is d, or def where the file says nothing.
func (d Duration) Or(def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return time.Duration(d)
}
