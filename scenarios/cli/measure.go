package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"ds4/reports"
	"ds4/reports/table"
)

// measurement is what speed and serve-speed have in common: a server is started or
// taken, measured, and what came of it is stored and shown.
type measurement struct {
	cmd        *cobra.Command
	invocation []string
	output     outputFlags
	seed       uint64

	model         string // that the server is started with
	contextTokens int
	serverArgs    []string

	// work measures. Results go to out as they come.
	work func(ctx context.Context, live *liveServer, out *results, p *progress) error
	// table shows the results.
	table func(w io.Writer, rs []reports.Result) error
	total int    // results, if nothing goes wrong
	unit  string // what a result is called, as in rounds
}

// run returns the results, and why they are not all.
func (m *measurement) run(ctx context.Context, srv server) ([]reports.Result, error) {
	if err := m.output.writable(); err != nil {
		return nil, err
	}
	p := newProgress(m.cmd.ErrOrStderr())
	p.line("starting the server")
	live, err := startServer(ctx, srv, m.model, m.contextTokens, m.serverArgs)
	if err != nil {
		p.clear()
		return nil, infrastructure(err)
	}
	defer live.close()
	out, err := openResults(m.output.out, m.record(ctx, srv, live))
	if err != nil {
		p.clear()
		return nil, err
	}
	runErr := m.work(ctx, live, out, p)
	p.clear()
	closeErr := out.close(m.output, ctx.Err() != nil)
	if ctx.Err() != nil {
		runErr = fmt.Errorf("stopped early: %w", context.Cause(ctx))
	}
	w := m.cmd.OutOrStdout()
	rs := out.log.Results
	if len(rs) > 0 {
		if err := errors.Join(table.About(w, out.log.Run), m.table(w, rs), table.Details(w, rs)); err != nil {
			return rs, infrastructure(err)
		}
	}
	fmt.Fprintf(w, "%d of %d %s; %s\n", len(rs), m.total, m.unit, out.place())
	if err := errors.Join(runErr, closeErr); err != nil {
		return rs, infrastructure(err)
	}
	return rs, nil
}

// record describes the measurement for the results file.
func (m *measurement) record(ctx context.Context, srv server, live *liveServer) reports.Run {
	rec := srv.record(ctx, m.model, live.args)
	learn(&rec, live.log)
	return reports.Run{
		Command: m.cmd.Name(), Args: m.invocation, Start: time.Now().UTC().Truncate(time.Millisecond), Seed: m.seed,
		Build: reports.ThisBuild(Version), Host: reports.ThisHost(), Server: rec,
	}
}
