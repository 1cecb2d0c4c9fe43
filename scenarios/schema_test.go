package scenarios

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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

// Editors find the schema by the first line of each file. Whatever follows it
// must satisfy the schema, in examples too.
func TestFilesNameTheSchema(t *testing.T) {
	schema := resolved(t)
	files := 0
	for _, pattern := range []string{"library/*.yaml", "examples/*/scenarios/*.yaml"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			files++
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if *update && pattern == "library/*.yaml" && !bytes.HasPrefix(text, []byte(SchemaComment)) {
				text = append([]byte(SchemaComment+"../schema.json\n"), text...)
				if err := os.WriteFile(name, text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			first, rest, _ := strings.Cut(string(text), "\n")
			place, ok := strings.CutPrefix(first, SchemaComment)
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), place)); !ok || err != nil {
				t.Errorf("%s: the first line is %q, which names no schema; run: go test ./scenarios -run TestFilesNameTheSchema -update", name, first)
				continue
			}
			if err := schema.Validate(asJSON(t, []byte(rest))); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := LoadFile(name); err != nil {
				t.Error(err)
			}
		}
	}
	if list, err := Library(); err != nil || files <= len(list) {
		t.Errorf("%d files, %d of them in the library (%v)", files, len(list), err)
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
		"server: {command: a}",
		"server: {command: [1]}",
		"server: {env: [a]}",
		"server: {api: telepathy}",
		"server: {fs: fat}",
		"server: {disk: much}",
		"steps: [{chat: {via: {cut_after: soon}}}]",
		"steps: [{chat: {via: {tear: 1}}}]",
		"steps: [{memory: {}}]",
		"steps: [{power-cut: {now: true}}]",
		"expect: [{keepalives: 3}]",
		"expect: [{outcome: {}}]",
		"expect: [{equal: first}]",
		"lane: fast",
		"catalogue: 3",
	} {
		key, _, _ := strings.Cut(bad, ":")
		sound := regexp.MustCompile("(?m)^"+key+":.*\n").ReplaceAllString(head, "")
		if err := schema.Validate(asJSON(t, []byte(sound+bad))); err == nil {
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
