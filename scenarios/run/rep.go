package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ds4/faults"
	"ds4/faults/corrupt"
	"ds4/faults/proc"
	"ds4/faults/syscalls"
	"ds4/reports"
	"ds4/runtime/client"
	"ds4/scenarios"
)

// progressEvery is how often Progress is called while a step runs.
const progressEvery = 250 * time.Millisecond

// rep is one repetition of one scenario.
type rep struct {
	r     *runner
	s     *scenarios.Scenario
	seed  uint64
	n     int
	index int
	start time.Time

	dir     string // working directory
	kv      string // cache directory, as we reach it
	kvArg   string // the same, as the server does
	host    host
	calls   *syscalls.Supervisor // of the present server's system calls; nil without rules
	log     *proc.Log
	logFile *os.File

	server    atomic.Pointer[proc.Supervisor] // nil when none was started, or the last one ended as told
	logFailed int                             // lines of the log when the first assertion failed; 0 if none has
	logStart  int                             // where the output of the present server begins
	ready     bool                            // some server of this repetition has answered
	started   startInfo
	signalled time.Time // when a signal was sent last
	lastExit  *exitInfo
	rules     []string           // of fault steps
	model     string             // path for --model, "" for the embedded one
	swapped   bool               // model is another one than the scenario began with
	foreign   *scenarios.Foreign // the server, if it is not ds4
	byTime    bool               // reuse is judged by time
	keeps     map[string]string
	marks     map[string]mark
	until     time.Time // a repeat that has a time goes on so long; see Options.For
	round     int       // the pass of that repeat, from 1
	unhurt    []string  // chats on whose bad way nothing happened
	pass      pass      // what is judged together: a pass of a sweep, or the whole
	firedPass bool      // some rule fired in the last pass

	mu         sync.Mutex
	answers    map[string]*answer
	all        []*answer // in the order of their ends
	served     string    // model that a foreign server lists
	background sync.WaitGroup
	step       string
	res        reports.Result
	outcome    faults.Outcome // worst so far
	why        string         // what made it so; "" where a failure says that
	unproven   error          // assertions that could not be decided
}

// pass is the part of a repetition whose faults and log are judged together.
type pass struct {
	name    string // "", or the values of the sweep's variables
	log     int    // log position at its begin
	answers int    // answers before it
	deaths  int    // uncommanded ends in it
	wanted  []wantedRule
}

// startInfo is what the last start was.
type startInfo struct {
	args   map[string]any
	faults []string
	calls  []string // rules for system calls
	cache  bool
}

// exitInfo is how the last process that was told to end did so.
type exitInfo struct {
	exit  proc.Exit
	after time.Duration // since the signal
}

// run executes the steps, the expectations and the standard five.
func (p *rep) run(ctx context.Context) (err error) {
	if err := p.prepare(ctx); err != nil {
		return inconclusive("%w", err)
	}
	defer p.cleanUp()
	stopProgress := p.reportProgress()
	defer stopProgress()
	if err := p.steps(ctx, p.s.Steps, nil); err != nil {
		return err
	}
	if err := p.endPass(ctx); err != nil {
		return err
	}
	if err := p.checkMemory(); err != nil {
		return err
	}
	for i := range p.s.Expect {
		p.expect(ctx, &p.s.Expect[i])
	}
	p.measure()
	if p.r.opt.FailFast && p.failed() {
		return errEnough
	}
	if p.r.opt.Target != "" {
		p.warn("a target: the standard checks were not made")
		return nil
	}
	return p.standardFive(ctx)
}

func (p *rep) prepare(ctx context.Context) error {
	p.dir = filepath.Join(p.r.tmp, fmt.Sprintf("%s-%d", p.s.ID, p.n))
	p.kv = filepath.Join(p.dir, "kv")
	p.kvArg = p.kv
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(p.dir, "server.log"))
	if err != nil {
		return err
	}
	p.logFile, p.log = f, proc.NewLog(f)
	if err := p.prepareHost(ctx); err != nil {
		return err
	}
	if m := p.s.Server.Model; m != "" && m != "embedded" {
		if p.model, err = scenarios.ExpandString(m, p.lookup(nil)); err != nil {
			return err
		}
	}
	return p.prepareForeign()
}

func (p *rep) cleanUp() {
	if srv := p.server.Load(); srv != nil {
		srv.Close()
		p.server.Store(nil)
	}
	p.endCalls()
	p.background.Wait()
	p.cleanUpHost()
	_ = p.logFile.Close()
}

