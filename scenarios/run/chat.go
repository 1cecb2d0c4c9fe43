package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"ds4/faults"
	"ds4/faults/proxy"
	"ds4/reports"
	"ds4/runtime/client"
	"ds4/scenarios"
)

const (
	defaultMaxTokens   = 24
	defaultChatTimeout = 2 * time.Minute
	maxRetryAfter      = 15 * time.Second // the longest pause that a server may ask for
	retryPause         = 100 * time.Millisecond
	counterTimeout     = 5 * time.Second
)

// answer is one question and what came of it.
type answer struct {
	spec     scenarios.Chat
	name     string
	messages []client.Message
	model    string
	args     map[string]any
	tools    string // offered; JSON

	got       client.Answer
	err       error // of the last attempt; nil if it worked
	abandoned bool
	attempts  int           // requests sent
	errs      []error       // of the attempts that failed
	asked     time.Duration // from the first request to the first good token
	first     time.Time     // when the first token of the last attempt came
	work      counters      // what the backend did meanwhile, if counted
	counted   bool
	judged    bool
	via       *proxy.Proxy // while it is being asked, if its way is bad
}

// serverError is the error answer of the last failed attempt, nil if none was
// typed.
func (a *answer) serverError() *client.Error {
	for i := len(a.errs) - 1; i >= 0; i-- {
		var e *client.Error
		if errors.As(a.errs[i], &e) {
			return e
		}
	}
	return nil
}

func userMessage(system, text string) []client.Message {
	if system == "" {
		return []client.Message{{Role: "user", Content: text}}
	}
	return []client.Message{{Role: "system", Content: system}, {Role: "user", Content: text}}
}

func (p *rep) newAnswer(c *scenarios.Chat, messages []client.Message) *answer {
	a := &answer{spec: *c, name: c.As, messages: messages, model: p.model, args: p.s.Server.Args}
	if a.spec.MaxTokens == 0 {
		a.spec.MaxTokens = defaultMaxTokens
	}
	return a
}

func (p *rep) chat(ctx context.Context, c *scenarios.Chat) error {
	var messages []client.Message
	if c.Same != "" {
		p.mu.Lock()
		before := p.answers[c.Same]
		p.mu.Unlock()
		if before == nil {
			return fmt.Errorf("no answer is named %q", c.Same)
		}
		messages = before.messages
		if c.MaxTokens == 0 {
			c.MaxTokens = before.spec.MaxTokens
		}
	} else {
		text, err := p.text(ctx, c.Prompt)
		if err != nil {
			return inconclusive("%w", err)
		}
		messages = userMessage(c.System, text)
	}
	a := p.newAnswer(c, messages)
	if !c.Background {
		return p.ask(ctx, a)
	}
	p.mu.Lock()
	p.answers[a.name] = a
	p.mu.Unlock()
	p.background.Go(func() {
		if err := p.ask(ctx, a); err != nil {
			p.fail("chat %s: %v", a.name, err)
		}
	})
	return nil
}

// turns holds a conversation: every turn sends all turns and answers before it.
func (p *rep) turns(ctx context.Context, t *scenarios.Turns) error {
	var history []client.Message
	if t.After != "" {
		before, err := p.named(t.After)
		if err != nil {
			return err
		}
		history = append(slices.Clone(before.messages), before.reply())
	}
	for i := range t.Users {
		text, err := p.text(ctx, &t.Users[i])
		if err != nil {
			return inconclusive("%w", err)
		}
		history = append(history, client.Message{Role: "user", Content: text})
		a, err := p.turn(ctx, t, t.As+"-"+strconv.Itoa(i+1), history)
		if err != nil {
			return fmt.Errorf("turn %d: %w", i+1, err)
		}
		history = append(slices.Clone(a.messages), a.reply())
		p.mu.Lock()
		p.answers[t.As] = a
		p.mu.Unlock()
	}
	return nil
}

