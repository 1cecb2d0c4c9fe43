package cli

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// TestMistakesAreShort: every command answers a flag that it does not know with
// two lines, and nothing on standard output.
func TestMistakesAreShort(t *testing.T) {
	commands := newRoot(nil, nil, nil).Commands()
	if len(commands) < 12 {
		t.Fatalf("%d commands", len(commands))
	}
	for _, cmd := range commands {
		var out, errs bytes.Buffer
		code := Main([]string{cmd.Name(), "--no-such"}, &out, &errs)
		want := "ds4bench: unknown flag: --no-such\nsee ds4bench " + cmd.Name() + " --help\n"
		if code != ExitUsage || errs.String() != want || out.Len() > 0 {
			t.Errorf("%s: exit code %d\n%s%s", cmd.Name(), code, errs.String(), out.String())
		}
	}
}

// TestBadFilesAreUsage: a file that was named and cannot be used is the caller's to
// mend, whichever command it is for.
func TestBadFilesAreUsage(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, args := range []string{
		"run ./MISSING.yaml", "run --server MISSING", "run --server-file MISSING",
		"speed --server MISSING", "serve-speed --server MISSING", "compare MISSING MISSING", "compare --a MISSING --b MISSING",
		"list ./MISSING.yaml", "report MISSING", "report MISSING -o x", "merge MISSING -o x", "selftest ./MISSING.yaml", "selftest --server MISSING",
		"inject --rule fsync:eio -- MISSING", "inject --rule fsync:eio --dir MISSING -- true", "explore --server MISSING", "init a b",
		"doctor --server-file MISSING",
	} {
		var out, errs bytes.Buffer
		words := strings.Fields(strings.ReplaceAll(strings.ReplaceAll(args, "./MISSING", missing), "MISSING", missing))
		code := Main(words, &out, &errs)
		if code != ExitUsage || out.Len() > 0 || !strings.Contains(errs.String(), "missing") && args != "init a b" {
			t.Errorf("ds4bench %s: exit code %d\n%s%s", args, code, errs.String(), out.String())
		}
	}
}
