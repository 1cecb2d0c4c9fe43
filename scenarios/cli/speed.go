package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ds4/reports"
	"ds4/reports/stat"
	"ds4/reports/table"
	"ds4/scenarios/speed"
)

// speedFlags are those of ds4bench speed.
type speedFlags struct {
	invocation []string // the command line as it was given

	server    serverFlags
	output    outputFlags
	model     string
	frontiers []int
	samples   int
	decode    int
	ceiling   bool
	seed      uint64
	timeout   time.Duration
}

func newSpeed(invocation []string) *cobra.Command {
	f := speedFlags{invocation: invocation}
	cmd := &cobra.Command{
		Use:   "speed [-- SERVER FLAG ...]",
		Short: "Measure prefill and decode throughput at growing context",
		Long: `Starts a server and grows one conversation from frontier to frontier. Each row
of the table covers only the tokens that are new in it, counted and timed by the
server's backend: tokenisation, queueing and HTTP are not in the figures. At each
frontier a fixed number of tokens is decoded greedily, the end of the turn ignored.

Every figure is the median of the samples, with an interval that holds the true
median with 95 % confidence; that needs ` + strconv.Itoa(stat.EnoughSamples) + ` samples. One round before them is thrown
away. Below the table: prefill cost fitted against context length, and warnings.
What follows -- is added to the server's command line.`,
		Example: `  ds4bench speed
  ds4bench speed --frontiers 2048,8192,32768 --samples 10
  ds4bench speed --model ~/models/flash.gguf -- --threads 8`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.execute(cmd, args) },
	}
	f.server.addFlags(cmd)
	f.output.addFlags(cmd)
	cmd.Flags().StringVarP(&f.model, "model", "m", "", "model `file` to serve (default: the embedded model)")
	cmd.Flags().IntSliceVar(&f.frontiers, "frontiers", []int{512, 2048, 4096}, "context `lengths` in tokens, growing")
	cmd.Flags().IntVar(&f.samples, "samples", stat.EnoughSamples, "rounds after the warm-up")
	cmd.Flags().IntVar(&f.decode, "decode-tokens", 32, "length of the decode probe")
	cmd.Flags().BoolVar(&f.ceiling, "read-ceiling", true, "measure how fast memory can be read before each round, and show decode as a part of what that allows; not with a --target on another machine")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "of the text that is sent")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 0, "for everything together, such as 10m (default: none)")
	return cmd
}

func (f *speedFlags) execute(cmd *cobra.Command, args []string) error {
	names, serverArgs := splitDash(cmd, args)
	if len(names) > 0 {
		return usagef(cmd, "unexpected argument %q; flags for the server follow --", names[0])
	}
	style, err := tableStyle(cmd, f.output.format)
	if err == nil {
		err = f.output.check(cmd)
	}
	if err != nil {
		return err
	}
	opt := speed.Options{Frontiers: f.frontiers, Samples: f.samples, DecodeTokens: f.decode, Seed: f.seed, Rerun: f.rerun(serverArgs)}
	if err := opt.Check(); err != nil {
		return usage(cmd, err)
	}
	if f.server.target != "" && (f.model != "" || len(serverArgs) > 0) {
		return usagef(cmd, "--target names a server that runs already: --model and server flags have no effect on it")
	}
	if f.timeout < 0 {
		return usagef(cmd, "--timeout %v is negative", f.timeout)
	}
	ctx, cancel := limited(cmd.Context(), f.timeout)
	defer cancel()
	srv, err := f.server.resolve(ctx, cmd)
	if err != nil {
		return err
	}
	defer srv.cleanup()
	return f.measure(ctx, cmd, srv, style, opt, serverArgs)
}

// measure measures, and reports.
func (f *speedFlags) measure(ctx context.Context, cmd *cobra.Command, srv server, style table.Style, opt speed.Options, serverArgs []string) error {
	m := &measurement{
		cmd: cmd, invocation: f.invocation, output: f.output, seed: f.seed,
		model: f.model, contextTokens: opt.ContextTokens(), serverArgs: serverArgs,
		table: func(w io.Writer, rs []reports.Result) error { return table.Speed(w, style, rs) },
		total: f.samples, unit: "rounds",
		work: func(ctx context.Context, live *liveServer, out *results, p *progress) error {
			opt := opt
			opt.Ceiling = f.ceiling && isLocal(live.url)
			opt.URL, opt.ServerPID, opt.OnRound = live.url, live.pid, out.add
			opt.Progress = func(round, frontier int) {
				name := fmt.Sprintf("round %d/%d", round, f.samples)
				if round == 0 {
					name = "warm-up"
				}
				p.line(fmt.Sprintf("%s  %d tokens", name, frontier))
			}
			return speed.Run(ctx, opt)
		},
	}
	_, err := m.run(ctx, srv)
	return err
}

// isLocal says that a URL is of this machine.
func isLocal(base string) bool {
	u, err := url.Parse(base)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// rerun is the command line that measures the same again.
func (f *speedFlags) rerun(serverArgs []string) string {
	words := []string{
		selfCommand(), "speed", "--frontiers", joinInts(f.frontiers), "--samples", strconv.Itoa(f.samples),
		"--decode-tokens", strconv.Itoa(f.decode), "--seed", strconv.FormatUint(f.seed, 10),
	}
	add := func(flag, value string) {
		if value != "" {
			words = append(words, flag, shellWord(value))
		}
	}
	add("--server", f.server.path)
	add("--target", f.server.target)
	add("--model", f.model)
	return strings.Join(words, " ") + dashed(serverArgs)
}
