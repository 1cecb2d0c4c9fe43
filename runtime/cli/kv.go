package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ds4/runtime/kvstore"
	"ds4/runtime/vfs"
)

// kvCommand inspects a cache folder from outside. ls, verify and dump change
// nothing and are safe beside a running server; purge refuses to run beside one.
func (a *app) kvCommand() *cobra.Command {
	cmd := group("kv", "inspect, empty and measure a cache folder")
	cmd.AddCommand(a.kvListCommand("ls", "list the segments of a cache folder", false),
		a.kvListCommand("verify", "read every byte of a cache folder", true),
		a.kvDumpCommand(), a.kvPurgeCommand(), a.kvBenchCommand())
	return cmd
}

// kvSettings say which folder.
type kvSettings struct {
	settings
	dir string
}

func (s *kvSettings) add() {
	s.String(&s.dir, "kv-disk-dir", "", "", nil, "the cache folder, `DIR`")
}

// folder is the operand, else the setting.
func (s *kvSettings) folder(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	if s.dir == "" {
		return "", badUsage("no folder: give DIR or --kv-disk-dir")
	}
	return s.dir, nil
}

func (a *app) kvListCommand(name, short string, full bool) *cobra.Command {
	var (
		s      kvSettings
		asJSON bool
	)
	s.add()
	cmd := a.command(name+" [--json] [DIR]", short, maxArgs(1), &s.settings,
		func(cmd *cobra.Command, args []string) error {
			dir, err := s.folder(args)
			if err != nil {
				return err
			}
			list, err := kvstore.Inspect(cmd.Context(), vfs.OS, dir, full)
			if err != nil {
				return err
			}
			if err := a.printListing(list, asJSON); err != nil {
				return err
			}
			if bad := damaged(list); full && bad > 0 {
				return &exitError{exitFailure, fmt.Errorf("%d of %d segments are damaged", bad, len(list.Segments))}
			}
			return nil
		})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// damaged counts the segments that are not in order.
func damaged(list *kvstore.Listing) int {
	n := 0
	for _, f := range list.Segments {
		if f.Verdict != "ok" {
			n++
		}
	}
	return n
}

func (a *app) printListing(list *kvstore.Listing, asJSON bool) error {
	if asJSON {
		return writeIndented(a.Out, list)
	}
	t := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "id\tfrom\tto\tsize\tcreated\tverdict")
	for _, f := range list.Segments {
		created := ""
		if !f.Created.IsZero() {
			created = f.Created.Local().Format(time.DateTime)
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\n", f.ID, f.From, f.To, formatBytes(uint64(f.Bytes)), created, f.Verdict)
	}
	for _, f := range list.Quarantined {
		fmt.Fprintf(t, "%s\t\t\t%s\t\t%s\n", f.ID, formatBytes(uint64(f.Bytes)), f.Verdict)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	line := fmt.Sprintf("%d segments, %d in quarantine, %s", len(list.Segments), len(list.Quarantined), formatBytes(uint64(list.Bytes)))
	if list.InUseBy != "" {
		line += "; in use by " + list.InUseBy
	}
	_, err := fmt.Fprintln(a.Out, line)
	return err
}

// segmentID is the name of a segment without its folder.
var segmentID = regexp.MustCompile(`^[0-9a-f]{40}$`)

func (a *app) kvDumpCommand() *cobra.Command {
	var (
		s      kvSettings
		asJSON bool
	)
	s.add()
	cmd := a.command("dump [--json] FILE|ID", "describe one segment, section by section", oneArg("FILE"), &s.settings,
		func(_ *cobra.Command, args []string) error {
			name := args[0]
			if segmentID.MatchString(name) && s.dir != "" {
				name = filepath.Join(s.dir, "segments", name[:2], name+".kv")
			}
			dump, err := kvstore.DumpFile(vfs.OS, name)
			if err != nil {
				return err
			}
			if asJSON {
				err = dump.WriteJSON(a.Out)
			} else {
				err = dump.WriteText(a.Out)
			}
			if err == nil && dump.Verdict != "ok" {
				err = &exitError{exitFailure, fmt.Errorf("%s: %s", name, dump.Verdict)}
			}
			return err
		})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) kvPurgeCommand() *cobra.Command {
	var s kvSettings
	s.add()
	return a.command("purge [DIR]", "remove every segment, also those in quarantine", maxArgs(1), &s.settings,
		func(_ *cobra.Command, args []string) error {
			dir, err := s.folder(args)
			if err != nil {
				return err
			}
			freed, err := kvstore.Purge(vfs.OS, dir)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.Out, "removed %d segments, %d from quarantine, %d other files: %s\n",
				freed.Segments, freed.Quarantined, freed.Others, formatBytes(uint64(freed.Bytes)))
			if freed.Failed > 0 {
				return fmt.Errorf("%d files could not be removed", freed.Failed)
			}
			return nil
		})
}

// writeIndented prints JSON for people and programs.
func writeIndented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
