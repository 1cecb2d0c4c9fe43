package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"ds4/faults/corrupt"
	"ds4/runtime/client"
	"ds4/scenarios"
)

// expect checks one assertion and records a failure, or that it proves nothing.
func (p *rep) expect(ctx context.Context, e *scenarios.Expect) {
	err := p.check(ctx, e)
	if errors.Is(err, errInconclusive) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.unproven = errors.Join(p.unproven, fmt.Errorf("expect %s: %w", e.Kinds()[0], err))
		return
	}
	if err != nil {
		p.fail("expect %s: %v", e.Kinds()[0], err)
	}
}

func (p *rep) check(ctx context.Context, e *scenarios.Expect) error {
	switch {
	case e.Outcome != nil:
		return p.checkOutcome(ctx, e.Outcome)
	case e.Equal != nil:
		return p.checkEqual(e.Equal)
	case e.Retries != nil:
		return p.checkChat(e.Retries, func(a *answer) (int64, bool) { return int64(a.attempts - 1), true })
	case e.Cached != nil:
		return p.checkChat(e.Cached, func(a *answer) (int64, bool) {
			return int64(a.got.Usage.Details.CachedTokens), p.saysReuse(a)
		})
	case e.Restored != nil:
		return p.checkChat(e.Restored, func(a *answer) (int64, bool) { return int64(a.work.restored), a.counted })
	case e.Reused != nil:
		return p.checkChat(e.Reused, func(a *answer) (int64, bool) {
			u := a.got.Usage
			return int64(100 * u.Details.CachedTokens / max(u.PromptTokens, 1)), p.saysReuse(a)
		})
	case e.Evaluated != nil:
		return p.checkChat(e.Evaluated, func(a *answer) (int64, bool) { return int64(a.work.evaluated), a.counted })
	case e.Keepalives != nil:
		return p.checkChat(e.Keepalives, func(a *answer) (int64, bool) { return int64(a.got.Keepalives), a.spec.Stream })
	case e.Fired != nil:
		return p.checkFired(ctx, e.Fired)
	case e.Quarantined != nil:
		return p.checkFiles(*e.Quarantined, corrupt.Quarantined, "files in quarantine")
	case e.Segments != nil:
		return p.checkFiles(*e.Segments, corrupt.Segments, "segments")
	case e.Unchanged != "":
		return p.checkUnchanged(e.Unchanged)
	case e.Temps != nil:
		return p.checkFiles(*e.Temps, corrupt.Temps, "temporary files")
	case e.Markers != nil:
		return p.checkFiles(*e.Markers, corrupt.Inflight, "markers of restores")
	case e.Deaths != nil:
		n := p.pass.deaths
		if srv := p.server.Load(); srv != nil {
			n += len(srv.Deaths())
		}
		return hold(*e.Deaths, int64(n), "deaths that no step commanded")
	case e.DiskBytes != nil:
		n, err := corrupt.DirBytes(p.kv)
		if err != nil {
			return err
		}
		return hold(*e.DiskBytes, n, "bytes under the cache directory")
	case e.Page != nil:
		return p.checkPage(ctx, e.Page)
	case e.Log != nil:
		return p.checkLog(e.Log)
	case e.Metric != nil:
		return p.checkMetric(ctx, e.Metric)
	case e.Growth != nil:
		return p.checkGrowth(ctx, e.Growth)
	case e.Error != nil:
		return p.checkError(e.Error)
	case e.Exit != nil:
		return p.checkExit(e.Exit)
	case e.Faster != nil:
		return p.checkFaster(e.Faster)
	case e.Health != "":
		return p.checkHealth(ctx, e.Health)
	}
	return nil
}

func hold(b scenarios.Bounds, n int64, what string) error {
	if b.Hold(n) {
		return nil
	}
	var want []string
	for _, part := range []struct {
		word string
		n    *int64
	}{{"exactly", b.Exactly}, {"at least", b.AtLeast}, {"at most", b.AtMost}} {
		if part.n != nil {
			want = append(want, fmt.Sprintf("%s %d", part.word, *part.n))
		}
	}
	return fmt.Errorf("%d %s, want %s", n, what, strings.Join(want, " and "))
}

