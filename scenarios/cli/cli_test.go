package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"ds4/faults/disk"
	"ds4/faults/proc"
	"ds4/faults/root"
	"ds4/faults/syscalls"
)

func TestMain(m *testing.M) {
	disk.Main(os.Args[1:])
	root.Main(os.Args[1:])
	syscalls.Main(os.Args[1:])
	proc.Main(os.Args[1:])
	switch {
	case len(os.Args) > 1 && os.Args[1] == otherWord:
		serveOther(os.Args[2:])
	case os.Getenv(benchVar) != "":
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	testscript.Main(m, map[string]func(){
		otherServer: func() { serveOther(os.Args[1:]) },
		"ds4bench":  func() { os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// The scripts under testdata/script run ds4bench as a person does. The command
// "exits N PROGRAM ARG..." wants exactly the exit code N, "cut N FILE" takes the
// last N bytes of a file away; the condition "syscalls" holds where system calls can
// be put under rules; $REPORTS holds recorded
// results files and $SCENARIOS the source directory of package scenarios.
func TestScripts(t *testing.T) {
	reports, err := filepath.Abs("../../reports/testdata")
	if err != nil {
		t.Fatal(err)
	}
	source, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("REPORTS", reports)
			env.Setenv("SCENARIOS", source)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "syscalls" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			var errs []error
			for _, a := range syscalls.Abilities() {
				errs = append(errs, syscalls.Probe(t.Context(), a))
			}
			return errors.Join(errs...) == nil, nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits, "cut": cut},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("exits: %v", err)
	}
	got := 0
	var exit *exec.ExitError
	switch err := ts.Exec(args[1], args[2:]...); {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func cut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: cut BYTES FILE")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	text := ts.ReadFile(args[1])
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text[:len(text)-n]), 0o644))
}
