package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"ds4/runtime/config"
	"ds4/runtime/kvstore"
	"ds4/runtime/vfs"
)

func (a *app) kvRestoreCommand() *cobra.Command {
	var s kvSettings
	s.add()
	cmd := a.command("restore ID", "put a quarantined segment back after a full check", oneArg("ID"), &s.settings,
		func(cmd *cobra.Command, args []string) error {
			found, err := s.find(cmd, args[0], func(f kvstore.Found) bool { return f.Quarantined })
			if err != nil {
				return kvError(err)
			}
			dir := filepath.Dir(filepath.Dir(found.Path))
			ref, err := a.readmit(cmd.Context(), dir, found.Name, &s.access)
			if err != nil {
				return kvError(err)
			}
			fmt.Fprintf(a.Out, "restored %v, tokens [%d,%d). It has one strike: the next failure sends it back, the next success clears it\n",
				found.ID, ref.From, ref.To)
			if ref.Missing != "" {
				fmt.Fprintf(a.Out, "What it continues, %s, is not there: it is of use when that has been restored, or evaluated again\n", ref.Missing)
			}
			return nil
		})
	cmd.Long = `Put a segment of the quarantine back among those that are used. First every byte of it
is checked: the checksum of every section, the text against its name. It must be of
the model that the folder is used with. If what it continues is in quarantine too,
restore that as well.

It goes back with one strike: every byte is checked before it is used, the next
failure sends it to quarantine again, and work on it that succeeds clears it.

ID is an id or a name as ls shows it, or a beginning of one that is not ambiguous.
The server that has the folder is asked to do it, and uses the segment from then on.

Exit codes: 0 it is back, 1 it was refused, or could not be moved, 2 the command
line is wrong or the folder is no cache folder.`
	cmd.Example = `  ds4 kv restore --kv-disk-dir ~/.cache/ds4 97b103e1`
	return cmd
}

// readmit asks the server that has the folder, or does it itself.
func (a *app) readmit(ctx context.Context, dir, name string, access *config.Access) (kvstore.FileRef, error) {
	srv, err := serverOf(dir, access)
	if err != nil {
		return kvstore.FileRef{}, err
	}
	if srv == nil {
		return kvstore.Readmit(vfs.OS, dir, name, time.Now())
	}
	var ref kvstore.FileRef
	err = srv.ask(ctx, func(ctx context.Context) error {
		got, err := srv.RestoreKV(ctx, srv.holder.Key, name)
		ref = kvstore.FileRef(got)
		return err
	})
	return ref, err
}
