package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ds4/faults/explore"
	"ds4/faults/syscalls"
)

// exploreFlags are those of ds4bench explore.
type exploreFlags struct {
	server   serverFlags
	max      int
	parallel int
	random   int
	seed     uint64
	timeout  time.Duration
	keep     string
	tokens   int
	forbid   string
	stored   string
	ready    string
	noReuse  bool
	check    string
	lying    bool
}

// kvWord stands for the directory in command lines.
const kvWord = "$KV"

// Bounds and defaults of explore.
const (
	defaultStates    = 200
	maxStates        = 1_000_000
	defaultExplorers = 2
	maxRandomStates  = 10_000
	defaultQuestion  = 300 // tokens
	maxQuestion      = 100_000
	// damageWords are what a log says of a published file that is no good: after a
	// power cut there must be none.
	damageWords = `corrupt=[1-9]|kv cache load failed|quarantined`
	// storedWords are what a log says of tokens that no power cut takes away again.
	storedWords = `kv cache stored tokens=([0-9]+)`
)

// exploredFlags are those of a server of this project that is explored: small
// segments, so that a short run has several.
var exploredFlags = []string{"serve", "--host", "127.0.0.1", "--port", "0", "--ctx", "4096",
	"--kv-disk-dir", kvWord, "--kv-segment-tokens", "128", "--kv-cache-min-tokens", "64"}

func newExplore() *cobra.Command {
	var f exploreFlags
	cmd := &cobra.Command{
		Use:   "explore [-- COMMAND [ARGUMENT ...]]",
		Short: "Try every directory that a power cut may leave",
		Long: `Records what one run of a server writes into its cache directory, builds the
directories that a power cut at any moment of it may leave, starts the server on
each of them, asks the question again, and compares the answer with that of the
first run.

What counts as durable: the contents of a file after fsync of it, a name after
fsync of its folder. Of everything else any part may be there, in any order, down
to half of a block of 512 bytes. There are more such directories than can be
tried: what the order of operations leaves, each single loss, contents without
names and names without contents, blocks of each file, subsets of names, and some
at random are, up to --max-states; the report says how many there were.

A directory is bad if the server does not start on it or does not answer as
before, if its log speaks of damage (--forbid-log), if less is reused than the
recorded server had said was stored (--stored-log), or, once it had ended in good
order, than without the power cut.

COMMAND starts the server; ` + kvWord + ` in it becomes the directory, ` + portWord + ` a free port. A
server that is given no port must say where it listens, as ds4 does. Without one a ds4 serve is explored. With --check any program
can be: COMMAND runs to its end once, and the check, a line for the shell, judges
each directory by its exit code; both have it in the variable KV, too.

Exit codes: 0 every directory that was tried is good, 1 bad ones were found, 2
wrong usage, 3 nothing could be tried.`,
		Example: `  ds4bench explore
  ds4bench explore --max-states 5000 --timeout 1h
  ds4bench explore -- ./ds4 serve --port 0 --kv-disk-dir '$KV' --kv-segment-tokens 256
  ds4bench explore --check './verify "$KV"' -- ./save '$KV/file'`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.execute(cmd, args) },
	}
	f.server.addFlags(cmd)
	cmd.Flags().IntVar(&f.max, "max-states", defaultStates, "at most so many directories are tried")
	cmd.Flags().IntVarP(&f.parallel, "parallel", "j", defaultExplorers, "how many are tried at a time")
	cmd.Flags().IntVar(&f.random, "random", 2, "directories at random for each moment")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "of the random ones")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 0, "for everything together (default: none); what was not tried by then is said")
	cmd.Flags().StringVar(&f.keep, "keep", "", "`folder` for bad directories (default: a temporary one)")
	cmd.Flags().IntVar(&f.tokens, "tokens", defaultQuestion, "length of the question, about")
	cmd.Flags().StringVar(&f.forbid, "forbid-log", damageWords, "`pattern` of lines that a server must not log on a directory; empty for none")
	cmd.Flags().StringVar(&f.stored, "stored-log", storedWords, "`pattern` of lines that promise that tokens are durable; its group is their number; empty for none")
	cmd.Flags().StringVar(&f.ready, "ready", "", "`path` that a server with "+portWord+" answers once it is ready (default: /v1/models)")
	cmd.Flags().BoolVar(&f.noReuse, "no-reuse", false, "how much is reused is not judged, for servers that do not tell")
	cmd.Flags().StringVar(&f.check, "check", "", "a `line` for the shell that judges a directory, instead of a server")
	cmd.Flags().BoolVar(&f.lying, "lying-disk", false, "the disk makes nothing durable, whatever it says: only the answers must be right")
	return cmd
}

