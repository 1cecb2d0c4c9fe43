package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ds4/reports"
	"ds4/reports/table"
	"ds4/scenarios"
	"ds4/scenarios/run"
	"ds4/scenarios/selftest"
)

// runFlags are those of ds4bench run.
type runFlags struct {
	invocation []string // the command line as it was given

	pick    selection
	server  serverFlags
	foreign foreignFlags
	output  outputFlags
	repeat  int
	seed    uint64
	keep    bool
	timeout time.Duration
	part    string         // --shard
	shard   *reports.Shard // nil without
	mine    map[unit]bool  // the repetitions of the shard
	soak    time.Duration
}

func newRun(invocation []string) *cobra.Command {
	f := runFlags{invocation: invocation}
	cmd := &cobra.Command{
		Use:   "run [PATH or ID ...] [-- SERVER FLAG ...]",
		Short: "Replay scenarios and judge how the server came out",
		Long: `Replays scenarios against real server processes and prints a table: verdict and
outcome of each, retries, how long recovery took, how many tokens were restored
from disk or prefilled again, and prefill throughput.

Without arguments it runs every built-in scenario, but for those tagged soak, which
take their time; what this host does not allow is skipped, with the reason. A path
is a scenario file, or a directory of them; anything else is the id of a built-in
scenario (see ds4bench list). What follows -- is added to the server's command line.

Every failure names its seed and the line that runs it again. Results are written
as JSON lines while running; ds4bench report renders them later.`,
		Example: `  ds4bench run
  ds4bench run stale-kv-after-kill9 --repeat 5
  ds4bench run ./scenarios/ --server ./ds4 --junit results.xml
  ds4bench run --tag ci --lane process -- --threads 2
  ds4bench run --tag soak --for 2h
  ds4bench run --server-command 'llama-server --port $PORT -m m.gguf --slot-save-path $KV'
  ds4bench run --target http://127.0.0.1:8080`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.execute(cmd, args) },
		ValidArgsFunction: func(_ *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			return ids(toComplete), cobra.ShellCompDirectiveDefault
		},
	}
	f.pick.addFlags(cmd)
	f.server.addFlags(cmd)
	f.foreign.addFlags(cmd)
	f.output.addFlags(cmd)
	cmd.Flags().IntVar(&f.repeat, "repeat", 0, "repetitions of each scenario (default: what its file says)")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "seed of the first repetition; each later one has its own")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "keep the working directory of every repetition: cache, logs, damaged files")
	cmd.Flags().StringVar(&f.part, "shard", "", "`i/n`: only the i-th of n parts, for n machines; ds4bench merge joins their results")
	cmd.Flags().DurationVar(&f.soak, "for", 0, "go on for so long, such as 2h: scenarios take equal shares and are repeated or stretched")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 0, "for everything together, such as 10m (default: none; scenarios have deadlines of their own)")
	return cmd
}

// maxRepeat bounds --repeat: beyond it a slip is likelier than a wish.
const maxRepeat = 10_000

func (f *runFlags) execute(cmd *cobra.Command, args []string) error {
	if f.repeat < 0 || f.repeat > maxRepeat {
		return usagef(cmd, "--repeat %d is not between 0 and %d", f.repeat, maxRepeat)
	}
	if f.timeout < 0 {
		return usagef(cmd, "--timeout %v is negative", f.timeout)
	}
	if f.soak < 0 {
		return usagef(cmd, "--for %v is negative", f.soak)
	}
	style, err := tableStyle(cmd, f.output.format)
	if err == nil {
		err = f.output.check(cmd)
	}
	if err != nil {
		return err
	}
	names, serverArgs := splitDash(cmd, args)
	f.pick.args = names
	list, err := f.pick.load(cmd)
	if err != nil {
		return err
	}
	if err := f.deal(cmd, list, serverArgs); err != nil {
		return err
	}
	ctx, cancel := limited(cmd.Context(), f.timeout)
	defer cancel()
	foreign, err := f.foreign.load(cmd, &f.server)
	if err != nil {
		return err
	}
	srv, err := f.resolve(ctx, cmd, foreign, list)
	if err != nil {
		return err
	}
	defer srv.cleanup()
	if err := f.output.writable(); err != nil {
		return err
	}
	if srv.target == "" {
		if err := roomToWork(minWorkBytes); err != nil {
			return err
		}
	}
	out, err := openResults(f.output.out, f.record(ctx, srv, serverArgs))
	if err != nil {
		return err
	}
	out.warn = cmd.ErrOrStderr()
	p := newProgress(cmd.ErrOrStderr())
	runErr := f.replay(ctx, srv, list, serverArgs, out, p)
	p.clear()
	return f.finish(ctx, cmd, style, out, runErr)
}

// deal finds the repetitions of this shard, if there are shards.
func (f *runFlags) deal(cmd *cobra.Command, list []chosen, serverArgs []string) error {
	if f.part == "" {
		return nil
	}
	index, count, err := parseShard(f.part)
	if err != nil {
		return usagef(cmd, "--shard: %v", err)
	}
	all := units(list, f.repeat)
	plan, err := planHash(list, f.repeat, f.seed, serverArgs)
	if err != nil {
		return infrastructure(err)
	}
	f.mine = shardOf(all, index, count)
	f.shard = &reports.Shard{Index: index, Count: count, Plan: plan, Units: len(f.mine), Total: len(all)}
	return nil
}

