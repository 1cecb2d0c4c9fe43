package run

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"ds4/reports"
	"ds4/runtime/client"
	"ds4/scenarios"
)

// growthPatience is how long a number may take to come down: connections that
// were cut end, and what was garbage at the mark is collected.
const growthPatience = 30 * time.Second

// share gives scenario i its part of what is left of Options.For.
func (r *runner) share(i int) {
	if r.opt.For <= 0 {
		return
	}
	now := time.Now()
	if i == 0 {
		r.end = now.Add(r.opt.For)
	}
	r.until = now.Add(r.end.Sub(now) / time.Duration(len(r.opt.Scenarios)-i))
}

// again reports whether a scenario has time for another repetition like the last
// one. What can be stretched was.
func (r *runner) again(s *scenarios.Scenario) bool {
	for i := range s.Steps {
		if rep := s.Steps[i].Repeat; rep != nil && rep.For > 0 {
			return false
		}
	}
	return r.opt.For > 0 && time.Until(r.until) > r.last
}

// text is the user's text in this pass.
func (p *rep) text(ctx context.Context, q *scenarios.Prompt) (string, error) {
	return p.prompts().text(ctx, q, p.seed, uint64(p.round))
}

// repeat runs steps as often as they should be, or as long.
func (p *rep) repeat(ctx context.Context, r *scenarios.Repeat, vars map[string]string) error {
	end := time.Now().Add(time.Duration(r.For))
	if p.until.After(end) {
		end = p.until
	}
	for n := 1; n <= r.Times || r.For > 0 && time.Now().Before(end); n++ {
		if r.For > 0 {
			p.round = n
		}
		if err := p.steps(ctx, r.Steps, vars); err != nil {
			return fmt.Errorf("pass %d: %w", n, err)
		}
	}
	return nil
}

// mark is the metrics page of a process at some time.
type mark struct {
	page client.Metrics
	pid  int
}

func (p *rep) mark(ctx context.Context, m *scenarios.Mark) error {
	if m.Pass != 0 && m.Pass != p.round {
		return nil
	}
	page, pid, ok := p.metrics(ctx)
	if !ok {
		return inconclusive("mark %s: the server has no metrics page", m.As)
	}
	p.marks[m.As] = mark{page, pid}
	return nil
}

// checkGrowth compares a number with what it was at a mark, until it has not
// grown more than it may.
func (p *rep) checkGrowth(ctx context.Context, g *scenarios.Growth) error {
	before, ok := p.marks[g.Since]
	if !ok {
		return fmt.Errorf("nothing was marked as %q: its pass did not come", g.Since)
	}
	old, ok := before.page.Sum(g.Name, g.Labels)
	if !ok {
		return noSample(g.Name, g.Labels)
	}
	for deadline := time.Now().Add(cmp.Or(p.r.opt.growthPatience, growthPatience)); ; {
		page, pid, ok := p.metrics(ctx)
		if !ok || pid != before.pid {
			return fmt.Errorf("%s: the process of mark %s is not the one that runs", g.Name, g.Since)
		}
		now, _ := page.Sum(g.Name, g.Labels)
		if now-old <= float64(g.AtMost) {
			p.event(reports.EventStep, fmt.Sprintf("growth of %s since %s: %.0f, from %.0f to %.0f", g.Name, g.Since, now-old, old, now))
			return nil
		}
		if time.Now().After(deadline) || sleep(ctx, 10*pollEvery) != nil {
			return fmt.Errorf("%s grew by %.0f, from %.0f to %.0f, since %s; at most %d", g.Name, now-old, old, now, g.Since, g.AtMost)
		}
	}
}