// reportProgress calls Options.Progress until the returned function is called.
func (p *rep) reportProgress() (stop func()) {
	if p.r.opt.Progress == nil {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(progressEvery)
		defer t.Stop()
		for {
			p.mu.Lock()
			step := p.step
			p.mu.Unlock()
			p.r.opt.Progress(Progress{
				Scenario: p.s.ID, Repetition: p.n, Index: p.index, Total: len(p.r.opt.Scenarios),
				Step: step, Elapsed: time.Since(p.start), PrefillTPS: lastRate(p.log),
			})
			select {
			case <-t.C:
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

// steps executes steps one after the other; vars are those of the sweeps around.
func (p *rep) steps(ctx context.Context, steps []scenarios.Step, vars map[string]string) error {
	for i := range steps {
		st := &steps[i]
		name := st.Kinds()[0]
		if st.Sweep == nil && st.Repeat == nil && st.Parallel == nil {
			one, err := scenarios.Expand([]scenarios.Step{*st}, p.lookup(vars))
			if err != nil {
				return inconclusive("%w", err)
			}
			st = &one[0]
		}
		end := p.begin(name, st)
		err := p.do(ctx, st, vars)
		end(outcomeOf(err))
		if err != nil {
			if p.pass.name != "" {
				return fmt.Errorf("pass %s: step %d %s: %w", p.pass.name, i+1, name, err)
			}
			return fmt.Errorf("step %d %s: %w", i+1, name, err)
		}
		if p.r.opt.FailFast && p.failed() {
			return errEnough
		}
	}
	return nil
}

func (p *rep) failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.res.Verdict == reports.Fail
}

// begin notes that a step begins; the returned function notes its end.
func (p *rep) begin(name string, st *scenarios.Step) (end func(outcome string)) {
	if st.Chat != nil && st.Chat.As != "" {
		name += " " + st.Chat.As
	}
	if p.pass.name != "" {
		name = p.pass.name + " " + name
	}
	p.mu.Lock()
	p.step = name
	p.mu.Unlock()
	return p.span(reports.EventStep, name)
}

// fail records a failed assertion; the repetition goes on.
func (p *rep) fail(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pass.name != "" {
		msg = "pass " + p.pass.name + ": " + msg
	}
	p.addFailure(msg)
}

// addFailure notes how long the log is at the first one. The caller holds mu.
func (p *rep) addFailure(msg string) {
	if len(p.res.Failures) == 0 && p.log != nil {
		p.logFailed = p.log.Len()
	}
	p.res.AddFailure("%s", msg)
}

// worsen lowers the outcome, and notes why; it never gets better.
func (p *rep) worsen(o faults.Outcome, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	order := faults.Outcomes()
	if slices.Index(order, o) > slices.Index(order, p.outcome) {
		p.outcome, p.why = o, why
	}
}

// lookup knows the variables of sweeps, the built-in ones, and upper-case names
// of the environment.
func (p *rep) lookup(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		switch v, ok := vars[name]; {
		case ok:
			return v, true
		case name == "KV":
			return p.kvArg, true
		case name == "WORK":
			return p.dir, true
		case name == "SEED":
			return fmt.Sprint(p.seed), true
		case name == "MODEL" && p.model != "":
			return p.model, true
		}
		return os.LookupEnv(name)
	}
}

// conclude turns what happened into the verdict.
func (p *rep) conclude(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	res := &p.res
	if err == nil {
		err = p.unproven
	}
	switch {
	case err == nil, errors.Is(err, errEnough):
	case errors.Is(err, errInconclusive):
		if res.Verdict == reports.Pass {
			reason := strings.Replace(err.Error(), errInconclusive.Error()+": ", "", 1) // the verdict says so
			res.Verdict, res.Reason, p.outcome = reports.Inconclusive, reason, faults.Inconclusive
		} else {
			res.Warnings = append(res.Warnings, err.Error())
		}
	default:
		if errors.Is(err, errStuck) && p.outcome != faults.Wrong {
			p.outcome = faults.Stuck
		}
		p.addFailure(err.Error())
	}
	if p.outcome == faults.Wrong || p.outcome == faults.Stuck {
		res.Verdict = reports.Fail
	}
	res.Outcome = string(p.outcome)
	if res.Verdict == reports.Fail && p.log != nil && p.log.Len() > 0 {
		const tail = 15
		at := cmp.Or(p.logFailed, p.log.Len()) // what came later, the standard checks for example, says nothing of it
		res.Failures = append(res.Failures, "the server's log, up to the first failure:\n"+p.log.TailBefore(at, tail))
	}
	res.Faults = firings(p.log)
	res.DurationMS = reports.Milliseconds(time.Since(p.start))
	p.finishTimeline()
	if p.r.opt.KeepWork || p.r.opt.KeepFailed && res.Verdict != reports.Pass {
		res.WorkDir = p.dir
		return
	}
	if err := os.RemoveAll(p.dir); err != nil {
		res.Warnings = append(res.Warnings, "working directory: "+err.Error())
	}
}

// client returns a client for the server under test, waiting until it is ready.
func (p *rep) client(ctx context.Context) (*client.Client, error) {
	if p.r.opt.Target != "" {
		return client.New(p.r.opt.Target)
	}
	srv := p.server.Load()
	if srv == nil {
		return nil, errors.New("no server is running")
	}
	url, err := srv.WaitReady(ctx)
	if err != nil {
		return nil, err
	}
	return client.New(url)
}

// temps lists the names of the files that are being written.
func (p *rep) temps() map[string]bool {
	names := map[string]bool{}
	if p.foreign != nil {
		return names
	}
	files, err := corrupt.Temps(p.kv)
	if err == nil {
		for _, f := range files {
			names[f.Path] = true
		}
	}
	return names
}

// running says whether a server runs, or will be started again by its supervisor.
func (p *rep) running() bool {
	srv := p.server.Load()
	return srv != nil && srv.Alive()
}
