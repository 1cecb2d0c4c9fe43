package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// dumpJSON is what `ds4 kv dump --json` prints.
type dumpJSON struct {
	Path        string `json:"path"`
	Quarantined bool   `json:"quarantined"`
	*segment.Dump
}

func (a *app) kvDumpCommand() *cobra.Command {
	var (
		s      kvSettings
		asJSON bool
	)
	s.add()
	cmd := a.command("dump [--json] FILE|ID", "describe one segment, section by section", oneArg("FILE or ID"), &s.settings,
		func(cmd *cobra.Command, args []string) error {
			name, jailed, err := s.segmentFile(cmd, args[0])
			if err != nil {
				return kvError(err)
			}
			dump, err := kvstore.DumpFile(vfs.OS, name)
			if errors.Is(err, fs.ErrNotExist) {
				return badInput(err)
			}
			if err != nil {
				return err
			}
			compareName(dump, name)
			if asJSON {
				err = writeIndented(a.Out, dumpJSON{name, jailed, dump})
			} else if _, err = fmt.Fprintf(a.Out, "file      %s\n", name); err == nil {
				err = dump.WriteText(a.Out)
			}
			if err == nil && dump.Verdict != "ok" {
				err = &exitError{exitFailure, fmt.Errorf("%s: %s", name, dump.Verdict)}
			}
			return err
		})
	cmd.Long = `Describe one segment file: what its header says, and each section with its layer,
rows, place, size, the checksum that was stored and the one that its bytes have.
Text and tokens are not shown.

ID is an id as ls shows it, or a beginning of one that is not ambiguous; the
segments and the quarantine of --kv-disk-dir are searched.

Exit codes: 0 the file is intact, 1 it is damaged or cannot be read, 2 the
command line is wrong, there is no such file, or the folder is no cache folder.`
	cmd.Example = `  ds4 kv dump --kv-disk-dir ~/.cache/ds4 97b103e1
  ds4 kv dump --json FILE.kv | jq '.sections[] | select(.ok | not)'`
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// segmentFile finds the file that an operand means.
func (s *kvSettings) segmentFile(cmd *cobra.Command, text string) (name string, jailed bool, err error) {
	if _, err := os.Lstat(text); err == nil || strings.ContainsRune(text, filepath.Separator) || s.dir == "" {
		return text, filepath.Base(filepath.Dir(text)) == "quarantine", nil
	}
	f, err := s.find(cmd, text, func(kvstore.Found) bool { return true })
	return f.Path, f.Quarantined, err
}

// find returns the only file that a beginning of an id means, of those that are
// accepted.
func (s *kvSettings) find(cmd *cobra.Command, text string, accept func(kvstore.Found) bool) (kvstore.Found, error) {
	dir, err := s.folder(nil)
	if err != nil {
		return kvstore.Found{}, err
	}
	list, err := kvstore.FindID(cmd.Context(), vfs.OS, dir, text)
	if err != nil {
		return kvstore.Found{}, err
	}
	var names []string
	var found kvstore.Found
	for _, f := range list {
		if accept(f) {
			found = f
			names = append(names, "\n  "+f.Name)
		}
	}
	switch len(names) {
	case 0:
		return found, fmt.Errorf("%s is not in quarantine: %s", text, list[0].Path)
	case 1:
		return found, nil
	}
	return found, badUsage("%s is ambiguous, it can be:%s", text, strings.Join(names, ""))
}

// compareName adds to a dump that an intact file has the wrong name.
func compareName(d *segment.Dump, name string) {
	base, _, _ := strings.Cut(filepath.Base(name), ".")
	if id, err := segment.ParseID(base); err == nil && d.ID != "" && d.ID != id.String() {
		d.Verdict = fmt.Sprintf("%v: the text hashes to %s, the file is named %s", segment.ErrCorrupt, d.ID, id)
	}
}