// validate checks the flags and makes what is explored.
func (f *exploreFlags) validate(cmd *cobra.Command, command []string) (explorable, func(), error) {
	nothing := func() {}
	switch {
	case f.max < 1 || f.max > maxStates:
		return nil, nothing, usagef(cmd, "--max-states %d is not between 1 and %d", f.max, maxStates)
	case f.parallel < 1 || f.parallel > maxParallel:
		return nil, nothing, usagef(cmd, "--parallel %d is not between 1 and %d", f.parallel, maxParallel)
	case f.random < 0 || f.random > maxRandomStates:
		return nil, nothing, usagef(cmd, "--random %d is not between 0 and %d", f.random, maxRandomStates)
	case f.tokens < 1 || f.tokens > maxQuestion:
		return nil, nothing, usagef(cmd, "--tokens %d is not between 1 and %d", f.tokens, maxQuestion)
	case f.timeout < 0:
		return nil, nothing, usagef(cmd, "--timeout %v is negative", f.timeout)
	case f.server.target != "":
		return nil, nothing, usagef(cmd, "a server that runs already cannot be explored: it must be started on each directory")
	case len(command) > 0 && f.server.path != "":
		return nil, nothing, usagef(cmd, "--server and a command exclude each other")
	}
	forbid, err := regexp.Compile(f.forbid)
	if err != nil {
		return nil, nothing, usagef(cmd, "--forbid-log: %w", err)
	}
	stored, err := regexp.Compile(f.stored)
	if err != nil || f.stored != "" && stored.NumSubexp() != 1 {
		return nil, nothing, usagef(cmd, "--stored-log %q: want a pattern with one group", f.stored)
	}
	if f.ready != "" && !strings.HasPrefix(f.ready, "/") {
		return nil, nothing, usagef(cmd, "--ready %q: want a path", f.ready)
	}
	if f.check != "" {
		if len(command) == 0 {
			return nil, nothing, usagef(cmd, "--check needs a command to record")
		}
		return &program{command: command, check: f.check}, nothing, nil
	}
	s := &exploredServer{command: command, lying: f.lying, noReuse: f.noReuse, ready: f.ready}
	if f.forbid != "" {
		s.forbid = forbid
	}
	if f.stored != "" {
		s.stored = stored
	}
	if s.question, err = question(f.tokens); err != nil {
		return nil, nothing, infrastructure(err)
	}
	cleanup := nothing
	if len(command) == 0 {
		found, err := f.server.resolve(cmd.Context(), cmd)
		if err != nil {
			return nil, nothing, err
		}
		s.command, cleanup = append([]string{found.path}, exploredFlags...), found.cleanup
	} else if !strings.Contains(strings.Join(command, " "), kvWord) {
		return nil, nothing, usagef(cmd, "the command does not name its directory: write %s (in quotes, for the shell)", kvWord)
	}
	return s, cleanup, nil
}

func (f *exploreFlags) execute(cmd *cobra.Command, args []string) error {
	before, command := splitDash(cmd, args)
	if len(before) > 0 {
		return usagef(cmd, "unexpected argument %q: the command comes after --", before[0])
	}
	what, cleanup, err := f.validate(cmd, command)
	if err != nil {
		return err
	}
	defer cleanup()
	ctx := cmd.Context()
	for _, a := range syscalls.Abilities() {
		if err := syscalls.Probe(ctx, a); err != nil {
			return infrastructure(err)
		}
	}
	work, err := os.MkdirTemp("", "ds4bench-explore-")
	if err != nil {
		return infrastructure(err)
	}
	defer os.RemoveAll(work)
	start := time.Now()
	history, err := record(ctx, what, filepath.Join(work, "run"))
	if err != nil {
		return infrastructure(err)
	}
	w := cmd.OutOrStdout()
	describe(w, history, time.Since(start))
	set, err := history.States(ctx, explore.Options{Max: f.max, Random: f.random, Seed: f.seed, NoSync: f.lying})
	if err != nil {
		return infrastructure(err)
	}
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout-time.Since(start))
		defer cancel()
	}
	if f.keep == "" {
		f.keep = filepath.Join(os.TempDir(), fmt.Sprintf("ds4bench-states-%d", os.Getpid()))
	}
	tried, err := f.try(ctx, cmd.ErrOrStderr(), what, set, work)
	f.report(w, set, tried, time.Since(start))
	switch {
	case len(tried.Findings) > 0:
		return &exitError{ExitFail, err}
	case err != nil:
		return infrastructure(err)
	case cmd.Context().Err() != nil:
		return infrastructure(errors.New("stopped early"))
	case tried.States < 2:
		return infrastructure(errors.New("no directory but the last one was tried"))
	}
	return nil
}

