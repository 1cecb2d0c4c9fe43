package scenarios

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/jsonschema-go/jsonschema"
)

var update = flag.Bool("update", false, "write schema.json")

func TestSchemaFileIsFresh(t *testing.T) {
	want, err := SchemaJSON()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("schema.json differs from the types; run: go test ./scenarios -run TestSchemaFileIsFresh -update")
	}
}

// Every file of the library must satisfy the schema that editors are given.
func TestLibraryMatchesSchema(t *testing.T) {
	schema := resolved(t)
	list, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		src, err := Source(s.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(asJSON(t, src)); err != nil {
			t.Errorf("%s: %v", s.ID, err)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	schema := resolved(t)
	const head = "id: x\ntitle: t\nlane: process\nexpect: [{outcome: recovered}]\n"
	if err := schema.Validate(asJSON(t, []byte(head))); err != nil {
		t.Fatalf("the sound part is refused: %v", err)
	}
	for _, bad := range []string{
		"steps: [{strat: {}}]",
		"steps: [{start: {}, stop: {}}]",
		"steps: [{}]",
		"steps: [{start: {timeout: 3}}]",
		"steps: [{corrupt: {op: melt}}]",
		"steps: [{start: null}]",
		"steps: [{sweep: {var: n, over: [a], steps: [{chat: {as: [1]}}]}}]",
		"measure: [beauty]",
		"repeat: often",
		"wat: 1",
	} {
		if err := schema.Validate(asJSON(t, []byte(head+bad))); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
}

func resolved(t *testing.T) *jsonschema.Resolved {
	t.Helper()
	s, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func asJSON(t *testing.T, src []byte) any {
	t.Helper()
	b, err := yaml.YAMLToJSON(src)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
