package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"ds4/faults"
	"ds4/faults/corrupt"
	"ds4/faults/proc"
	"ds4/reports"
	"ds4/scenarios"
)

// Deadlines of steps that name none.
const (
	defaultStartTimeout = 30 * time.Second
	defaultWaitTimeout  = 30 * time.Second
	defaultStopTimeout  = 25 * time.Second // a server may take 20 s to save its sessions
	killTimeout         = 10 * time.Second // a killed process is gone by then
	pollEvery           = 20 * time.Millisecond
)

// do executes one step.
func (p *rep) do(ctx context.Context, st *scenarios.Step, vars map[string]string) error {
	switch {
	case st.Start != nil:
		return p.startServer(ctx, st.Start)
	case st.Wait != nil:
		return p.wait(ctx, st.Wait)
	case st.Chat != nil:
		return p.chat(ctx, st.Chat)
	case st.Parallel != nil:
		return p.parallel(ctx, st.Parallel, vars)
	case st.Turns != nil:
		return p.turns(ctx, st.Turns)
	case st.Signal != nil:
		return p.signal(ctx, st.Signal)
	case st.Stop != nil:
		return p.stop(ctx, st.Stop)
	case st.Corrupt != nil:
		return p.corrupt(st.Corrupt)
	case st.Plant != nil:
		return p.plant(st.Plant)
	case st.Fill != nil:
		return p.fill(ctx, st.Fill)
	case st.Keep != nil:
		return p.keep(st.Keep)
	case st.PutBack != nil:
		return p.putBack(st.PutBack)
	case st.Fault != nil:
		p.rules = append(p.rules, st.Fault.Rules...)
	case st.ClearFault != nil:
		p.rules = nil
	case st.SwapModel != nil:
		return p.swapModel(st.SwapModel)
	case st.FillDisk != nil, st.FreeDisk != nil, st.Limit != nil, st.Access != nil, st.RemoveDir != nil:
		return p.hostStep(st)
	case st.PowerCut != nil:
		return p.powerCut(ctx)
	case st.Memory != nil:
		return p.capMemory(st.Memory)
	case st.Sweep != nil:
		return p.sweep(ctx, st.Sweep, vars)
	case st.Repeat != nil:
		return p.repeat(ctx, st.Repeat, vars)
	case st.Mark != nil:
		return p.mark(ctx, st.Mark)
	case st.Expect != nil:
		for i := range st.Expect {
			p.expect(ctx, &st.Expect[i])
		}
	case st.Sleep > 0:
		return sleep(ctx, time.Duration(st.Sleep))
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// startServer starts the server under test and waits until it answers.
func (p *rep) startServer(ctx context.Context, st *scenarios.Start) error {
	if p.r.opt.Target != "" {
		return nil // it runs already
	}
	if p.running() {
		return errors.New("the server is still running")
	}
	p.reap()
	info := startInfo{args: map[string]any{}, cache: !st.NoCache}
	maps.Copy(info.args, p.s.Server.Args)
	maps.Copy(info.args, st.Args)
	info.faults = append(slices.Clone(p.rules), st.Faults...)
	info.calls = st.Syscalls
	old := p.temps()
	untouched := p.untouched(info)
	began := time.Now()
	p.logStart = p.log.Len()
	if err := p.launch(info, st.Supervised); err != nil {
		return inconclusive("%w", err)
	}
	ended := p.span(reports.EventStart, strings.Join(slices.Concat(info.faults, info.calls), " "))
	if !st.MayNotFire {
		if err := p.want(info); err != nil {
			return inconclusive("%w", err)
		}
	}
	rctx, cancel := context.WithTimeout(ctx, st.Timeout.Or(defaultStartTimeout))
	defer cancel()
	_, err := p.server.Load().WaitReady(rctx)
	ended(outcomeOf(err))
	switch {
	case errors.Is(err, proc.ErrExited) && untouched:
		return inconclusive("the server cannot be started, and nothing was done to it yet: %w", err)
	case err != nil:
		return stuck("%w", err)
	}
	p.ready = true
	p.event(reports.EventReady, "")
	p.addMetric("", "start_ms", reports.Milliseconds(time.Since(began)))
	p.started = info
	for name := range p.temps() {
		if old[name] {
			p.fail("%s: %s of an earlier process is still there after a start", reports.CheckTemp, filepath.Base(name))
		}
	}
	return nil
}

// untouched says that nothing has been done to a server that is about to start for
// the first time: no fault, no limit, no file, no other model. If it ends at once, a wrong flag or a
// missing library is the reason, and nothing was learned about it.
func (p *rep) untouched(info startInfo) bool {
	if p.ready || p.swapped || p.s.Lane != scenarios.LaneProcess || len(info.faults) > 0 || len(info.calls) > 0 {
		return false
	}
	files, err := os.ReadDir(p.kv)
	return err != nil && errors.Is(err, os.ErrNotExist) || err == nil && len(files) == 0
}

// launch starts a process under supervision.
func (p *rep) launch(info startInfo, restarts int) error {
	cfg, err := p.serverConfig(info)
	if err != nil {
		return err
	}
	cfg.Env = append(cfg.Env, p.r.opt.ServerEnv...)
	cfg.Log, cfg.Attr = p.log, p.host.attr
	if err := p.superviseCalls(&cfg, info.calls); err != nil {
		return err
	}
	s, err := proc.Supervise(cfg, restarts)
	if err != nil {
		p.endCalls()
		return err
	}
	p.server.Store(s)
	return nil
}

// serverConfig is the command line of the server under test.
func (p *rep) serverConfig(info startInfo) (proc.Config, error) {
	if p.foreign != nil {
		return foreignConfig(p.foreign, p.lookup(nil), p.r.opt.ServerArgs)
	}
	args := []string{"serve", "--host", "127.0.0.1", "--port", "0"}
	if p.model != "" {
		args = append(args, "--model", p.model)
	}
	if _, said := info.args["thinking-sampling"]; !said {
		// Answers are compared, and without it the server samples what it thinks.
		args = append(args, "--thinking-sampling=true")
	}
	for _, k := range slices.Sorted(maps.Keys(info.args)) {
		if !info.cache && strings.HasPrefix(k, "kv-") {
			continue
		}
		switch v := info.args[k].(type) {
		case bool:
			args = append(args, fmt.Sprintf("--%s=%t", k, v))
		case string:
			v, err := scenarios.ExpandString(v, p.lookup(nil))
			if err != nil {
				return proc.Config{}, err
			}
			args = append(args, "--"+k, v)
		default:
			args = append(args, "--"+k, fmt.Sprint(v))
		}
	}
	for _, f := range info.faults {
		args = append(args, "--fault", f)
	}
	env := []string{"DS4_LOCK_FILE=" + filepath.Join(p.dir, "lock")}
	if len(info.faults) > 0 {
		env = append(env, "DS4_ENABLE_FAULTS=1")
	}
	return proc.Config{Path: p.r.opt.Server, Args: append(args, p.r.opt.ServerArgs...), Env: env}, nil
}

// want notes that the rules of a start have to fire.
func (p *rep) want(info startInfo) error {
	for _, text := range info.faults {
		rule, err := faults.ParseRule(text)
		if err != nil {
			return err
		}
		p.pass.wanted = append(p.pass.wanted, wantedRule{text: rule.String(), log: p.logStart})
	}
	rules, err := callRules(info.calls)
	for _, r := range rules {
		p.pass.wanted = append(p.pass.wanted, wantedRule{text: r.String(), log: p.logStart})
	}
	return err
}

// reap forgets a server that has ended, and counts the deaths that nobody asked for.
func (p *rep) reap() {
	srv := p.server.Load()
	if srv == nil {
		return
	}
	srv.Close()
	deaths := srv.Deaths()
	for _, d := range deaths {
		p.eventAt(d.At, reports.EventDied, d.String())
	}
	p.endCalls()
	p.pass.deaths += len(deaths)
	p.server.Store(nil)
}

func (p *rep) signal(ctx context.Context, s *scenarios.Signal) error {
	srv := p.server.Load()
	if srv == nil {
		return errors.New("no server is running")
	}
	sig := map[string]syscall.Signal{"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT}[s.Kill]
	if err := srv.Signal(sig); err != nil {
		return err
	}
	p.event(reports.EventStop, "SIG"+s.Kill)
	p.signalled = time.Now()
	if sig != syscall.SIGKILL {
		return nil // see wait exit
	}
	kctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	return p.waitExit(kctx)
}

func (p *rep) stop(ctx context.Context, s *scenarios.Stop) error {
	if p.server.Load() == nil {
		return errors.New("no server is running")
	}
	return p.terminate(ctx, s.Timeout.Or(defaultStopTimeout))
}

// terminate asks the server to end, and is stuck if it does not.
func (p *rep) terminate(ctx context.Context, timeout time.Duration) error {
	if err := p.signal(ctx, &scenarios.Signal{Kill: "TERM"}); err != nil {
		return err
	}
	sctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := p.waitExit(sctx); err != nil {
		return err
	}
	if e := p.lastExit.exit; !p.endedAsTold(e) {
		p.fail("%s: the server ended with %s after SIGTERM", reports.CheckProcess, e)
	}
	return nil
}

// waitExit waits until the process has ended, and forgets it.
func (p *rep) waitExit(ctx context.Context) error {
	exit, err := p.server.Load().Current().Wait(ctx)
	if err != nil {
		return stuck("%w", err)
	}
	p.lastExit = &exitInfo{exit: exit, after: exit.At.Sub(p.signalled)}
	p.reap()
	return nil
}

func (p *rep) wait(ctx context.Context, w *scenarios.Wait) error {
	wctx, cancel := context.WithTimeout(ctx, w.Timeout.Or(defaultWaitTimeout))
	defer cancel()
	switch {
	case w.Log != "":
		re, err := regexp.Compile(w.Log)
		if err != nil {
			return err
		}
		if _, err := p.log.Wait(wctx, p.logStart, re); err != nil {
			return stuck("%w", err)
		}
	case w.Chats:
		done := make(chan struct{})
		go func() { p.background.Wait(); close(done) }()
		select {
		case <-done:
		case <-wctx.Done():
			return stuck("chats in the background: %w", wctx.Err())
		}
	case w.Segments > 0:
		return p.waitSegments(wctx, w.Segments)
	case p.server.Load() == nil:
		return errors.New("no server is running")
	case w.Ready:
		if _, err := p.server.Load().WaitReady(wctx); err != nil {
			return stuck("%w", err)
		}
	case w.Exit:
		return p.waitExit(wctx)
	}
	return nil
}

func (p *rep) waitSegments(ctx context.Context, n int) error {
	for {
		files, err := corrupt.Segments(p.kv)
		if err != nil {
			return err
		}
		if len(files) >= n {
			return nil
		}
		if err := sleep(ctx, pollEvery); err != nil {
			return stuck("%d segments published, waited for %d: %w", len(files), n, err)
		}
	}
}

func (p *rep) parallel(ctx context.Context, steps []scenarios.Step, vars map[string]string) error {
	errs := make([]error, len(steps))
	var wg sync.WaitGroup
	for i := range steps {
		wg.Go(func() { errs[i] = p.steps(ctx, steps[i:i+1], vars) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (p *rep) corrupt(c *scenarios.Corrupt) error {
	files, err := p.pick(c.File)
	if err != nil {
		return inconclusive("%w", err)
	}
	n, err := c.Count()
	if err != nil {
		return inconclusive("%w", err)
	}
	for _, f := range files {
		r, err := corrupt.Apply(f.Path, corrupt.Damage{Op: c.Op, At: c.At, Bit: c.Bit, Bytes: n, Content: []byte(c.Text), Match: c.Match})
		if err != nil {
			return inconclusive("%w", err)
		}
		p.event(reports.EventFault, r.String())
	}
	return nil
}

func (p *rep) plant(k *scenarios.Plant) error {
	size, err := k.Size()
	if err != nil {
		return inconclusive("%w", err)
	}
	for n := range max(k.Count, 1) {
		name := strings.ReplaceAll(k.Name, "#", strconv.Itoa(n+1))
		if err := corrupt.Plant(p.kv, name, k.Kind, k.From, size); err != nil {
			return inconclusive("%w", err)
		}
	}
	p.event(reports.EventFault, fmt.Sprintf("planted %d %s", max(k.Count, 1), k.Name))
	return nil
}

func (p *rep) swapModel(s *scenarios.SwapModel) error {
	if p.r.opt.OtherModel == nil {
		return inconclusive("this program cannot make other models")
	}
	kind := cmp.Or(s.Kind, scenarios.ModelKinds()[0])
	dir := filepath.Join(p.r.tmp, "models")
	path := filepath.Join(dir, fmt.Sprintf("%s-%d.gguf", kind, s.Seed))
	if _, err := os.Stat(path); err != nil {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return inconclusive("%w", err)
		}
		if err := p.r.opt.OtherModel(path, kind, s.Seed); err != nil {
			return inconclusive("%w", err)
		}
	}
	p.model, p.swapped = path, true
	return nil
}
