package scenarios

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/google/jsonschema-go/jsonschema"

	"ds4/faults"
)

// Aliases without the methods and names that would make the types recursive.
type (
	stepFields   Step
	expectFields Expect
	promptFields Prompt
)

// Schema is the JSON Schema of a scenario file, for editors. It says what the
// types say; names, references and rules are checked by Load only. schema.json
// in this directory is its text, kept equal by a test.
func Schema() (*jsonschema.Schema, error) {
	opt := &jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[Duration](): {Type: "string", Pattern: `^[0-9.]+(ns|us|µs|ms|s|m|h)([0-9.]+(ns|us|µs|ms|s|m|h))*$`},
		reflect.TypeFor[Bytes](): {AnyOf: []*jsonschema.Schema{
			{Type: "string", Pattern: bytesPattern}, {Type: "integer", Minimum: jsonschema.Ptr(0.0)}}},
		reflect.TypeFor[Amount](): {AnyOf: []*jsonschema.Schema{{Type: "string"}, {Type: "integer", Minimum: jsonschema.Ptr(0.0)}}},
		reflect.TypeFor[Words](): {AnyOf: []*jsonschema.Schema{
			{Type: "string"}, {Type: "array", Items: &jsonschema.Schema{Type: "string"}}}},
		reflect.TypeFor[Lane]():      {Type: "string", Enum: anys(Lanes())},
		reflect.TypeFor[faults.Op](): {Type: "string", Enum: anys(faults.FileOps())},
		reflect.TypeFor[Step]():      {Ref: "#/$defs/step"},
		reflect.TypeFor[Expect]():    {Ref: "#/$defs/expect"},
		reflect.TypeFor[Prompt]():    {Ref: "#/$defs/prompt"},
		reflect.TypeFor[struct{}]():  {Type: "object", MaxProperties: jsonschema.Ptr(0)},
	}}
	root, err := jsonschema.For[Scenario](opt)
	if err != nil {
		return nil, fmt.Errorf("scenarios: schema: %w", err)
	}
	step, err := jsonschema.For[stepFields](opt)
	if err != nil {
		return nil, fmt.Errorf("scenarios: schema of a step: %w", err)
	}
	expect, err := jsonschema.For[expectFields](opt)
	if err != nil {
		return nil, fmt.Errorf("scenarios: schema of an assertion: %w", err)
	}
	prompt, err := jsonschema.For[promptFields](opt)
	if err != nil {
		return nil, fmt.Errorf("scenarios: schema of a prompt: %w", err)
	}
	for _, one := range []*jsonschema.Schema{step, expect} {
		one.MinProperties, one.MaxProperties = jsonschema.Ptr(1), jsonschema.Ptr(1)
	}
	root.Schema = "https://json-schema.org/draft/2020-12/schema"
	root.Title = "ds4bench scenario"
	root.Defs = map[string]*jsonschema.Schema{"step": step, "expect": expect, "prompt": prompt}
	root.Properties["id"].Pattern = idPattern.String()
	root.Properties["measure"].Items.Enum = anys(Measures())
	server := root.Properties["server"].Properties
	server["api"].Enum, server["fs"].Enum = anys(APIs()), anys(fileSystems())
	dropNull(root)
	return root, nil
}

// SchemaJSON is the text of Schema.
func SchemaJSON() ([]byte, error) {
	s, err := Schema()
	if err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("scenarios: schema: %w", err)
	}
	return append(b, '\n'), nil
}

func anys[T any](list []T) []any {
	var out []any
	for _, v := range list {
		out = append(out, any(v))
	}
	return out
}

// dropNull removes the null that the inference allows wherever Go has a pointer
// or a slice: a field that is present has a value.
func dropNull(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if i := slices.Index(s.Types, "null"); i >= 0 {
		rest := slices.Delete(slices.Clone(s.Types), i, i+1)
		rest = slices.DeleteFunc(rest, func(t string) bool { return t == "" }) // a reference has none
		switch s.Types = rest; len(rest) {
		case 0:
			s.Types = nil
		case 1:
			s.Type, s.Types = rest[0], nil
		}
	}
	dropNull(s.Items)
	dropNull(s.AdditionalProperties)
	for _, group := range []map[string]*jsonschema.Schema{s.Properties, s.Defs} {
		for _, sub := range group {
			dropNull(sub)
		}
	}
	for _, sub := range s.AnyOf {
		dropNull(sub)
	}
}
