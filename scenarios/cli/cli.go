// Package cli holds the commands of ds4bench, one file each.
//
// It promises the exit codes of the constants below, that an error is printed
// once, on standard error, and that standard output carries only what was asked
// for. Ctrl-C ends a command the way the end of its work does: with a report of
// what it had, and no process left behind. How scenarios run and how numbers are
// computed is decided elsewhere.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"ds4/faults/disk"
	"ds4/faults/proc"
	"ds4/faults/root"
	"ds4/faults/syscalls"
	"ds4/scenarios"
)

// Version of ds4bench, in the records of every result.
const Version = "0.1.0"

// Exit codes.
const (
	ExitPass         = 0
	ExitFail         = 1 // an assertion did not hold
	ExitUsage        = 2 // the command line or a file that it names is wrong
	ExitInconclusive = 3 // nothing was proven: a fault that never fired, a server that ends at its very first start, an interrupt
)

// usageError is a mistake in the command line of cmd, whose help says more.
type usageError struct {
	err error
	cmd *cobra.Command
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// exitError ends a command with a code. Without an error there is nothing more to
// say: the report has said it.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// badFile is a file that cannot be used, which is the caller's to mend.
func badFile(err error) error { return &exitError{ExitUsage, err} }

// infrastructure is a failure that says nothing about the server under test.
func infrastructure(err error) error { return &exitError{ExitInconclusive, err} }

// limited ends ctx after --timeout, with that as the cause; 0 is no limit.
func limited(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, timeout, fmt.Errorf("--timeout of %v passed", timeout))
}

// Main runs ds4bench with the arguments after the program's name and returns the
// exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	// None of these returns when this program was started to do a part of its own work.
	disk.Main(args)
	root.Main(args)
	proc.Main(args)
	syscalls.Main(args)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal ends the work in good order. Default handling returns with
	// it, so that a second one ends a command that does not.
	context.AfterFunc(ctx, stop)
	root := newRoot(args, stdout, stderr)
	root.SetArgs(args)
	return report(stderr, root.ExecuteContext(ctx))
}

func newRoot(args []string, stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "ds4bench",
		Short: "Replay failures against a ds4 server, measure recovery and throughput",
		Long: `ds4bench starts real ds4 servers, fills their disk KV cache, kills them, damages
files, forces device errors, and checks that they come back with the right
answer within a bounded number of retries. It also measures what that cost.

Start here:
  ds4bench run                        every built-in scenario that this host allows
  ds4bench run stale-kv-after-kill9   one of them
  ds4bench list                       what there is
  ds4bench speed                      prefill and decode throughput
  ds4bench serve-speed                latency and goodput, several requests at a time
  ds4bench compare --a OLD --b NEW    faster, slower, the same, or nobody can tell
  ds4bench selftest                   proof that scenarios notice a broken server
  ds4bench doctor                     what this host allows, and why not
  ds4bench inject --rule RULE -- CMD  any program while its system calls fail
  ds4bench explore                    every directory that a power cut may leave
  ds4bench init --ci github           a scenario of your own, and a job that runs it

Exit codes: 0 pass, 1 an assertion did not hold, 2 wrong usage or a bad file,
3 inconclusive (a fault that never fired, no server, interrupted).`,
		Version:       Version,
		Args:          knownCommand,
		SilenceErrors: true, // report prints them, once
		SilenceUsage:  true,
		// Edits between a misspelt command and the one that is suggested.
		SuggestionsMinimumDistance: 2,
		RunE:                       noCommand,
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, err) })
	root.AddCommand(newRun(args), newSpeed(args), newServeSpeed(args), newCompare(args), newList(), newSchema(), newReport(), newMerge(),
		newSelftest(), newInject(), newExplore(args), newDoctor(), newInit())
	for _, cmd := range root.Commands() {
		// Flags come first: behind -- they would be those of the server.
		name, operands, _ := strings.Cut(cmd.Use, " ")
		cmd.Use, cmd.DisableFlagsInUseLine = strings.TrimSpace(name+" [flags] "+operands), true
	}
	return root
}

// knownCommand refuses arguments of the root command, which are misspelt commands.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef(cmd, "unknown command %q (did you mean %q?)", args[0], near[0])
	}
	return usagef(cmd, "unknown command %q", args[0])
}

// noCommand tells who names none which there are. Nothing was run, so it is no pass.
func noCommand(cmd *cobra.Command, _ []string) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "no command given\n\n%s\n\n%s", cmd.Long, cmd.UsageString())
	return &exitError{code: ExitUsage}
}

// usage marks an error as a mistake in the command line of cmd.
func usage(cmd *cobra.Command, err error) error {
	return &usageError{err, cmd}
}

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return usage(cmd, fmt.Errorf(format, args...))
}

// noArgs is for commands that take none.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef(cmd, "unexpected argument %q", args[0])
	}
	return nil
}

// atMostOne is for commands that take one, or none.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef(cmd, "unexpected argument %q", args[1])
	}
	return nil
}

// report prints what a command returned and chooses the exit code.
func report(stderr io.Writer, err error) int {
	var wrong *usageError
	var exit *exitError
	switch {
	case err == nil:
		return ExitPass
	case errors.As(err, &wrong):
		fmt.Fprintf(stderr, "ds4bench: %v\nsee %s --help\n", wrong.err, wrong.cmd.CommandPath())
		return ExitUsage
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintf(stderr, "ds4bench: %v\n", exit.err)
		}
		return exit.code
	case errors.Is(err, scenarios.ErrUnknown):
		fmt.Fprintf(stderr, "ds4bench: %v; ds4bench list shows all\n", err)
		return ExitUsage
	default:
		fmt.Fprintf(stderr, "ds4bench: %v\n", err)
		return ExitInconclusive
	}
}
