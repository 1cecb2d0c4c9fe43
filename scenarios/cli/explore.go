package cli

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ds4/faults/explore"
)

// exploreFlags are those of ds4bench explore.
type exploreFlags struct {
	server   serverFlags
	output   outputFlags
	count    int // of runs
	requests int // of each run
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

	command    []string // behind --
	invocation []string
}

// kvWord stands for the directory in command lines.
const kvWord = "$KV"

// Bounds and defaults of explore.
const (
	defaultStates    = 200
	maxStates        = 1_000_000
	defaultExplorers = 2
	maxRandomStates  = 10_000
	defaultRandom    = 2
	defaultQuestion  = 300 // tokens
	maxQuestion      = 100_000
	// damageWords are what a log says of a published file that is no good: after a
	// power cut there must be none. A strike is no damage: a server that was killed may
	// have been killed by what it restored.
	damageWords = `corrupt=[1-9]|kv cache load failed|kv cache quarantined key=\S+ why=(torn|corrupt|notfile|misnamed)`
	// storedWords are what a log says of tokens that no power cut takes away again.
	storedWords = `kv cache stored tokens=([0-9]+)`
)

// exploredFlags are those of a server of this project that is explored: small
// segments, so that a short run has several.
var exploredFlags = []string{"serve", "--host", "127.0.0.1", "--port", "0", "--ctx", "4096",
	"--kv-disk-dir", kvWord, "--kv-segment-tokens", "128", "--kv-cache-min-tokens", "64"}

