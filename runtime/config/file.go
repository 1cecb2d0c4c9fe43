package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

const (
	configFlag = "config"
	// maxFileBytes bounds the file of --config.
	maxFileBytes = 64 << 10
	// maxListLen bounds the values of one setting in a file.
	maxListLen = 256
)

// readConfigFile reads at most one byte more than the limit.
func readConfigFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, errors.New("is a directory")
	}
	return io.ReadAll(io.LimitReader(f, maxFileBytes+1))
}

// entry is one setting of a file.
type entry struct {
	name  string
	texts []string
	line  int
}

// applyFile sets what the file holds. Every entry is checked, also one that a
// flag or a variable overrules: a mistake in a file should not lie in wait.
func (s *Set) applyFile(name string, src Sources) error {
	read := src.ReadFile
	if read == nil {
		read = readConfigFile
	}
	data, err := read(name)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrFile, name, err)
	}
	if len(data) > maxFileBytes {
		return fmt.Errorf("%w: %s: more than %d bytes", ErrFile, name, maxFileBytes)
	}
	entries, err := parseFile(data)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrFile, name, err)
	}
	all := everything()
	for _, e := range entries {
		o := Origin{LayerFile, fmt.Sprintf("%s:%d", name, e.line)}
		st := all.index[e.name]
		switch {
		case st == nil:
			return fmt.Errorf("%w: %s: unknown setting %q", ErrFile, o.Place, clip(e.name))
		case st.flagOnly:
			return fmt.Errorf("%w: %s: %s can only be given as a flag", ErrFile, o.Place, e.name)
		}
		if err := all.apply(e.name, e.texts, o); err != nil {
			return err
		}
		if err := s.apply(e.name, e.texts, o); err != nil {
			return err
		}
	}
	return nil
}

// parseFile reads a flat mapping of names to scalars or lists of scalars.
func parseFile(data []byte) ([]entry, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // editors of Windows put it in front
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, err
	}
	if len(file.Docs) > 1 {
		return nil, errors.New("more than one YAML document")
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, nil
	}
	var nodes []*ast.MappingValueNode
	switch body := file.Docs[0].Body.(type) {
	case *ast.MappingNode:
		nodes = body.Values
	case *ast.MappingValueNode:
		nodes = []*ast.MappingValueNode{body}
	case *ast.CommentGroupNode, *ast.NullNode:
		return nil, nil
	default:
		return nil, fmt.Errorf("line %d: want a mapping of setting: value", line(body))
	}
	var list []entry
	for _, n := range nodes {
		e, err := parseEntry(n)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

func parseEntry(n *ast.MappingValueNode) (entry, error) {
	e := entry{line: line(n.Key)}
	key, ok := n.Key.(*ast.StringNode)
	if !ok {
		return e, fmt.Errorf("line %d: want the name of a setting, got %q", e.line, clip(n.Key.String()))
	}
	e.name = key.Value
	items := []ast.Node{n.Value}
	if seq, ok := n.Value.(*ast.SequenceNode); ok {
		if items = seq.Values; len(items) > maxListLen {
			return e, fmt.Errorf("line %d: %s: more than %d values", e.line, clip(e.name), maxListLen)
		}
	}
	for _, item := range items {
		text, ok := scalarText(item)
		if !ok {
			return e, fmt.Errorf("line %d: %s: want one value; %s is not allowed here", e.line, clip(e.name), kindOf(item))
		}
		e.texts = append(e.texts, text)
	}
	return e, nil
}

// scalarText returns the text of a scalar as it is written.
func scalarText(n ast.Node) (string, bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func kindOf(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "an empty value"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a nested mapping"
	case *ast.SequenceNode:
		return "a nested list"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "an anchor or alias"
	case *ast.TagNode:
		return "a tag"
	}
	return "this kind of value"
}

func line(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 0
	}
	return n.GetToken().Position.Line
}
