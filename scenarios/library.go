package scenarios

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed library/*.yaml
var libraryFiles embed.FS

// Library loads every scenario that is built in, ordered by name.
func Library() ([]*Scenario, error) {
	names, err := fs.Glob(libraryFiles, "library/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("scenarios: library: %w", err)
	}
	var out []*Scenario
	for _, n := range names {
		data, err := libraryFiles.ReadFile(n)
		if err != nil {
			return nil, fmt.Errorf("scenarios: library: %w", err)
		}
		s, err := Load(data, n)
		if err != nil {
			return nil, fmt.Errorf("scenarios: library: %w", err)
		}
		s.Builtin = true
		if path.Base(n) != s.FileName() {
			return nil, fmt.Errorf("scenarios: library: %s holds a scenario with the id %q", n, s.ID)
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *Scenario) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// SchemaComment begins a line that tells an editor where the schema is.
const SchemaComment = "# yaml-language-server: $schema="

// Source returns the text of a scenario of the library, without the place of its
// schema, which is somewhere else for whoever gets the text.
func Source(id string) ([]byte, error) {
	if !idPattern.MatchString(id) {
		return nil, fmt.Errorf("scenarios: %w: %q", ErrUnknown, id)
	}
	data, err := libraryFiles.ReadFile("library/" + id + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("scenarios: %w: %q", ErrUnknown, id)
	}
	if bytes.HasPrefix(data, []byte(SchemaComment)) {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	return data, nil
}

// Find returns the scenario of the list with this name; an unknown name is an
// error with the nearest known one.
func Find(list []*Scenario, id string) (*Scenario, error) {
	var ids []string
	for _, s := range list {
		if s.ID == id {
			return s, nil
		}
		ids = append(ids, s.ID)
	}
	if near := suggest(id, ids); near != "" {
		return nil, fmt.Errorf("scenarios: %w: %q (did you mean %q?)", ErrUnknown, id, near)
	}
	return nil, fmt.Errorf("scenarios: %w: %q", ErrUnknown, id)
}