// turn asks for one turn of a conversation, and once more with the results if it calls
// tools.
func (p *rep) turn(ctx context.Context, t *scenarios.Turns, name string, history []client.Message) (*answer, error) {
	for {
		a := p.newAnswer(&scenarios.Chat{As: name, MaxTokens: t.MaxTokens, Retries: t.Retries, Timeout: t.Timeout,
			Thinking: t.Thinking, NoControl: t.NoControl}, slices.Clone(history))
		a.tools = t.Tools
		if err := p.ask(ctx, a); err != nil {
			return nil, err
		}
		if a.err != nil || len(a.got.Calls) == 0 || strings.HasSuffix(name, resultSuffix) {
			return a, a.err
		}
		history = append(slices.Clone(history), a.reply())
		for _, c := range a.got.Calls {
			history = append(history, client.Message{Role: "tool", ToolCallID: c.ID, Content: cmp.Or(t.Result, "ok")})
		}
		name += resultSuffix
	}
}

// resultSuffix names the answer to the results of a turn's calls.
const resultSuffix = "-result"

// reply is the answer as the next request repeats it.
func (a *answer) reply() client.Message {
	return client.Message{Role: "assistant", Content: a.got.Text, ToolCalls: a.got.Calls}
}

// ask sends a question, again if it fails and the client of the scenario would,
// and judges the answer.
func (p *rep) ask(ctx context.Context, a *answer) error {
	before, counting := p.counters(ctx)
	if a.spec.Via != nil {
		defer a.closeVia()
	}
	start := time.Now()
	for {
		a.attempts++
		end := p.span(reports.EventRequest, label(a))
		sent := time.Now()
		a.got = client.Answer{}
		a.err = p.attempt(ctx, a)
		end(outcomeOf(a.err))
		if a.got.FirstToken > 0 {
			a.first = sent.Add(a.got.FirstToken)
			if a.spec.Stream { // else it came with all the others
				p.eventAt(a.first, reports.EventFirstToken, label(a))
			}
		}
		if errors.Is(a.err, client.ErrAbandoned) {
			a.err, a.abandoned = nil, true
			break
		}
		if a.err == nil {
			a.asked = time.Since(start) - a.got.Total + a.got.FirstToken
			if a.got.FirstToken == 0 { // it said nothing: its end is what there is
				a.first = time.Now()
				a.asked = a.first.Sub(start)
			}
			break
		}
		a.errs = append(a.errs, a.err)
		if ctx.Err() != nil || a.attempts > a.spec.Retries || !p.again(ctx, a) {
			break
		}
		p.event(reports.EventRetry, firstLine(a.err.Error()))
	}
	p.checkVia(a)
	if after, ok := p.counters(ctx); ok && counting && after.pid == before.pid {
		a.work, a.counted = after.minus(before), true
	}
	p.mu.Lock()
	if a.name != "" {
		p.answers[a.name] = a
	}
	p.all = append(p.all, a)
	p.mu.Unlock()
	return p.judge(ctx, a)
}

// attempt sends the question once.
func (p *rep) attempt(ctx context.Context, a *answer) error {
	timeout := a.spec.Timeout.Or(defaultChatTimeout)
	actx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := p.client(actx)
	if err == nil && a.spec.Via != nil {
		c, err = a.through(c)
	}
	if err != nil {
		return err
	}
	req := p.request(actx, c, a)
	hungUp := func() bool { return false }
	if ab := a.spec.Abandon; ab != nil {
		hungUp = p.abandon(actx, cancel, ab, &req)
	}
	a.got, err = c.Chat(actx, req)
	if err != nil && hungUp() {
		return client.ErrAbandoned
	}
	return err
}

// abandon arranges for the client to hang up; the returned function says whether
// it did.
func (p *rep) abandon(ctx context.Context, cancel context.CancelFunc, ab *scenarios.Abandon, req *client.Request) func() bool {
	done := make(chan struct{}, 1)
	hang := func() {
		select {
		case done <- struct{}{}:
		default:
		}
		cancel()
	}
	if ab.Events > 0 {
		n := 0
		req.OnEvent = func(client.Event) bool { n++; return n < ab.Events }
	}
	if ab.After > 0 {
		t := time.AfterFunc(time.Duration(ab.After), hang)
		context.AfterFunc(ctx, func() { t.Stop() })
	}
	if ab.Log != "" {
		re := regexp.MustCompile(ab.Log) // checked when the scenario was loaded
		from := p.log.Len()
		p.background.Go(func() {
			if _, err := p.log.Wait(ctx, from, re); err == nil {
				hang()
			}
		})
	}
	return func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
}