// checkOutcome also asks a running server whether it is degraded.
func (p *rep) checkOutcome(ctx context.Context, want scenarios.Words) error {
	p.noteDegraded(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(want, string(p.outcome)) {
		msg := fmt.Sprintf("%s, want %s", p.outcome, strings.Join(want, " or "))
		if p.why != "" {
			msg += ": " + p.why
		}
		return errors.New(msg)
	}
	return nil
}

func (p *rep) named(name string) (*answer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.answers[name]; a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("no answer is named %q", name)
}

func (p *rep) checkEqual(names []string) error {
	first, err := p.named(names[0])
	if err != nil {
		return err
	}
	for _, n := range names {
		a, err := p.named(n)
		if err != nil {
			return err
		}
		if a.err != nil {
			return fmt.Errorf("%s is no answer: %w", n, a.err)
		}
		if got, want := said(a.got), said(first.got); got != want {
			if err := p.inexact(); err != nil {
				return inconclusive("%s is %q, %s is %q, which says nothing of this server: %w", names[0], want, n, got, err)
			}
			return fmt.Errorf("%s is %q, %s is %q", names[0], want, n, got)
		}
	}
	return nil
}

// checkChat checks a number of one chat, or its sum over all chats of the pass.
func (p *rep) checkChat(b *scenarios.ChatBounds, value func(*answer) (int64, bool)) error {
	if b.Chat != "" {
		a, err := p.named(b.Chat)
		if err != nil {
			return err
		}
		n, known := value(a)
		if !known && p.r.subject(p.s) != scenarios.SubjectDS4 {
			return p.checkReuseByTime(b)
		}
		if !known {
			return fmt.Errorf("of chat %s is not known: no usage, or the process changed meanwhile", b.Chat)
		}
		return hold(b.Bounds, n, "of chat "+b.Chat)
	}
	p.mu.Lock()
	list := slices.Clone(p.all[p.pass.answers:])
	p.mu.Unlock()
	var sum int64
	for _, a := range list {
		n, _ := value(a)
		sum += n
	}
	return hold(b.Bounds, sum, "in all chats")
}

// checkFiles counts files, and looks again for a while: segments are written and
// moved by the server in the background.
func (p *rep) checkFiles(b scenarios.Bounds, list func(string) ([]corrupt.File, error), what string) error {
	const patience = 2 * time.Second
	deadline := time.Now().Add(patience)
	for {
		files, err := list(p.kv)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		err = hold(b, int64(len(files)), what)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pollEvery)
	}
}

// checkFired looks again for as long as it takes a slow machine to write a segment
// in the background: that is where rules of the store fire.
func (p *rep) checkFired(ctx context.Context, f *scenarios.FiredBounds) error {
	deadline := time.Now().Add(defaultWaitTimeout)
	for {
		n := countFired(p.log, p.pass.log, ruleOf(f.Fault))
		err := hold(f.Bounds, n, "firings of "+f.Fault)
		if err == nil || f.AtLeast == nil || n >= *f.AtLeast || time.Now().After(deadline) || !p.running() {
			return err
		}
		if sleep(ctx, pollEvery) != nil {
			return err
		}
	}
}

func (p *rep) checkLog(l *scenarios.LogMatch) error {
	re, err := regexp.Compile(l.Matches)
	if err != nil {
		return err
	}
	var n int64
	texts := map[string]bool{}
	for _, line := range p.log.Since(p.pass.log) {
		if m := re.FindStringSubmatch(line.Text); m != nil {
			n++
			texts[m[min(1, len(m)-1)]] = true
		}
	}
	if l.Distinct {
		n = int64(len(texts))
	}
	b := l.Bounds
	if b.Empty() {
		b.AtLeast = new(int64(1))
	}
	return hold(b, n, fmt.Sprintf("log lines like %q", l.Matches))
}