// resolve finds the server: a ds4 only if one is wanted.
func (f *runFlags) resolve(ctx context.Context, cmd *cobra.Command, foreign *scenarios.Foreign, list []chosen) (server, error) {
	if f.server.path == "" && f.server.target == "" && (foreign != nil || !needsDS4(list)) {
		return server{foreign: foreign, cleanup: func() {}}, nil
	}
	return f.server.resolve(ctx, cmd)
}

// replay runs the scenarios; results go to out as they come.
func (f *runFlags) replay(ctx context.Context, srv server, list []chosen, serverArgs []string, out *results, p *progress) error {
	paths := make(map[string]string)
	opt := run.Options{
		Server: srv.path, Target: srv.target, Foreign: srv.foreign, API: f.foreign.api, Repeat: f.repeat, Seed: f.seed,
		For: f.soak, KeepWork: f.keep, KeepFailed: true, ServerArgs: serverArgs,
		RerunPrefix: f.rerunPrefix(), Memory: selftest.Memory, OtherModel: selftest.OtherModel,
		Progress: p.at, Explicit: f.pick.explicit(),
		OnResult: func(r *reports.Result) error {
			r.Rerun = rerunLine(r.Rerun, r.Scenario, paths[r.Scenario])
			p.finished(r)
			return out.add(r)
		},
	}
	if f.shard != nil {
		opt.Only = func(id string, repetition int) bool { return f.mine[unit{id, repetition}] }
	}
	for _, c := range list {
		opt.Scenarios = append(opt.Scenarios, c.scenario)
		paths[c.scenario.ID] = c.path
	}
	_, err := run.Run(ctx, opt)
	return err
}

// finish prints the report of whatever was done and decides the exit code.
func (f *runFlags) finish(ctx context.Context, cmd *cobra.Command, style table.Style, out *results, runErr error) error {
	rs := out.log.Results
	closeErr := out.close(f.output, ctx.Err() != nil)
	w := cmd.OutOrStdout()
	if len(rs) > 0 {
		if err := errors.Join(table.About(w, out.log.Run), table.Results(w, style, rs), table.Details(w, rs)); err != nil {
			return infrastructure(err)
		}
	}
	fmt.Fprintf(w, "%s; %s\n", counts(rs), out.place())
	if ctx.Err() != nil {
		runErr = fmt.Errorf("stopped early: %w", context.Cause(ctx))
	}
	err := errors.Join(runErr, closeErr)
	switch {
	case err == nil && f.shard != nil && f.shard.Units == 0: // more machines than work
		return nil
	case err == nil:
		return verdictExit(rs)
	case reports.Worst(rs) == reports.Fail: // what was proven stays proven
		return &exitError{ExitFail, err}
	}
	return infrastructure(err)
}

// record describes the run for the results file.
func (f *runFlags) record(ctx context.Context, srv server, serverArgs []string) reports.Run {
	return reports.Run{
		Command: "run", Args: f.invocation, Start: time.Now().UTC().Truncate(time.Millisecond), Seed: f.seed,
		Build: reports.ThisBuild(Version), Host: reports.ThisHost(), Server: srv.record(ctx, "", serverArgs),
		Shard: f.shard,
	}
}

// rerunPrefix is the command line before the scenario in rerun lines: ds4bench as
// it was started, with the server that was named.
func (f *runFlags) rerunPrefix() string {
	prefix := selfCommand() + " run"
	if f.server.path != "" {
		prefix += " --server " + shellWord(f.server.path)
	}
	if f.server.target != "" {
		prefix += " --target " + shellWord(f.server.target)
	}
	return prefix + f.foreign.rerun()
}

// rerunLine names the file in the line that package run made, which knows
// scenarios by their id only.
func rerunLine(line, id, path string) string {
	if path == "" {
		return line
	}
	return strings.Replace(line, " "+id+" ", " "+shellWord(path)+" ", 1)
}

// dashed is the end of a command line that hands flags to the server.
func dashed(serverArgs []string) string {
	if len(serverArgs) == 0 {
		return ""
	}
	words := []string{" --"}
	for _, a := range serverArgs {
		words = append(words, shellWord(a))
	}
	return strings.Join(words, " ")
}

// selfCommand is how a person starts this program again.
func selfCommand() string {
	self, err := os.Executable()
	switch {
	case err != nil:
		return "ds4bench"
	case strings.Contains(self, string(filepath.Separator)+"go-build"): // made by go run, gone tomorrow
		return "go run ./cmd/ds4bench"
	}
	return shellWord(self)
}

// shellWord quotes a word for a POSIX shell if it needs it.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r == '/' || r == '.' || r == '-' || r == '_' || r == ':' || r == '=' || r == '+' || r == ',' ||
			r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// splitDash separates the arguments before -- from those after it.
func splitDash(cmd *cobra.Command, args []string) (before, after []string) {
	if n := cmd.ArgsLenAtDash(); n >= 0 {
		return args[:n], args[n:]
	}
	return args, nil
}

// ids lists scenario ids for shell completion.
func ids(toComplete string) []string {
	library, err := scenarios.Library()
	if err != nil {
		return nil
	}
	var out []string
	for _, s := range library {
		if strings.HasPrefix(s.ID, toComplete) {
			out = append(out, s.ID+"\t"+s.Title)
		}
	}
	return out
}
