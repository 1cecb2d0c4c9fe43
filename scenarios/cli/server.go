package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"ds4/scenarios"
)

// serverFlags says which server a command tests.
type serverFlags struct {
	path   string // --server
	target string // --target
}

func (f *serverFlags) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.path, "server", "", "`path` of the ds4 binary under test (default: ds4 beside ds4bench, else a fresh build of ./cmd/ds4 in a source checkout)")
	cmd.Flags().StringVar(&f.target, "target", "", "`URL` of a server that already runs; nothing is started or killed then")
}

// addPath is addFlags for commands that must start the server themselves. --target is
// known to them, so that they can say why not.
func (f *serverFlags) addPath(cmd *cobra.Command) {
	f.addFlags(cmd)
	cmd.Flags().Lookup("target").Hidden = true
}

// server is a resolved server under test: a binary or a URL.
type server struct {
	path    string
	env     []string // added to ours
	target  string
	foreign *scenarios.Foreign // another server than ds4
	cleanup func()             // removes what was built
}

// resolve finds the server under test, in the order of the help text of --server.
func (f *serverFlags) resolve(ctx context.Context, cmd *cobra.Command) (server, error) {
	nothing := func() {}
	if f.target != "" && f.path != "" {
		return server{}, usagef(cmd, "--server and --target exclude each other: one starts a server, the other names one that runs")
	}
	if f.target != "" {
		u, err := url.Parse(f.target)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return server{}, usagef(cmd, "--target %q is not an http URL", f.target)
		}
		if base, ok := strings.CutSuffix(strings.TrimRight(f.target, "/"), "/v1"); ok { // as clients' base URLs are written
			return server{}, usagef(cmd, "--target %q: paths begin with /v1, so the URL ends before: %s", f.target, base)
		}
		return server{target: f.target, cleanup: nothing}, nil
	}
	if f.path != "" {
		if err := runnable(f.path); err != nil {
			return server{}, badFile(fmt.Errorf("--server: %w", err))
		}
		abs, err := filepath.Abs(f.path) // servers start in directories of their own
		if err != nil {
			return server{}, infrastructure(err)
		}
		return server{path: abs, cleanup: nothing}, nil
	}
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), "ds4"); runnable(beside) == nil {
			return server{path: beside, cleanup: nothing}, nil
		}
	}
	wd, err := os.Getwd()
	if err != nil {
		return server{}, infrastructure(err)
	}
	source, ok := checkout(wd)
	if !ok {
		return server{}, infrastructure(errors.New("no server to test: there is no ds4 beside ds4bench and this is no source checkout; name one with --server or --target"))
	}
	return build(ctx, source, cmd.ErrOrStderr())
}

// runnable says why a path cannot be executed, or nil.
func runnable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", path)
	case info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s is not executable", path)
	}
	return nil
}

// checkout finds the root of the ds4 source tree that dir lies in.
func checkout(dir string) (root string, ok bool) {
	for {
		if text, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil {
			first, _, _ := strings.Cut(string(text), "\n")
			_, err := os.Stat(filepath.Join(dir, "cmd", "ds4"))
			return dir, strings.TrimSpace(first) == "module ds4" && err == nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
}

// build compiles ./cmd/ds4 of a source tree into a temporary directory.
func build(ctx context.Context, source string, log io.Writer) (server, error) {
	dir, err := os.MkdirTemp("", "ds4bench-server-")
	if err != nil {
		return server{}, infrastructure(fmt.Errorf("build ds4: %w", err))
	}
	srv := server{path: filepath.Join(dir, "ds4"), cleanup: func() { os.RemoveAll(dir) }}
	fmt.Fprintf(log, "ds4bench: building the server under test: go build ./cmd/ds4 in %s\n", source)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", srv.path, "./cmd/ds4")
	cmd.Dir = source
	out, err := cmd.CombinedOutput()
	if err != nil {
		srv.cleanup()
		if ctx.Err() != nil {
			return server{}, infrastructure(errors.New("interrupted while building the server"))
		}
		return server{}, infrastructure(fmt.Errorf("build ./cmd/ds4: %w\n%s", err, strings.TrimSpace(string(out))))
	}
	return srv, nil
}
