package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ds4/reports"
	"ds4/reports/stat"
	"ds4/reports/table"
	"ds4/scenarios/load"
)

// serveSpeedFlags are those of ds4bench serve-speed.
type serveSpeedFlags struct {
	invocation []string

	server      serverFlags
	output      outputFlags
	model       string
	workloads   []string
	concurrency []int
	requests    int
	samples     int
	prompt      int
	answer      int
	turns       int
	disk        bool
	ttft        time.Duration
	itl         time.Duration
	e2e         time.Duration
	seed        uint64
	timeout     time.Duration
}

func newServeSpeed(invocation []string) *cobra.Command {
	f := serveSpeedFlags{invocation: invocation}
	cmd := &cobra.Command{
		Use:   "serve-speed [-- SERVER FLAG ...]",
		Short: "Measure latency and goodput through HTTP, with several requests at a time",
		Long: `Starts a server, or takes the one that --target names, and keeps a number of streamed
requests in flight: 1, then 2, 4 and 8. Measured is what clients see: time to the first
token (TTFT), time between tokens, time to the end, and goodput, the requests per
second that met the objective of the --slo flags. Workloads:

  independent    every prompt is new
  shared-prefix  three quarters of every prompt are the same, and were seen before
  multi-turn     conversations that grow; each request is one more turn

Every answer has the same number of tokens, if the server knows ignore_eos. What
was reused is read from the server's counters (/metrics). Percentiles are nearest
rank over the requests of all repetitions, and a dash if there are too few: p95
needs 20, p99 needs 100. Rates are medians of the repetitions; an interval needs
` + strconv.Itoa(stat.EnoughSamples) + ` of them. One repetition before them is thrown away. Ctrl-C keeps what is
measured. What follows -- is added to the server's command line.`,
		Example: `  ds4bench serve-speed
  ds4bench serve-speed --target http://127.0.0.1:8080 --workloads multi-turn --turns 8
  ds4bench serve-speed --concurrency 4 --requests 32 --slo-ttft 500ms --slo-itl 50ms -- --sessions 8`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.execute(cmd, args) },
	}
	f.server.addFlags(cmd)
	f.output.addFlags(cmd)
	var names []string
	for _, w := range load.Workloads() {
		names = append(names, string(w))
	}
	cmd.Flags().StringVarP(&f.model, "model", "m", "", "model `file` to serve (default: the embedded model)")
	cmd.Flags().StringSliceVar(&f.workloads, "workloads", names, "`names` of workloads")
	cmd.Flags().IntSliceVar(&f.concurrency, "concurrency", []int{1, 2, 4, 8}, "`numbers` of requests in flight")
	cmd.Flags().IntVar(&f.requests, "requests", 8, "requests of a repetition, of each workload and number in flight, at least")
	cmd.Flags().IntVar(&f.samples, "samples", stat.EnoughSamples, "repetitions after the warm-up")
	cmd.Flags().IntVar(&f.prompt, "prompt-tokens", 512, "length of a prompt, of the first turn of a conversation")
	cmd.Flags().IntVar(&f.answer, "output-tokens", 32, "length of an answer")
	cmd.Flags().IntVar(&f.turns, "turns", 4, "turns of a conversation")
	cmd.Flags().BoolVar(&f.disk, "disk-cache", false, "give the server an empty disk cache for the time of the measurement; without, it reuses only what is in its memory")
	cmd.Flags().DurationVar(&f.ttft, "slo-ttft", 2*time.Second, "good is a first token within this time; 0: whenever")
	cmd.Flags().DurationVar(&f.itl, "slo-itl", 100*time.Millisecond, "good is a mean time between tokens up to this; 0: any")
	cmd.Flags().DurationVar(&f.e2e, "slo-e2e", 0, "good is an end within this time; 0: whenever")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "of the text that is sent")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 0, "for everything together, such as 10m (default: none)")
	return cmd
}

func (f *serveSpeedFlags) options() load.Options {
	opt := load.Options{
		Concurrency: f.concurrency, Requests: f.requests, Samples: f.samples, PromptTokens: f.prompt, OutputTokens: f.answer,
		Turns: f.turns, Seed: f.seed, Rerun: selfCommand() + " " + quoted(f.invocation),
		Objective: reports.Objective{
			TTFTMS: reports.Milliseconds(f.ttft), ITLMS: reports.Milliseconds(f.itl), EndToEndMS: reports.Milliseconds(f.e2e),
		},
	}
	for _, w := range f.workloads {
		opt.Workloads = append(opt.Workloads, load.Workload(w))
	}
	return opt
}

func (f *serveSpeedFlags) execute(cmd *cobra.Command, args []string) error {
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
	opt := f.options()
	if err := opt.Check(); err != nil {
		return usage(cmd, err)
	}
	if f.server.target != "" && (f.model != "" || f.disk || len(serverArgs) > 0) {
		return usagef(cmd, "--target names a server that runs already: --model, --disk-cache and server flags have no effect on it")
	}
	for _, d := range []time.Duration{f.timeout, f.ttft, f.itl, f.e2e} {
		if d < 0 {
			return usagef(cmd, "a time of %v is negative", d)
		}
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
func (f *serveSpeedFlags) measure(ctx context.Context, cmd *cobra.Command, srv server, style table.Style, opt load.Options, serverArgs []string) error {
	if f.disk {
		dir, err := os.MkdirTemp("", "ds4bench-kv-")
		if err != nil {
			return infrastructure(fmt.Errorf("disk cache: %w", err))
		}
		defer os.RemoveAll(dir)
		serverArgs = append(slices.Clone(serverArgs), "--kv-disk-dir", dir)
	}
	m := &measurement{
		cmd: cmd, invocation: f.invocation, output: f.output, seed: f.seed,
		model: f.model, contextTokens: opt.ContextTokens(), serverArgs: serverArgs,
		table: func(w io.Writer, rs []reports.Result) error { return table.ServeSpeed(w, style, rs) },
		total: f.samples * len(opt.Workloads) * len(opt.Concurrency), unit: "repetitions",
		work: func(ctx context.Context, live *liveServer, out *results, p *progress) error {
			opt := opt
			opt.URL, opt.ServerPID, opt.OnResult = live.url, live.pid, out.add
			opt.Progress = func(n int, w load.Workload, concurrency int) {
				name := fmt.Sprintf("repetition %d/%d", n, f.samples)
				if n == 0 {
					name = "warm-up"
				}
				p.line(fmt.Sprintf("%s  %s, %d in flight", name, w, concurrency))
			}
			return load.Run(ctx, opt)
		},
	}
	rs, err := m.run(ctx, srv)
	if err != nil {
		return err
	}
	return verdictExit(rs)
}

// joinInts is "1,2,4".
func joinInts(numbers []int) string {
	words := make([]string, len(numbers))
	for i, n := range numbers {
		words[i] = strconv.Itoa(n)
	}
	return strings.Join(words, ",")
}