func newExplore(invocation []string) *cobra.Command {
	f := exploreFlags{invocation: invocation}
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

With --requests the recorded run is drawn from --seed: questions that begin alike,
repeat or part, and ends and kills of the server between them. Every directory is
asked all of them, and so is a server without a cache. --runs explores so many
runs, each with the next seed.

COMMAND starts the server; ` + kvWord + ` in it becomes the directory, ` + portWord + ` a free port. A
server that is given no port must say where it listens, as ds4 does. Without a
COMMAND a ds4 serve is explored. With --check any program can be: COMMAND runs to
its end once, and the check, a line for the shell, judges each directory by its
exit code; both have it in the variable KV, too.

Exit codes: 0 every directory that was tried is good, 1 bad ones were found, 2
wrong usage, 3 nothing could be tried.`,
		Example: `  ds4bench explore
  ds4bench explore --max-states 5000 --timeout 1h
  ds4bench explore --runs 20 --requests 6 --seed 100 --report html=explored.html
  ds4bench explore -- ./ds4 serve --port 0 --kv-disk-dir '$KV' --kv-cache-min-tokens 64 --kv-segment-tokens 256
  ds4bench explore --check './verify "$KV"' -- ./save '$KV/file'`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.execute(cmd, args) },
	}
	f.server.addPath(cmd)
	f.output.addFlags(cmd)
	cmd.Flags().IntVar(&f.count, "runs", 1, "how many runs are recorded and explored, each with the next seed")
	cmd.Flags().IntVar(&f.requests, "requests", 1, "requests of a run; with several, what they are and what ends the server between them is drawn from the seed")
	cmd.Flags().IntVar(&f.max, "max-states", defaultStates, "at most so many directories of each run are tried")
	cmd.Flags().IntVarP(&f.parallel, "parallel", "j", defaultExplorers, "how many are tried at a time")
	cmd.Flags().IntVar(&f.random, "random", defaultRandom, "directories at random for each moment")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "of what is random: directories, and runs with --requests")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 0, "for everything together (default: none); what was not tried by then is said")
	cmd.Flags().StringVar(&f.keep, "keep", "", "`folder` for bad directories (default: a temporary one)")
	cmd.Flags().IntVar(&f.tokens, "tokens", defaultQuestion, "length of a question, about")
	cmd.Flags().StringVar(&f.forbid, "forbid-log", damageWords, "`pattern` of lines that a server must not log on a directory; empty for none")
	cmd.Flags().StringVar(&f.stored, "stored-log", storedWords, "`pattern` of lines that promise that tokens are durable; its group is their number; empty for none")
	cmd.Flags().StringVar(&f.ready, "ready", "", "`path` that a server with "+portWord+" answers once it is ready (default: /v1/models)")
	cmd.Flags().BoolVar(&f.noReuse, "no-reuse", false, "how much is reused is not judged, for servers that do not tell")
	cmd.Flags().StringVar(&f.check, "check", "", "a `line` for the shell that judges a directory, instead of a server")
	cmd.Flags().BoolVar(&f.lying, "lying-disk", false, "the disk makes nothing durable, whatever it says: only the answers must be right")
	return cmd
}

// validate checks the flags, and says how what is explored is made for the present
// seed.
func (f *exploreFlags) validate(cmd *cobra.Command) (each func() (explorable, error), srv server, err error) {
	srv = server{cleanup: func() {}}
	if err := f.bounds(cmd); err != nil {
		return nil, srv, err
	}
	forbid, err := regexp.Compile(f.forbid)
	if err != nil {
		return nil, srv, usagef(cmd, "--forbid-log: %w", err)
	}
	stored, err := regexp.Compile(f.stored)
	if err != nil || f.stored != "" && stored.NumSubexp() != 1 {
		return nil, srv, usagef(cmd, "--stored-log %q: want a pattern with one group", f.stored)
	}
	if f.check != "" {
		return func() (explorable, error) { return &program{command: f.command, check: f.check}, nil }, srv, nil
	}
	command := f.command
	if len(command) == 0 {
		if srv, err = f.server.resolve(cmd.Context(), cmd); err != nil {
			return nil, server{cleanup: func() {}}, err
		}
		command = append([]string{srv.path}, exploredFlags...)
	} else if !strings.Contains(strings.Join(command, " "), kvWord) {
		return nil, srv, usagef(cmd, "the command does not name its directory: write %s (in quotes, for the shell)", kvWord)
	}
	return func() (explorable, error) {
		script, err := newScript(f.seed, f.requests, f.tokens)
		if err != nil {
			return nil, err
		}
		s := &exploredServer{command: command, script: script, lying: f.lying, noReuse: f.noReuse, ready: f.ready}
		if f.forbid != "" {
			s.forbid = forbid
		}
		if f.stored != "" && f.requests == 1 { // a line does not say which question it is about
			s.stored = stored
		}
		return s, nil
	}, srv, nil
}

// bounds checks single flags.
func (f *exploreFlags) bounds(cmd *cobra.Command) error {
	switch {
	case f.count < 1 || f.count > maxRuns:
		return usagef(cmd, "--runs %d is not between 1 and %d", f.count, maxRuns)
	case f.requests < 1 || f.requests > maxRequests:
		return usagef(cmd, "--requests %d is not between 1 and %d", f.requests, maxRequests)
	case f.max < 1 || f.max > maxStates:
		return usagef(cmd, "--max-states %d is not between 1 and %d", f.max, maxStates)
	case f.parallel < 1 || f.parallel > maxParallel:
		return usagef(cmd, "--parallel %d is not between 1 and %d", f.parallel, maxParallel)
	case f.random < 0 || f.random > maxRandomStates:
		return usagef(cmd, "--random %d is not between 0 and %d", f.random, maxRandomStates)
	case f.tokens < 1 || f.tokens > maxQuestion:
		return usagef(cmd, "--tokens %d is not between 1 and %d", f.tokens, maxQuestion)
	case f.timeout < 0:
		return usagef(cmd, "--timeout %v is negative", f.timeout)
	case f.server.target != "":
		return usagef(cmd, "a server that runs already cannot be explored: it must be started on each directory")
	case len(f.command) > 0 && f.server.path != "":
		return usagef(cmd, "--server and a command exclude each other")
	}
	if f.ready != "" && !strings.HasPrefix(f.ready, "/") {
		return usagef(cmd, "--ready %q: want a path", f.ready)
	}
	switch {
	case f.check != "" && len(f.command) == 0:
		return usagef(cmd, "--check needs a command to record")
	case f.check != "" && f.requests > 1:
		return usagef(cmd, "--requests is about servers; what --check judges makes none")
	}
	return nil
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
