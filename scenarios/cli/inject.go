package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"ds4/faults"
	"ds4/faults/syscalls"
)

// injectFlags are those of ds4bench inject.
type injectFlags struct {
	rules    []string
	dir      string
	mustFire bool
	verbose  bool
}

// exitBySignal is added to the number of the signal that ended a command, as
// shells do.
const exitBySignal = 128

func newInject() *cobra.Command {
	var f injectFlags
	cmd := &cobra.Command{
		Use:   "inject --rule RULE ... -- COMMAND [ARGUMENT ...]",
		Short: "Run any program while its system calls fail by rules",
		Long: `Runs a command, and everything that it starts, under rules for system calls on
files:

  OPERATION{:KEY=VALUE}:ACTION      such as  write:path=*.kv:nth=3:enospc

operations  ` + wrappedBehind(append(syscalls.Ops(), faults.AnyOp)) + `
actions     eio, enospc, eacces, err(ERRNO); short(N), flip(OFF), zero(OFF,N) of a
            read or write; lie: say that it was done, and do nothing; delay(D),
            hang; kill9
which call  path=GLOB (the whole name or its last element; of a rename the new
            name), nth=N, every=K, times=N, prob=P,SEED
in part     part=P% or part=N: so much of a write is done before the action.
            part=100% does the whole call first, of any kind

Calls are counted over all threads and processes of the command, from the first
one on; --dir restricts them to what matters. Pipes, sockets and devices do not
count. No root is needed, and the command may be any Linux program. Stores to
mapped files are not seen, which is said when it happens; io_uring is refused.

The exit code is the command's own, 128 + the number of the signal that ended it,
3 if this host does not allow it or a rule did not fire with --must-fire, 2 for
wrong usage. Signals go to the command; what it leaves running in its process
group is killed when it ends.`,
		Example: `  ds4bench inject --rule 'fsync:nth=2:eio' -- ./ds4 serve --kv-disk-dir /tmp/kv
  ds4bench inject --dir ./out --rule 'rename:part=100%:kill9' -- make install
  ds4bench inject --rule 'write:path=*.db:part=50%:kill9:nth=7' -- ./my-server`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.execute(cmd, args) },
	}
	cmd.Flags().StringArrayVar(&f.rules, "rule", nil, "a `rule`; may be repeated. Of those that match a call the first one that fires counts")
	cmd.Flags().StringVar(&f.dir, "dir", "", "only files below this `folder` count (default: all files)")
	cmd.Flags().BoolVar(&f.mustFire, "must-fire", false, "exit code 3 if the command succeeds although a rule did not fire")
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "say at once when a rule fires, and not only at the end")
	return cmd
}

// wrappedBehind lists words behind the label of a help text.
func wrappedBehind(words []string) string {
	const indent = "            "
	text := strings.TrimSuffix(wrapped(words), "\n")
	return strings.ReplaceAll(strings.TrimLeft(text, " "), "\n ", "\n"+indent[1:])
}

func (f *injectFlags) execute(cmd *cobra.Command, args []string) error {
	before, command := splitDash(cmd, args)
	switch {
	case len(before) > 0:
		return usagef(cmd, "unexpected argument %q: the command comes after --", before[0])
	case len(command) == 0:
		return usagef(cmd, "no command: it comes after --")
	case len(f.rules) == 0:
		return usagef(cmd, "no --rule: nothing would happen to the command")
	}
	rules, err := parseCallRules(f.rules)
	if err != nil {
		return usagef(cmd, "--rule: %w", err)
	}
	if f.dir != "" {
		if info, err := os.Stat(f.dir); err != nil || !info.IsDir() {
			return usagef(cmd, "--dir %s is no folder: nothing below it would count", f.dir)
		}
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return badFile(err)
	}
	if err := probeCalls(cmd.Context(), rules); err != nil {
		return infrastructure(err)
	}
	stderr := cmd.ErrOrStderr()
	sup, err := syscalls.New(syscalls.Config{Rules: rules, Dir: f.dir, Log: f.log(stderr)})
	if err != nil {
		return infrastructure(err)
	}
	defer sup.Close()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	child := exec.Command(path, command[1:]...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, cmd.OutOrStdout(), stderr
	state, err := sup.Run(child, signals)
	if err != nil {
		return infrastructure(err)
	}
	return f.conclude(stderr, sup.Status(), state)
}

// log passes on what the supervisor says: all of it, or what is not said again at
// the end.
func (f *injectFlags) log(w io.Writer) func(string) {
	return func(line string) {
		if f.verbose || !strings.HasPrefix(line, "fault ") {
			fmt.Fprintf(w, "ds4bench: %s\n", line)
		}
	}
}

// conclude reports on the rules and passes the command's exit code on.
func (f *injectFlags) conclude(w io.Writer, status []syscalls.Status, state *os.ProcessState) error {
	var idle []string
	for _, st := range status {
		fmt.Fprintf(w, "ds4bench: rule %s: %d calls matched, fired %d times\n", st.Rule, st.Seen, st.Fired)
		if st.Fired == 0 {
			idle = append(idle, st.Rule.String())
		}
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return &exitError{code: exitBySignal + int(ws.Signal()), err: fmt.Errorf("the command was ended by a signal: %s", ws.Signal())}
	}
	switch {
	case state.ExitCode() != 0:
		return &exitError{code: state.ExitCode()}
	case f.mustFire && len(idle) > 0:
		return infrastructure(fmt.Errorf("the command succeeded, and these rules did not fire: %s", strings.Join(idle, ", ")))
	}
	return nil
}

// parseCallRules reads rules of system calls.
func parseCallRules(texts []string) ([]syscalls.Rule, error) {
	var list []syscalls.Rule
	for _, text := range texts {
		r, err := syscalls.ParseRule(text)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

// probeCalls says what this host does not allow of what rules need.
func probeCalls(ctx context.Context, rules []syscalls.Rule) error {
	var needs []syscalls.Ability
	for _, r := range rules {
		needs = append(needs, r.Needs()...)
	}
	slices.Sort(needs)
	var errs []error
	for _, a := range slices.Compact(needs) {
		errs = append(errs, syscalls.Probe(ctx, a))
	}
	return errors.Join(errs...)
}
