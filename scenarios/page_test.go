package scenarios

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

const schemaPage = "../docs/scenarios.md"

// TestSchemaPageIsFresh: the tables of steps and assertions say what the types say.
func TestSchemaPageIsFresh(t *testing.T) {
	text, err := os.ReadFile(schemaPage)
	if err != nil {
		t.Fatal(err)
	}
	got := string(text)
	want := got
	for name, typ := range map[string]reflect.Type{"steps": reflect.TypeFor[Step](), "expect": reflect.TypeFor[Expect]()} {
		begin, end := "<!-- "+name+" -->\n", "<!-- end -->\n"
		before, rest, found := strings.Cut(want, begin)
		_, after, closed := strings.Cut(rest, end)
		if !found || !closed {
			t.Fatalf("%s has no place for %s", schemaPage, name)
		}
		want = before + begin + fieldTable(typ) + end + after
	}
	if *update {
		if err := os.WriteFile(schemaPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("the tables of %s are not those of the types; run: go test ./scenarios -run TestSchemaPage -update", schemaPage)
	}
}

// fieldTable has a row for each field of a type, with the names of its own fields.
func fieldTable(typ reflect.Type) string {
	var b strings.Builder
	b.WriteString("| | | fields |\n|---|---|---|\n")
	for i := range typ.NumField() {
		f := typ.Field(i)
		about := strings.ReplaceAll(f.Tag.Get("jsonschema"), "|", `\|`)
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", fieldName(f), about, strings.Join(namesWithin(f.Type), ", "))
	}
	return b.String()
}

func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// namesWithin are those of a struct, of what points to one, and of what is embedded.
func namesWithin(typ reflect.Type) (names []string) {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return nil
	}
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Anonymous {
			names = append(names, namesWithin(f.Type)...)
			continue
		}
		names = append(names, "`"+fieldName(f)+"`")
	}
	return names
}
