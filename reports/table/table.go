// Package table writes results as tables for people: aligned text for a
// terminal, and Markdown.
//
// It promises that a cell can hold anything, a server's garbled last words
// included, without breaking the table, the Markdown around it or the terminal.
package table

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

// Style is how a table looks.
type Style int

// The styles.
const (
	Text Style = iota
	Markdown
)

// Column is the head of a column. Numbers align to the right.
type Column struct {
	Name   string
	Number bool
}

// maxCell is the number of runes of a cell; a longer one ends in an ellipsis.
const maxCell = 120

// Write renders rows under columns. Every row has a cell for every column.
func Write(w io.Writer, style Style, columns []Column, rows [][]string) error {
	head := make([]string, len(columns))
	align := make([]tw.Align, len(columns))
	for i, c := range columns {
		head[i] = cell(c.Name, style)
		align[i] = tw.AlignLeft
		if c.Number {
			align[i] = tw.AlignRight
		}
	}
	var buf bytes.Buffer // tablewriter ignores failed writes
	t := tablewriter.NewTable(&buf, options(style, align)...)
	t.Header(head)
	for i, row := range rows {
		if len(row) != len(columns) {
			return fmt.Errorf("table: row %d has %d cells, the table %d columns", i, len(row), len(columns))
		}
		cells := make([]string, len(row))
		for j := range row {
			cells[j] = cell(row[j], style)
		}
		if err := t.Append(cells); err != nil {
			return fmt.Errorf("table: row %d: %w", i, err)
		}
	}
	if err := t.Render(); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	var out strings.Builder
	for line := range strings.Lines(buf.String()) {
		out.WriteString(strings.TrimRight(line, " \n"))
		out.WriteByte('\n')
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// options turns off whatever tablewriter does to a cell on its own: it would
// rewrite headers, wrap text, hide empty columns and look at the locale.
func options(style Style, align []tw.Align) []tablewriter.Option {
	common := []tablewriter.Option{
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithHeaderAutoWrap(tw.WrapNone),
		tablewriter.WithRowAutoFormat(tw.Off),
		tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithAutoHide(tw.Off),
		tablewriter.WithEastAsian(tw.Off),
		tablewriter.WithHeaderAlignmentConfig(tw.CellAlignment{PerColumn: align}),
		tablewriter.WithRowAlignmentConfig(tw.CellAlignment{PerColumn: align}),
	}
	if style == Markdown {
		return append(common, tablewriter.WithRenderer(renderer.NewMarkdown()))
	}
	return append(common, tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
		Borders: tw.BorderNone,
		Symbols: tw.NewSymbols(tw.StyleASCII),
		Settings: tw.Settings{
			Separators: tw.Separators{BetweenColumns: tw.Off, BetweenRows: tw.Off},
			Lines:      tw.Lines{ShowHeaderLine: tw.On, ShowTop: tw.Off, ShowBottom: tw.Off, ShowFooterLine: tw.Off},
		},
	})))
}

// Cell makes any text fit for one line of Markdown: one without marks that mean
// something, neither in a cell nor elsewhere.
func Cell(s string) string { return cell(s, Markdown) }

// escapes of Markdown, and of what is usual around it: formulas, references.
var escapes = strings.NewReplacer(`\`, `\\`, "|", `\|`, "<", "&lt;", "`", "\\`", "&", "&amp;", "*", `\*`, "_", `\_`, "[", `\[`, "~", `\~`, "$", `\$`)

// cell makes any text fit for one cell.
func cell(s string, style Style) string {
	s = Printable(s)
	if r := []rune(s); len(r) > maxCell {
		s = string(r[:maxCell-1]) + "…"
	}
	if style == Markdown {
		s = escapes.Replace(s)
	}
	return s
}

// Printable replaces what a terminal would act on instead of showing: control
// characters, escape sequences, direction marks, bytes that are not UTF-8. Line
// breaks and tabs become spaces.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar:
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
