package scenarios

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Limits of a scenario file.
const (
	MaxFileBytes  = 1 << 20
	maxLineBytes  = 4 << 10
	maxFlowDepth  = 32
	maxDashes     = 32 // block sequences opened on one line
	maxNodeLevels = 64
)

// LoadFile reads and checks one scenario file.
func LoadFile(path string) (*Scenario, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("scenarios: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("scenarios: read %s: %w", path, err)
	}
	s, err := Load(data, path)
	if err != nil {
		return nil, err
	}
	if s.Server.Here, err = filepath.Abs(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("scenarios: %w", err)
	}
	return s, nil
}

// Load parses and checks a scenario. name stands in errors, which read
// NAME:LINE:COLUMN: what. Unknown fields, duplicate keys, anchors, several
// documents and oversized input are errors; a scenario that is returned can be
// executed.
func Load(data []byte, name string) (*Scenario, error) {
	var s Scenario
	if err := decode(data, name, &s); err != nil {
		return nil, err
	}
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &s, nil
}

// decode turns the text into a value that is not yet checked.
func decode(data []byte, name string, into any) (err error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // editors of Windows put it in front
	if err := screen(data); err != nil {
		return fmt.Errorf("%s%w", name, err)
	}
	// The YAML library panics on some malformed input (a tag with no value is
	// one). Whatever else it trips over is bad input as well.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %w: not YAML that can be read (%v)", name, ErrInvalid, p)
		}
	}()
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return located(name, err)
	}
	if err := refuseAnchors(file); err != nil {
		return fmt.Errorf("%s%w", name, err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	if err := dec.Decode(into); err != nil {
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: %w: the file is empty", name, ErrInvalid)
		}
		return located(name, err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w: more than one document", name, ErrInvalid)
	}
	return nil
}

// screen refuses what the parser should not even see: its recursion and its
// look-ahead are bounded by the depth and the line length that pass here.
func screen(data []byte) error {
	if len(data) > MaxFileBytes {
		return fmt.Errorf(": %w: %d bytes or more", ErrTooLarge, len(data))
	}
	depth := 0
	for i, line := range bytes.Split(data, []byte("\n")) {
		if len(line) > maxLineBytes {
			return fmt.Errorf(":%d:1: %w: %d bytes in one line (limit %d)", i+1, ErrNesting, len(line), maxLineBytes)
		}
		if j := bytes.IndexByte(line, 0); j >= 0 {
			return fmt.Errorf(":%d:%d: %w: a zero byte", i+1, j+1, ErrInvalid)
		}
		trimmed := bytes.TrimLeft(line, " \t")
		if bytes.HasPrefix(trimmed, []byte("#")) {
			continue
		}
		if bytes.Count(line, []byte("- ")) > maxDashes || bytes.Count(line, []byte("? ")) > maxDashes {
			return fmt.Errorf(":%d:1: %w: more than %d levels in one line", i+1, ErrNesting, maxDashes)
		}
		// Brackets in text count too: a text with 32 more of one kind than of the
		// other is not worth a tokenizer.
		for j, c := range line {
			switch c {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(depth-1, 0)
			}
			if depth > maxFlowDepth {
				return fmt.Errorf(":%d:%d: %w: more than %d open brackets", i+1, j+1, ErrNesting, maxFlowDepth)
			}
		}
		if indent := len(line) - len(trimmed); indent > 2*maxNodeLevels {
			return fmt.Errorf(":%d:1: %w: indented by %d", i+1, ErrNesting, indent)
		}
	}
	return nil
}

type anchorFinder struct{ found ast.Node }

func (a *anchorFinder) Visit(n ast.Node) ast.Visitor {
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType, ast.TagType:
		if a.found == nil {
			a.found = n
		}
	}
	return a
}

func refuseAnchors(file *ast.File) error {
	var v anchorFinder
	for _, d := range file.Docs {
		if d.Body != nil {
			ast.Walk(&v, d.Body)
		}
	}
	if v.found == nil {
		return nil
	}
	p := v.found.GetToken().Position
	return fmt.Errorf(":%d:%d: %w", p.Line, p.Column, ErrAnchor)
}

// located turns a decoder's error into NAME:LINE:COLUMN: message, with a
// suggestion for an unknown field.
func located(name string, err error) error {
	var ye yaml.Error
	if !errors.As(err, &ye) || ye.GetToken() == nil || ye.GetToken().Position == nil {
		return fmt.Errorf("%s: %w: %s", name, ErrInvalid, firstLine(err.Error()))
	}
	p := ye.GetToken().Position
	msg := ye.GetMessage()
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		field := unknown.Token.Value
		msg = fmt.Sprintf("unknown field %q", field)
		// A name of another level suggests itself, which helps nobody.
		if s := suggest(field, fieldNames()); s != "" && s != field {
			msg += fmt.Sprintf(" (did you mean %q?)", s)
		}
	}
	return fmt.Errorf("%s:%d:%d: %w: %s", name, p.Line, p.Column, ErrInvalid, firstLine(msg))
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// fieldNames lists every field name of the format.
func fieldNames() []string {
	seen := map[reflect.Type]bool{}
	var names []string
	var visit func(t reflect.Type)
	visit = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || seen[t] {
			return
		}
		seen[t] = true
		for i := range t.NumField() {
			f := t.Field(i)
			if n, _, _ := strings.Cut(f.Tag.Get("json"), ","); n != "" && n != "-" {
				names = append(names, n)
			}
			visit(f.Type)
		}
	}
	visit(reflect.TypeFor[Scenario]())
	slices.Sort(names)
	return slices.Compact(names)
}

// suggest finds the known word nearest to an unknown one, or "" if none is near.
func suggest(word string, known []string) string {
	const maxWord = 40
	if len(word) > maxWord {
		return ""
	}
	best, bestDist := "", 1+len(word)/3
	for _, k := range known {
		if d := distance(word, k); d <= bestDist && (best == "" || d < bestDist) {
			best, bestDist = k, d
		}
	}
	const enough = 3 // letters that may stand for a word
	if i := slices.IndexFunc(known, func(k string) bool { return strings.HasPrefix(k, word) }); best == "" && i >= 0 && len(word) >= enough {
		return known[i]
	}
	return best
}

// distance is the number of edits between a and b: bytes inserted, removed,
// replaced, or swapped with their neighbour.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j-1]+cost, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}

// UnmarshalYAML reads one word, or a list of words.
func (w *Words) UnmarshalYAML(decode func(any) error) error {
	var one string
	if err := decode(&one); err == nil {
		*w = Words{one}
		return nil
	}
	var many []string
	if err := decode(&many); err != nil {
		return err
	}
	*w = many
	return nil
}
