package run

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"ds4/faults"
	"ds4/faults/corrupt"
	"ds4/reports"
	"ds4/runtime/client"
	"ds4/scenarios"
)

const (
	defaultFailureLimit = 3    // --prefill-failure-limit
	defaultSpaceMB      = 4096 // --kv-disk-space-mb
	probeText           = "Who are you?"
	probeTokens         = 16
)

// noteDegraded lowers the outcome if a running server says that a part of it is
// off although it answers.
func (p *rep) noteDegraded(ctx context.Context) {
	if !p.running() {
		return
	}
	if h, err := p.health(ctx); err == nil && strings.HasPrefix(h.Status, "degraded") {
		p.worsen(faults.Degraded, "the server calls itself "+strings.Join(append([]string{h.Status}, h.Reasons...), ": "))
	}
}

// standardFive makes the checks that follow every scenario. The last three need
// a healthy server: one is started if none runs, or if the present one has faults.
func (p *rep) standardFive(ctx context.Context) error {
	ok, detail := p.checkProcess()
	p.standard(reports.CheckProcess, ok, detail)
	if p.foreign == nil {
		detail = p.attemptsTooMany()
		p.standard(reports.CheckAttempts, detail == "", detail)
	}

	if p.running() {
		if err := p.terminate(ctx, defaultStopTimeout); err != nil {
			return err
		}
	}
	p.reap()
	p.rules = nil
	if err := p.healHost(); err != nil {
		return inconclusive("%w", err)
	}
	failures := len(p.res.Failures)
	// The flags of the last start stay, so that an identity that a scenario
	// changed stays changed; a start without a cache has none to look at.
	if err := p.startServer(ctx, &scenarios.Start{Args: p.started.args, NoCache: !p.started.cache}); err != nil {
		return err
	}
	if p.foreign != nil {
		return p.standardForeign(ctx)
	}
	p.standard(reports.CheckTemp, len(p.res.Failures) == failures && len(p.temps()) == 0, names(p.temps()))

	a := p.newAnswer(&scenarios.Chat{MaxTokens: probeTokens}, []client.Message{{Role: "user", Content: probeText}})
	if err := p.ask(ctx, a); err != nil {
		return err
	}
	detail = ""
	if a.err != nil {
		detail = a.err.Error()
	} else if !a.judged || len(p.res.Failures) > failures {
		detail = "the answer is not that of a server without a cache"
	}
	p.standard(reports.CheckControl, detail == "", detail)
	if err := p.terminate(ctx, defaultStopTimeout); err != nil {
		return err
	}
	p.checkBudget()
	return nil
}

// standard records one of the five.
func (p *rep) standard(name string, ok bool, detail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ok {
		detail = ""
	} else {
		p.addFailure(name + ": " + detail)
	}
	p.res.Checks = append(p.res.Checks, reports.Check{Name: name, OK: ok, Detail: detail})
}

func names(set map[string]bool) string {
	var list []string
	for n := range set {
		list = append(list, n)
	}
	return strings.Join(list, " ")
}

// checkProcess: the server runs, or was told to end. Deaths under supervision
// are part of a scenario; more of them than restarts allowed are not.
func (p *rep) checkProcess() (bool, string) {
	srv := p.server.Load()
	if srv == nil || srv.Alive() {
		return true, ""
	}
	d := srv.Deaths()
	if len(d) == 0 {
		return true, ""
	}
	return false, fmt.Sprintf("the server died %d times, the last time with %s", len(d), d[len(d)-1])
}

// attemptsTooMany says that the device was asked for one range more often than
// the limit without a success between, or "".
func (p *rep) attemptsTooMany() string {
	limit := p.intArg("prefill-failure-limit", defaultFailureLimit)
	p.mu.Lock()
	ranges := map[string]bool{}
	for _, a := range p.all[min(p.pass.answers, len(p.all)):] {
		ranges[a.messages[0].Content] = true
		if e := a.serverError(); e != nil && e.Limit > 0 && e.Attempt > e.Limit {
			p.mu.Unlock()
			return fmt.Sprintf("the server reports attempt %d of at most %d", e.Attempt, e.Limit)
		}
	}
	p.mu.Unlock()
	bound := limit * max(len(ranges), 1)
	n, canary := 0, false
	for _, line := range p.log.Since(p.pass.log) {
		f, ok := faults.ParseFiring(line.Text)
		switch {
		case ok && f.Fired && faults.FailsDevice(f.Rule):
			if n++; n > bound {
				return fmt.Sprintf("the device failed %d times for %d ranges without a success between, the limit is %d", n, max(len(ranges), 1), limit)
			}
			canary = false
		case strings.Contains(line.Text, "canary failed"):
			if n > 0 && !canary { // that one was the breaker's own attempt
				n--
				canary = true
			}
		case strings.Contains(line.Text, "prompt done"):
			n = 0
		}
	}
	return ""
}

func (p *rep) intArg(name string, def int) int {
	if v, ok := p.started.args[name]; ok {
		if n, err := strconv.Atoi(fmt.Sprint(v)); err == nil {
			return n
		}
	}
	return def
}

// checkBudget: everything under the cache directory counts.
func (p *rep) checkBudget() {
	limit := int64(p.intArg("kv-disk-space-mb", defaultSpaceMB)) << 20
	n, err := corrupt.DirBytes(p.kv)
	switch {
	case err != nil:
		p.standard(reports.CheckBudget, false, err.Error())
	default:
		p.standard(reports.CheckBudget, n <= limit, fmt.Sprintf("%d bytes under the cache directory, the budget is %d", n, limit))
	}
}