func (p *rep) checkPage(ctx context.Context, want *scenarios.PageMatch) error {
	re, err := regexp.Compile(want.Matches)
	if err != nil {
		return err
	}
	pctx, cancel := context.WithTimeout(ctx, counterTimeout)
	defer cancel()
	c, err := p.client(pctx)
	if err != nil {
		return err
	}
	page, err := c.Page(pctx, want.Path)
	if err != nil {
		return err
	}
	if !re.Match(page) {
		const most = 1000
		return fmt.Errorf("%s is %q, want %q in it", want.Path, page[:min(len(page), most)], want.Matches)
	}
	return nil
}

func noSample(name string, labels map[string]string) error {
	if len(labels) == 0 {
		return fmt.Errorf("no sample is named %s", name)
	}
	return fmt.Errorf("no sample is named %s with %v", name, labels)
}

func (p *rep) checkMetric(ctx context.Context, m *scenarios.MetricBounds) error {
	page, _, ok := p.metrics(ctx)
	if !ok {
		return fmt.Errorf("no metrics page")
	}
	v, found := page.Sum(m.Name, m.Labels)
	if !found {
		return noSample(m.Name, m.Labels)
	}
	return hold(m.Bounds, int64(v), m.Name)
}

func (p *rep) checkError(want *scenarios.ErrorMatch) error {
	a, err := p.named(want.Chat)
	if err != nil {
		return err
	}
	e := a.serverError()
	if e == nil {
		return fmt.Errorf("chat %s met no error answer", want.Chat)
	}
	switch {
	case want.Code != "" && e.Code != want.Code:
		return fmt.Errorf("code %q, want %q (%v)", e.Code, want.Code, e)
	case want.Status != 0 && e.Status != want.Status:
		return fmt.Errorf("status %d, want %d (%v)", e.Status, want.Status, e)
	case want.Retryable != nil && e.Retryable != *want.Retryable:
		return fmt.Errorf("retryable %t, want %t (%v)", e.Retryable, *want.Retryable, e)
	}
	re, err := regexp.Compile(want.Message)
	if err != nil {
		return err
	}
	if !re.MatchString(e.Message) {
		return fmt.Errorf("message %q, want %q", e.Message, want.Message)
	}
	return nil
}

func (p *rep) checkExit(want *scenarios.ExitMatch) error {
	got := p.lastExit
	switch {
	case got == nil:
		return fmt.Errorf("no process has ended on a signal")
	case got.exit.Signal != 0 || got.exit.Code != want.Code:
		return fmt.Errorf("%s, want exit status %d", got.exit, want.Code)
	case want.Within > 0 && got.after > time.Duration(want.Within):
		return fmt.Errorf("after %s, want at most %s", got.after.Round(time.Millisecond), time.Duration(want.Within))
	}
	return nil
}

func (p *rep) checkFaster(f *scenarios.Faster) error {
	a, err := p.named(f.Chat)
	if err != nil {
		return err
	}
	b, err := p.named(f.Than)
	if err != nil {
		return err
	}
	if a.err != nil || b.err != nil {
		return fmt.Errorf("one of the two is no answer")
	}
	if limit := b.got.FirstToken * time.Duration(f.Percent) / 100; a.got.FirstToken > limit {
		return fmt.Errorf("%s took %s to its first token, %s took %s: more than %d%%", f.Chat,
			a.got.FirstToken.Round(time.Millisecond), f.Than, b.got.FirstToken.Round(time.Millisecond), f.Percent)
	}
	return nil
}

func (p *rep) checkHealth(ctx context.Context, want string) error {
	h, err := p.health(ctx)
	if err != nil {
		return err
	}
	if h.Status != want {
		return fmt.Errorf("%s %v, want %s", h.Status, h.Reasons, want)
	}
	return nil
}

func (p *rep) health(ctx context.Context) (client.Health, error) {
	hctx, cancel := context.WithTimeout(ctx, counterTimeout)
	defer cancel()
	c, err := p.client(hctx)
	if err != nil {
		return client.Health{}, err
	}
	return c.Health(hctx)
}
