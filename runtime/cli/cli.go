// Package cli holds the commands of ds4, one file each, and puts the program
// together: model, device, engine, store, scheduler, server.
//
// Promises. Main never calls os.Exit except for a second signal; everything a
// command says goes to the Streams that it was given, results to Out, progress
// and complaints to Err. Exit codes: 0 done, 1 failed, 2 the command line, a
// setting or an input file is wrong, or another instance holds the lock, 75 the
// device needs a new process (--device-failure-exit), 130 interrupted.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ds4/runtime/config"
)

// Exit codes of the program.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitRestart     = 75 // EX_TEMPFAIL: a supervisor should start a new process
	exitInterrupted = 130
)

// Streams are the program's connections to the world.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Environ  []string // KEY=VALUE
}

// OSStreams are those of the process.
func OSStreams() Streams {
	return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ()}
}

// getenv looks a variable up; of two the last counts.
func (s Streams) getenv(name string) string {
	text := ""
	for _, kv := range s.Environ {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			text = v
		}
	}
	return text
}

// app is one run of the program.
type app struct {
	Streams
}

// usageError is an error about the command line.
type usageError struct {
	err error
	cmd *cobra.Command // whose help says more; nil if the error says it all
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// badUsage reports a mistake in the command line that needs no more words.
func badUsage(format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...)}
}

// badInput marks an error about a file that was to be read.
func badInput(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitUsage, err}
}

// exitError ends the program with a code of its own.
type exitError struct {
	code int
	err  error // nil: nothing more to say
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// Main runs one command line and returns the exit code.
func Main(args []string, std Streams) int {
	a := &app{Streams: std}
	root := a.rootCommand()
	root.SetArgs(args)
	return a.exitCode(root.ExecuteContext(context.Background()))
}

// exitCode prints what an error has to say and chooses the code.
func (a *app) exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	var exit *exitError
	if errors.As(err, &exit) {
		if exit.err != nil {
			fmt.Fprintf(a.Err, "ds4: %v\n", exit.err)
		}
		return exit.code
	}
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintln(a.Err, usage.err)
		if usage.cmd != nil {
			fmt.Fprintf(a.Err, "see %s --help\n", usage.cmd.CommandPath())
		}
		return exitUsage
	}
	fmt.Fprintf(a.Err, "ds4: %v\n", err)
	return exitFailure
}

const rootLong = `ds4 serves and runs DeepSeek-V4-architecture models, with a KV cache on disk that
survives kill -9, damaged files and failing devices.

Start here:
  ds4 run -p "Who are you?"                  one answer of the model that is built in
  ds4 chat                                   a conversation with it
  ds4 serve --kv-disk-dir ~/.cache/ds4       an OpenAI- and Anthropic-compatible server
  ds4 serve -m FILE.gguf --ctx 100000        the same with a model of yours
  ds4 kv ls ~/.cache/ds4                     what the cache on disk holds

A setting can be a flag, a variable (--kv-disk-dir is DS4_KV_DISK_DIR), or a line of
the YAML file of --config; the first of these that has it wins. --print-config prints
all of them with the places that they came from.

Exit codes: 0 done, 1 failed, 2 the command line, a setting or an input file is
wrong, or another server runs, 75 the device needs a new process
(--device-failure-exit), 130 interrupted.`

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "ds4",
		Short:         "serve and run DeepSeek-V4-architecture models with a KV cache that survives",
		Long:          rootLong,
		Version:       versionText(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          a.noCommand,
		// Edits between a misspelt command and the one that is suggested.
		SuggestionsMinimumDistance: 2,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetVersionTemplate("ds4 {{.Version}}\n")
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		usage := &usageError{err: config.FlagError(err)}
		var value *config.ValueError
		if !errors.As(usage.err, &value) { // a bad value is explained; who misspells a name looks for it
			usage.cmd = cmd
		}
		return usage
	})
	root.AddCommand(
		a.serveCommand(), a.runCommand(), a.chatCommand(),
		a.tokenizeCommand(), a.logitsCommand(), a.modelCommand(), a.kvCommand(), a.versionCommand(),
	)
	return root
}

// group makes a command that only has commands below it.
func (a *app) group(name, short string) *cobra.Command {
	return &cobra.Command{Use: name, Short: short, Args: cobra.ArbitraryArgs, RunE: a.noCommand, SuggestionsMinimumDistance: 2}
}

// noCommand is run where the command line should have named a command. Who names
// none wants to know which there are.
func (a *app) noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		fmt.Fprintf(a.Err, "no command given\n\n%s", cmd.UsageString())
		return &exitError{code: exitUsage}
	}
	_, group, _ := strings.Cut(cmd.CommandPath()+" ", " ")
	err := fmt.Errorf("unknown command: %s%s", group, args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		err = fmt.Errorf("%w (did you mean %s?)", err, near[0])
	}
	return &usageError{err, cmd}
}

// settings is a command's set of settings with the file that may fill them.
type settings struct {
	config.Set
	file  string
	print bool
}

// command makes a command that resolves its settings before it runs.
func (a *app) command(use, short string, args cobra.PositionalArgs, s *settings, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, list []string) error {
			if err := args(cmd, list); err != nil {
				return &usageError{err, cmd}
			}
			return nil
		},
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		done, err := a.resolve(s)
		if err != nil || done {
			return err
		}
		return run(cmd, args)
	}
	if s != nil {
		s.AddConfig(&s.file, &s.print)
		s.AddFlags(cmd.Flags())
	}
	return cmd
}

// resolve fills the settings. done says that --print-config was all there was to do.
func (a *app) resolve(s *settings) (done bool, err error) {
	if s == nil {
		return false, nil
	}
	if err := s.Resolve(config.Sources{Environ: a.Environ}); err != nil {
		return false, &usageError{err: err}
	}
	if s.print {
		return true, s.Print(a.Out)
	}
	for _, note := range s.Notes() {
		fmt.Fprintf(a.Err, "ds4: %s\n", note)
	}
	return false, nil
}

// noArgs refuses operands.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument: %s", args[0])
	}
	return nil
}

// maxArgs accepts up to n operands.
func maxArgs(n int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > n {
			return fmt.Errorf("unexpected argument: %s", args[n])
		}
		return nil
	}
}

// oneArg asks for exactly one operand.
func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("%s is missing", what)
		}
		return maxArgs(1)(cmd, args)
	}
}
