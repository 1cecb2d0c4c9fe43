package run

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"ds4/reports"
	"ds4/scenarios"
)

// sweep runs the steps once for each value. Each pass is judged on its own:
// its faults must fire in it, and its log is the log since it began.
func (p *rep) sweep(ctx context.Context, s *scenarios.Sweep, vars map[string]string) error {
	outer := p.pass
	defer func() {
		outer.deaths += p.pass.deaths
		p.pass = outer
	}()
	if s.Until == "" {
		for _, v := range s.Over {
			if err := p.onePass(ctx, s, vars, v, outer.name); err != nil {
				return err
			}
		}
		return nil
	}
	if len(s.Op) == 0 {
		_, err := p.untilUnfired(ctx, s, vars, outer.name)
		return err
	}
	for _, op := range s.Op {
		inner := map[string]string{scenarios.OpVariable: op}
		for k, v := range vars {
			if k != scenarios.OpVariable {
				inner[k] = v
			}
		}
		passes, err := p.untilUnfired(ctx, s, inner, strings.TrimSpace(outer.name+" "+scenarios.OpVariable+"="+op))
		if err != nil {
			return err
		}
		if passes == 1 {
			p.fail("sweep %s: the server made no call that is a %s", s.Var, op)
		}
	}
	return nil
}

// untilUnfired makes passes until one in which nothing fires, and says how many
// that took.
func (p *rep) untilUnfired(ctx context.Context, s *scenarios.Sweep, vars map[string]string, outer string) (int, error) {
	for n := 1; n <= s.Limit; n++ {
		if err := p.onePass(ctx, s, vars, strconv.Itoa(n), outer); err != nil {
			return n, err
		}
		if !p.firedPass {
			return n, nil
		}
	}
	p.fail("sweep %s: faults still fire in pass %d, the limit", s.Var, s.Limit)
	return s.Limit, nil
}

func (p *rep) onePass(ctx context.Context, s *scenarios.Sweep, vars map[string]string, value, outer string) error {
	inner := map[string]string{}
	for k, v := range vars {
		inner[k] = v
	}
	inner[s.Var] = value
	p.pass = pass{name: s.Var + "=" + value, log: p.log.Len(), answers: p.answerCount(), deaths: p.pass.deaths}
	if outer != "" {
		p.pass.name = outer + " " + p.pass.name
	}
	if err := p.steps(ctx, s.Steps, inner); err != nil {
		return err
	}
	p.firedPass = countFired(p.log, p.pass.log, func(string) bool { return true }) > 0
	if s.Until != "" && !p.firedPass {
		p.pass.wanted = nil // this is how the sweep ends
	}
	if err := p.endPass(ctx); err != nil {
		return fmt.Errorf("pass %s: %w", p.pass.name, err)
	}
	if detail := p.attemptsTooMany(); detail != "" {
		p.fail("%s: %s", reports.CheckAttempts, detail)
	}
	return nil
}

func (p *rep) answerCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}

// endPass checks what must hold after every pass: the chats have ended, and
// every rule has fired.
func (p *rep) endPass(ctx context.Context) error {
	if err := p.wait(ctx, &scenarios.Wait{Chats: true}); err != nil {
		return err
	}
	p.mu.Lock()
	unhurt := p.unhurt
	p.mu.Unlock()
	if len(unhurt) > 0 {
		return inconclusive("nothing happened on the bad way of chat %s: the answer ended before", strings.Join(unhurt, ", "))
	}
	for _, w := range p.pass.wanted {
		same := func(rule string) bool { return rule == w.text }
		if n := countFired(p.log, w.log, same); n == 0 {
			return inconclusive("the fault %q was armed and did not fire", w.text)
		}
	}
	p.pass.wanted = nil
	return nil
}
