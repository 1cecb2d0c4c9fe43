package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ds4/runtime/client"
	"ds4/runtime/config"
	"ds4/runtime/kvstore"
	"ds4/runtime/vfs"
)

// purgeFlags are what `ds4 kv purge` is told.
type purgeFlags struct {
	olderThan, keepBytes, identity string
	quarantine, all, dryRun        bool
	asJSON                         bool
}

func (a *app) kvPurgeCommand() *cobra.Command {
	var (
		s kvSettings
		f purgeFlags
	)
	s.addModel()
	cmd := a.command("purge SELECTION [--dry-run] [--json] [DIR]", "remove segments, or what is in quarantine", maxArgs(1), &s.settings,
		func(cmd *cobra.Command, args []string) error {
			dir, err := s.folder(args)
			if err != nil {
				return err
			}
			sel, err := f.selection(&s, dir)
			if err != nil {
				return err
			}
			rep, err := a.purge(cmd.Context(), dir, sel, &s.access)
			if err != nil {
				return kvError(err)
			}
			return a.printPurged(rep, &f)
		})
	cmd.Long = `Remove segments of a cache folder, or files of its quarantine. Several filters select
what all of them select. A segment that another one continues stays as long as that
one stays; the end of a conversation goes before its beginning, and of several ends
the one that saves the least prefill per byte.

Without a filter nothing is removed: --all empties the folder. Files that are not of
the cache always stay.

The server that has the folder is asked to do it. It keeps what its requests are
about to restore.`
	cmd.Example = `  ds4 kv purge --older-than 30d --dry-run DIR
  ds4 kv purge --keep-bytes 2GiB DIR            # the most useful 2 GiB stay
  ds4 kv purge --identity stale -m new.gguf DIR # what this model cannot use
  ds4 kv purge --quarantine --older-than 1w DIR
  ds4 kv purge --all DIR`
	flags := cmd.Flags()
	flags.StringVar(&f.olderThan, "older-than", "", "what was last used (or quarantined) longer than `DUR` ago: 90m, 36h, 7d, 2w")
	flags.StringVar(&f.keepBytes, "keep-bytes", "", "as much as is needed to bring the folder down to `SIZE`: 500000, 512M, 4GiB")
	flags.StringVar(&f.identity, "identity", "", "segments whose identity begins with `HEX`, or \"stale\": those of any other model than -m, or than the last server's")
	flags.BoolVar(&f.quarantine, "quarantine", false, "files of the quarantine instead of segments")
	flags.BoolVar(&f.all, "all", false, "everything")
	flags.BoolVarP(&f.dryRun, "dry-run", "n", false, "list what would go, and remove nothing")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	return cmd
}

// selection reads the flags.
func (f *purgeFlags) selection(s *kvSettings, dir string) (kvstore.Selection, error) {
	sel := kvstore.Selection{All: f.all, Quarantine: f.quarantine, DryRun: f.dryRun}
	var err error
	if f.olderThan != "" {
		if sel.OlderThan, err = parseAge(f.olderThan); err != nil {
			return sel, badUsage("flag --older-than: %v", err)
		}
	}
	if f.keepBytes != "" {
		n, err := parseSize(f.keepBytes)
		if err != nil {
			return sel, badUsage("flag --keep-bytes: %v", err)
		}
		sel.KeepBytes = &n
	}
	switch f.identity {
	case "", "stale":
	default:
		sel.Identity = f.identity
	}
	if f.identity == "stale" {
		if sel.NotOf, err = s.staleOf(dir); err != nil {
			return sel, err
		}
	}
	if err := sel.Check(); err != nil {
		return sel, badUsage("%v; give --older-than, --keep-bytes, --identity or --quarantine, or --all to empty the folder", err)
	}
	return sel, nil
}

// staleOf is the identity that segments must have not to be stale.
func (s *kvSettings) staleOf(dir string) (*[32]byte, error) {
	id, err := s.identity()
	if id != nil || err != nil {
		return id, err
	}
	h, _, err := kvstore.WhoHas(vfs.OS, dir)
	if err != nil {
		return nil, kvError(err)
	}
	if id = h.IdentityBytes(); id == nil {
		return nil, badUsage("flag --identity stale: no server has said which model it serves: name one with -m FILE")
	}
	return id, nil
}

// purge asks the server that has the folder, or does it itself. A look needs
// neither.
func (a *app) purge(ctx context.Context, dir string, sel kvstore.Selection, access *config.Access) (kvstore.PurgeReport, error) {
	var srv *kvServer
	var err error
	if !sel.DryRun {
		if srv, err = serverOf(dir, access); err != nil {
			return kvstore.PurgeReport{}, err
		}
	}
	if srv == nil {
		return kvstore.Purge(ctx, vfs.OS, dir, sel, time.Now())
	}
	req := client.KVPurge{Holder: srv.holder.Key, All: sel.All, Quarantine: sel.Quarantine,
		OlderThanSeconds: sel.OlderThan.Seconds(), Identity: sel.Identity, KeepBytes: sel.KeepBytes}
	if sel.NotOf != nil {
		req.NotIdentity = fmt.Sprintf("%x", *sel.NotOf)
	}
	var rep kvstore.PurgeReport
	err = srv.ask(ctx, func(ctx context.Context) error {
		got, err := srv.PurgeKV(ctx, req)
		rep.Freed = kvstore.Freed{Segments: got.Segments, Quarantined: got.Quarantined, Others: got.Others, Bytes: got.Bytes, Failed: got.Failed}
		rep.Kept = got.Kept
		for _, f := range got.Files {
			rep.Files = append(rep.Files, kvstore.FileRef(f))
		}
		return err
	})
	return rep, err
}

// purgedJSON is what `ds4 kv purge --json` prints.
type purgedJSON struct {
	DryRun      bool              `json:"dry_run"`
	Segments    int               `json:"segments"`
	Quarantined int               `json:"quarantined"`
	Others      int               `json:"others"`
	Bytes       int64             `json:"bytes"`
	Kept        int               `json:"kept"`
	Failed      int               `json:"failed"`
	Files       []kvstore.FileRef `json:"files"`
}

func (a *app) printPurged(rep kvstore.PurgeReport, f *purgeFlags) error {
	verb := "removed"
	if f.dryRun {
		verb = "would remove"
	}
	if f.asJSON {
		files := rep.Files
		if files == nil {
			files = []kvstore.FileRef{}
		}
		j := purgedJSON{f.dryRun, rep.Segments, rep.Quarantined, rep.Others, rep.Bytes, rep.Kept, rep.Failed, files}
		if err := writeIndented(a.Out, j); err != nil {
			return err
		}
	} else {
		if f.dryRun {
			for _, p := range rep.Files {
				fmt.Fprintf(a.Out, "%s [%d,%d) %s\n", p.Name, p.From, p.To, formatBytes(uint64(p.Bytes)))
			}
			if more := rep.Segments + rep.Quarantined - len(rep.Files); more > 0 {
				fmt.Fprintf(a.Out, "and %d more\n", more)
			}
		}
		line := fmt.Sprintf("%s %d segments, %d from quarantine, %d other files: %s", verb, rep.Segments, rep.Quarantined, rep.Others, formatBytes(uint64(rep.Bytes)))
		if rep.Kept > 0 {
			line += fmt.Sprintf("; %d that were selected stay, because something that stays continues them or a request wants them", rep.Kept)
		}
		fmt.Fprintln(a.Out, line)
	}
	if rep.Failed > 0 {
		return fmt.Errorf("%d files could not be removed", rep.Failed)
	}
	return nil
}
