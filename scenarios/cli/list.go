package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"ds4/reports/table"
	"ds4/scenarios"
)

func newList() *cobra.Command {
	var pick selection
	var format, show string
	var record bool
	cmd := &cobra.Command{
		Use:   "list [PATH or ID ...]",
		Short: "List scenarios",
		Long: `Lists the built-in scenarios, or the given ones. A path is a scenario file, or a
directory of them; everything else is the id of a built-in scenario.

To write a scenario of your own, begin with the text of one that exists:

  ds4bench list --show stale-kv-after-kill9 > mine.yaml
  ds4bench run ./mine.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if show != "" {
				text, err := scenarios.Source(show)
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(text)
				return err
			}
			style, err := tableStyle(cmd, format)
			if err != nil {
				return err
			}
			pick.args, pick.everyTag = args, true
			list, err := pick.load(cmd)
			if err != nil {
				return err
			}
			if record {
				return writeTrackRecord(cmd.OutOrStdout(), list)
			}
			return writeList(cmd, style, list)
		},
	}
	pick.addFlags(cmd)
	cmd.Flags().StringVar(&format, "format", formatText, "text or markdown")
	cmd.Flags().BoolVar(&record, "track-record", false, "print what was seen elsewhere, and how a scenario is known to catch it, as Markdown")
	cmd.Flags().StringVar(&show, "show", "", "print the file of the built-in scenario with this `ID`")
	return cmd
}

func writeList(cmd *cobra.Command, style table.Style, list []chosen) error {
	columns := []table.Column{{Name: "id"}, {Name: "lane"}, {Name: "runs", Number: true}, {Name: "tags"}, {Name: "origin"}, {Name: "title"}}
	var rows [][]string
	for _, c := range list {
		s := c.scenario
		rows = append(rows, []string{s.ID, string(s.Lane), fmt.Sprint(s.Passes()), strings.Join(s.Tags, ","), s.Origin, s.Title})
	}
	return table.Write(cmd.OutOrStdout(), style, columns, rows)
}

// writeTrackRecord prints the scenarios that replay a failure of a program that
// people use, each with the ways to break a server that it is proven to notice.
// The README has this table; a test compares them.
func writeTrackRecord(w io.Writer, list []chosen) error {
	columns := []table.Column{{Name: "seen in"}, {Name: "what went wrong"}, {Name: "scenario"}, {Name: "caught"}}
	var rows [][]string
	for _, c := range list {
		if s := c.scenario; s.Origin != "" {
			rows = append(rows, []string{s.Origin, s.Title, s.ID, strings.Join(s.Catches, ", ")})
		}
	}
	return table.Write(w, table.Markdown, columns, rows)
}

func tableStyle(cmd *cobra.Command, format string) (table.Style, error) {
	switch format {
	case formatText:
		return table.Text, nil
	case formatMarkdown:
		return table.Markdown, nil
	}
	return 0, usagef(cmd, "--format %q is not one of: %s, %s", format, formatText, formatMarkdown)
}