// again decides whether a client would send the request once more, and waits as
// long as it would.
func (p *rep) again(ctx context.Context, a *answer) bool {
	var e *client.Error
	if !errors.As(a.err, &e) {
		// The connection broke or was refused: worth another try if a server is
		// there or will be.
		return (p.r.opt.Target != "" || p.running()) && sleep(ctx, retryPause) == nil
	}
	if !e.Retryable && e.RetryAfter == 0 && !a.spec.Persist {
		return false
	}
	return sleep(ctx, min(max(e.RetryAfter, retryPause), maxRetryAfter)) == nil
}

// judge compares an answer with the right one and lowers the outcome accordingly.
func (p *rep) judge(ctx context.Context, a *answer) error {
	label := label(a)
	if a.abandoned {
		return nil
	}
	if a.err != nil {
		return p.judgeError(a, label)
	}
	if a.spec.NoControl {
		p.eventAt(a.first, reports.EventGoodToken, label)
		return nil
	}
	right, err := p.control(ctx, a)
	if errors.Is(err, errNoControl) {
		p.warn("%v", err)
		p.event(reports.EventGoodToken, label)
		return nil
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return inconclusive("no control answer: %w", err)
	}
	a.judged = true
	if got := said(a.got); got != right {
		p.worsen(faults.Wrong, "")
		p.fail("%s: chat %s: the answer differs from that of a server without a cache:\n got  %q\n want %q",
			reports.CheckControl, label, got, right)
		return nil
	}
	p.eventAt(a.first, reports.EventGoodToken, label)
	return nil
}

// label is what a chat is called where people read.
func label(a *answer) string { return cmp.Or(a.name, "without a name") }

func (p *rep) judgeError(a *answer, label string) error {
	if a.spec.MayFail {
		return nil
	}
	var e *client.Error
	switch {
	case !errors.As(a.err, &e):
		p.worsen(faults.Stuck, "")
		p.fail("chat %s: no answer and no error that a client understands after %d attempts: %v", label, a.attempts, a.err)
	case !e.Known:
		p.worsen(faults.Stuck, "")
		p.fail("chat %s: an error without an error object: %v", label, e)
	case e.Retryable && a.spec.Retries > 0:
		p.worsen(faults.Stuck, "")
		p.fail("chat %s: %d attempts, and the server still asks for another: %v", label, a.attempts, e)
	default:
		p.worsen(faults.Refused, fmt.Sprintf("chat %s: %v", label, e))
	}
	return nil
}

// said is all that an answer says: what it reasons and what it calls count as much as
// its text.
func said(a client.Answer) string {
	text := a.Text
	for _, c := range a.Calls {
		text += "<call>" + c.Function.Name + " " + c.Function.Arguments + "</call>"
	}
	if a.Reasoning == "" {
		return text
	}
	return "<think>" + a.Reasoning + "</think>" + text
}

// control is the right answer to a question.
func (p *rep) control(ctx context.Context, a *answer) (string, error) {
	switch {
	case p.foreign != nil:
		return p.foreignControl(ctx, a)
	case p.r.opt.Target != "":
		return "", fmt.Errorf("%w: a target has no other server beside it", errNoControl)
	}
	q := question{Model: a.model, Messages: a.messages, Max: a.spec.MaxTokens, Thinking: a.spec.Thinking, Tools: a.tools}
	if v, ok := a.args["numerics"].(string); ok {
		q.Numerics = v
	}
	tokens := defaultContext
	if v, err := strconv.Atoi(fmt.Sprint(a.args["ctx"])); err == nil {
		tokens = v
	}
	return p.r.oracle.answer(ctx, q, tokens)
}

func firstLine(s string) string {
	for i, c := range s {
		if c == '\n' {
			return s[:i]
		}
	}
	return s
}