// record runs a program once.
func record(ctx context.Context, what explorable, dir string) (*explore.History, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	rec, err := explore.NewRecorder(dir)
	if err != nil {
		return nil, err
	}
	sup, err := syscalls.New(syscalls.Config{Dir: dir, Observe: rec.Observe, Log: func(string) {}})
	if err != nil {
		return nil, err
	}
	defer sup.Close()
	if err := what.run(ctx, sup, dir, rec.Len); err != nil {
		return nil, fmt.Errorf("the run to be recorded: %w", err)
	}
	history, err := rec.Finish()
	if unseen := sup.Unseen(); err != nil && len(unseen) > 0 {
		err = fmt.Errorf("%w (%s)", err, strings.Join(unseen, "; "))
	}
	return history, err
}

// try checks the directories: first what the run left in good order, which says
// what the others are compared with.
func (f *exploreFlags) try(ctx context.Context, log io.Writer, what explorable, set *explore.Set, work string) (explore.Tried, error) {
	if err := os.MkdirAll(f.keep, 0o700); err != nil {
		return explore.Tried{}, err
	}
	defer os.Remove(f.keep) // stays if something was kept
	p := newProgress(log)
	defer p.clear()
	total := len(set.States)
	each := func(base int) func(int, *explore.State, error) {
		return func(done int, s *explore.State, err error) {
			p.line(fmt.Sprintf("[%d/%d] after operation %d, %s", base+done, total, s.Point, s.After))
			if err != nil {
				p.say("bad     %s", s)
			}
		}
	}
	first := &explore.Set{States: set.States[:1]}
	tried, err := explore.Check(ctx, first, 1, work, f.keep, what.judge, each(0))
	if err != nil || len(tried.Findings) > 0 {
		return tried, err
	}
	if err := what.settled(); err != nil && ctx.Err() == nil {
		return tried, err
	}
	rest := &explore.Set{States: set.States[1:]}
	more, err := explore.Check(ctx, rest, f.parallel, work, f.keep, what.judge, each(1))
	more.States += tried.States
	return more, err
}

// describe says what was recorded.
func describe(w io.Writer, h *explore.History, took time.Duration) {
	count := map[explore.Kind]int{}
	bytes := 0
	for _, op := range h.Ops {
		count[op.Kind]++
		bytes += len(op.Data)
	}
	fmt.Fprintf(w, "recorded %d operations in %.1f s: %d writes of %d bytes, %d fsyncs of files and %d of folders, %d renames, %d creates, %d other\n",
		len(h.Ops), took.Seconds(), count[explore.Write], bytes, count[explore.Sync], count[explore.SyncDir], count[explore.Rename], count[explore.Create],
		len(h.Ops)-count[explore.Write]-count[explore.Sync]-count[explore.SyncDir]-count[explore.Rename]-count[explore.Create])
}

// maxShown bounds the findings that are printed in full; all are kept.
const maxShown = 10

// report says what was tried and found.
func (f *exploreFlags) report(w io.Writer, set *explore.Set, tried explore.Tried, took time.Duration) {
	for i, one := range tried.Findings {
		if i == maxShown {
			fmt.Fprintf(w, "... and %d more, all kept in %s\n", len(tried.Findings)-i, f.keep)
			break
		}
		fmt.Fprintf(w, "bad: %s\n  %v\n", one.State, one.Err)
		for j, lost := range one.State.Lost {
			if j == maxShown {
				fmt.Fprintf(w, "  lost: ... and %d more\n", len(one.State.Lost)-j)
				break
			}
			fmt.Fprintf(w, "  lost: %s\n", lost)
		}
		fmt.Fprintf(w, "  kept: %s\n", one.Dir)
	}
	bound := fmt.Sprintf("all of them at %d of %d moments, a choice at the others", set.Exhausted, set.Moments)
	if set.Complete() {
		bound = "all that are legal"
	}
	left := ""
	if n := set.Found - tried.States; n > 0 {
		left = fmt.Sprintf(", %d were not", n)
	}
	fmt.Fprintf(w, "%d directories built (%s); %d tried in %.1f s%s; %d bad\n", set.Found, bound, tried.States, took.Seconds(), left, len(tried.Findings))
}
