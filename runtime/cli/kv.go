package cli

import (
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"ds4/runtime/chat"
	"ds4/runtime/config"
	"ds4/runtime/engine"
	"ds4/runtime/kvstore"
	"ds4/runtime/vfs"
)

const kvLong = `Look at a cache folder, check it, and take things out of it or back into it.

Every command works beside a running server. ls, verify and dump change nothing.
purge and restore ask the server that has the folder, whose address is in its lock
file; without a server they take the lock themselves, and a server that starts
meanwhile waits for them. The text of prompts is never shown.

Exit codes: 0 done, 1 damage found or not done, 2 the command line is wrong or
the folder is no cache folder.`

// kvCommand inspects and mends a cache folder from outside.
func (a *app) kvCommand() *cobra.Command {
	cmd := a.group("kv", "look at a cache folder, check it, mend it, empty it, measure it")
	cmd.Long = kvLong
	cmd.AddCommand(a.kvListCommand(), a.kvVerifyCommand(), a.kvDumpCommand(), a.kvPurgeCommand(), a.kvRestoreCommand(), a.kvBenchCommand())
	return cmd
}

// kvSettings say which folder, and which model it is compared with.
type kvSettings struct {
	settings
	dir   string
	model config.Model
	// access is for the server that has the folder.
	access config.Access
}

func (s *kvSettings) add() {
	s.Path(&s.dir, "kv-disk-dir", "", "the cache folder, `DIR`")
	s.AddAccess(&s.access)
	s.Lookup("api-key").Usage = "the `KEY` that the server which has the folder wants; DS4_API_KEY or a file keep it out of the process list"
	s.Lookup("api-key-file").Usage = "the first key in `FILE` is the one that this server wants"
}

func (s *kvSettings) addModel() {
	s.add()
	s.AddModelIdentity(&s.model)
}

// folder is the operand, else the setting: absolute, and what a link points to.
func (s *kvSettings) folder(args []string) (string, error) {
	dir := s.dir
	if len(args) > 0 {
		dir = args[0]
	}
	if dir == "" {
		return "", badUsage("no folder: give DIR or --kv-disk-dir")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return dir, nil
}

// identity is that of the model which was named; nil if none was.
func (s *kvSettings) identity() (*[32]byte, error) {
	if !s.Explicit("model") {
		return nil, nil
	}
	w, err := loadModel(&s.model)
	if err != nil {
		return nil, err
	}
	defer w.close()
	if err := w.checkChat(); err != nil {
		return nil, err
	}
	id := engine.StateIdentity(w.model, s.model.EffectiveNumerics(), w.tok.Fingerprint(), chat.TemplateRevision)
	return &id, nil
}

// look describes the folder.
func (s *kvSettings) look(cmd *cobra.Command, args []string, opt kvstore.SurveyOptions) (*kvstore.Survey, error) {
	dir, err := s.folder(args)
	if err != nil {
		return nil, err
	}
	if opt.Identity, err = s.identity(); err != nil {
		return nil, err
	}
	opt.Now = time.Now()
	list, err := kvstore.LookAt(cmd.Context(), vfs.OS, dir, opt)
	return list, kvError(err)
}

// kvError makes what is wrong with the question an error of usage.
func kvError(err error) error {
	if errors.Is(err, kvstore.ErrNoCache) || errors.Is(err, kvstore.ErrSelection) {
		return &usageError{err: err}
	}
	return err
}

// writeIndented prints JSON for people and programs.
func writeIndented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
