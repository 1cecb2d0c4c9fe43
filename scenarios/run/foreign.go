package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"ds4/faults/corrupt"
	"ds4/faults/proc"
	"ds4/reports"
	"ds4/runtime/client"
	"ds4/scenarios"
)

// loopback is where a server that is not ds4 is expected to listen, unless its
// description names another place to ask whether it is ready.
const loopback = "127.0.0.1"

// foreign is the description of the server of a scenario, nil if that is ds4.
// What the file says counts more than what the command line does.
func (r *runner) foreign(s *scenarios.Scenario) *scenarios.Foreign {
	switch {
	case r.opt.Target != "":
		return nil
	case len(s.Server.Command) > 0:
		return &s.Server.Foreign
	}
	return r.opt.Foreign
}

func (r *runner) subject(s *scenarios.Scenario) scenarios.Subject {
	switch {
	case r.opt.Target != "":
		return scenarios.SubjectTarget
	case r.foreign(s) != nil:
		return scenarios.SubjectForeign
	}
	return scenarios.SubjectDS4
}

// reachTarget says why a target does not answer, or nil. Any answer will do.
func (r *runner) reachTarget(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, counterTimeout)
	defer cancel()
	c, err := client.New(r.opt.Target)
	if err == nil {
		_, err = c.Page(ctx, "/v1/models")
	}
	if err != nil {
		return fmt.Errorf("the target %s does not answer: %w", r.opt.Target, err)
	}
	return nil
}

// prepareForeign finds out what a repetition has to know about a server that is
// not ds4.
func (p *rep) prepareForeign() error {
	p.foreign = p.r.foreign(p.s)
	p.byTime = p.foreign != nil && p.s.JudgesReuse()
	if p.foreign == nil {
		return nil
	}
	if ignored := slices.Sorted(func(yield func(string) bool) {
		for name := range p.s.Server.Args {
			if !yield("--" + name) {
				return
			}
		}
	}); len(ignored) > 0 {
		p.warn("flags of ds4, not given to this server: %s", strings.Join(ignored, " "))
	}
	if p.foreign.KVDir != "" {
		dir, err := scenarios.ExpandString(p.foreign.KVDir, p.lookup(nil))
		if err != nil {
			return err
		}
		// The directory is emptied and replaced by some steps.
		if rel, err := filepath.Rel(p.dir, dir); err != nil || !filepath.IsLocal(rel) || rel == "." {
			return fmt.Errorf("kv_dir %s: want a directory below $WORK", p.foreign.KVDir)
		}
		p.kv, p.kvArg = dir, dir
	}
	return os.MkdirAll(p.kv, 0o700)
}

// warn adds a warning, once.
func (p *rep) warn(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if text := fmt.Sprintf(format, args...); !slices.Contains(p.res.Warnings, text) {
		p.res.Warnings = append(p.res.Warnings, text)
	}
}

// files lists what a server keeps: segments, or whatever one does that is not ds4.
func (p *rep) files(dir string) ([]corrupt.File, error) {
	if p.foreign != nil {
		return corrupt.Files(dir)
	}
	return corrupt.Segments(dir)
}

// pick selects among them.
func (p *rep) pick(sel string) ([]corrupt.File, error) {
	if p.foreign != nil {
		return corrupt.PickAny(p.kv, sel)
	}
	return corrupt.Pick(p.kv, sel)
}

// foreignConfig is how a server that is not ds4 is started. lookup knows all
// variables but the port.
func foreignConfig(f *scenarios.Foreign, lookup func(string) (string, bool), more []string) (cfg proc.Config, err error) {
	port, err := choosePort(f)
	if err != nil {
		return cfg, err
	}
	expand := func(s string) string {
		out, e := scenarios.ExpandString(s, func(name string) (string, bool) {
			switch name {
			case "PORT":
				return strconv.Itoa(port), true
			case "HERE":
				return f.Here, f.Here != ""
			}
			return lookup(name)
		})
		err = errors.Join(err, e)
		return out
	}
	var words []string
	for _, w := range f.Command {
		words = append(words, expand(w))
	}
	if kv, ok := lookup("KV"); ok { // it may be a ds4 all the same, and have another beside it
		cfg.Env = append(cfg.Env, "DS4_LOCK_FILE="+kv+".lock")
	}
	for name, v := range f.Env {
		cfg.Env = append(cfg.Env, name+"="+expand(v))
	}
	cfg.Path, cfg.Args = words[0], append(words[1:], more...)
	cfg.Group = true // often a script around the server
	cfg.URL = "http://" + net.JoinHostPort(loopback, strconv.Itoa(port))
	switch ready := expand(f.Ready); {
	case strings.HasPrefix(ready, "/"):
		cfg.Ready = cfg.URL + ready
	case ready != "":
		u, e := url.Parse(ready)
		if e != nil {
			return cfg, e
		}
		cfg.URL, cfg.Ready = u.Scheme+"://"+u.Host, ready
	}
	return cfg, err
}

// choosePort returns the port that a description fixes, if it is free, or a free
// one.
func choosePort(f *scenarios.Foreign) (int, error) {
	fixed, err := f.FixedPort()
	if err != nil {
		return 0, err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(fixed)))
	if err != nil {
		if fixed != 0 && errors.Is(err, syscall.EADDRINUSE) {
			return 0, fmt.Errorf("port %d is in use by another process; with port: $PORT a free one is taken", fixed)
		}
		return 0, fmt.Errorf("port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// endedAsTold says whether an end after SIGTERM is that of a server in order. One
// that is not ds4 need not catch the signal.
func (p *rep) endedAsTold(e proc.Exit) bool {
	const shellCode = 128 + int(syscall.SIGTERM)
	return e.Code == 0 || p.foreign != nil && (e.Signal == syscall.SIGTERM || e.Code == shellCode)
}

// standardForeign makes those of the standard five that need no knowledge of the
// server's inside, and says which it cannot make.
func (p *rep) standardForeign(ctx context.Context) error {
	p.warn("not judged for a server that is not ds4: %s (it has no counters), %s (which of its files are temporary?), %s (which one?)",
		reports.CheckAttempts, reports.CheckTemp, reports.CheckBudget)
	failures := len(p.res.Failures)
	a := p.newAnswer(&scenarios.Chat{MaxTokens: probeTokens}, []client.Message{{Role: "user", Content: probeText}})
	if err := p.ask(ctx, a); err != nil {
		return err
	}
	switch {
	case a.err != nil:
		p.standard(reports.CheckControl, false, a.err.Error())
	case len(p.res.Failures) > failures:
		p.standard(reports.CheckControl, false, "the answer is not that of a server that has just been started on an empty directory")
	case a.judged:
		p.standard(reports.CheckControl, true, "")
	}
	return p.terminate(ctx, defaultStopTimeout)
}

// errNoControl says that there is no right answer to compare with.
var errNoControl = errors.New("answers are compared with nothing but each other")

// foreignControls remembers the right answers of servers that are not ds4, and
// which of them give none.
type foreignControls struct {
	mu    sync.Mutex
	known map[string]string
	exact map[string]error // by command: nil if it answers the same every time
	n     int
}

// controlKey is what decides the answer of a server that is not ds4.
type controlKey struct {
	Server   *scenarios.Foreign
	Args     []string
	Model    string
	Messages []client.Message
	Max      int
}

// foreignID tells commands apart.
func (p *rep) foreignID() string {
	return strings.Join(slices.Concat(p.foreign.Command, p.r.opt.ServerArgs), " ")
}

// inexact is how a server that is not ours was seen to give two answers to one
// question, or nil.
func (p *rep) inexact() error {
	if p.foreign == nil {
		return nil
	}
	c := &p.r.controls
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exact[p.foreignID()]
}

// foreignControl is the answer of the same server, just started on an empty
// directory. The first question of all is asked twice: a server that does not
// give one answer to one question cannot be judged by it.
func (p *rep) foreignControl(ctx context.Context, a *answer) (string, error) {
	if port, err := p.foreign.FixedPort(); err != nil || port != 0 {
		return "", fmt.Errorf("%w: with a port of its own (%d) there is room for one server only", errNoControl, port)
	}
	key := controlKey{p.foreign, p.r.opt.ServerArgs, a.model, a.messages, a.spec.MaxTokens}
	kb, err := json.Marshal(key)
	if err != nil {
		return "", err
	}
	id := p.foreignID()
	c := &p.r.controls
	c.mu.Lock()
	defer c.mu.Unlock()
	if right, ok := c.known[string(kb)]; ok {
		return right, nil
	}
	if err, tried := c.exact[id]; tried && err != nil {
		return "", err
	}
	right, err := p.askFresh(ctx, a)
	if err != nil {
		return "", err
	}
	if _, tried := c.exact[id]; !tried {
		again, err := p.askFresh(ctx, a)
		if err != nil {
			return "", err
		}
		c.exact[id] = nil
		if again != right {
			c.exact[id] = fmt.Errorf("%w: started twice on an empty directory, the server answers %q and %q", errNoControl, right, again)
			return "", c.exact[id]
		}
	}
	c.known[string(kb)] = right
	return right, nil
}

// askFresh starts the server on an empty directory, asks it, and ends it.
func (p *rep) askFresh(ctx context.Context, a *answer) (string, error) {
	p.r.controls.n++
	work := filepath.Join(p.r.tmp, "control", fmt.Sprintf("foreign-%d", p.r.controls.n))
	kv := filepath.Join(work, "kv")
	if err := os.MkdirAll(kv, 0o700); err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	cfg, err := foreignConfig(p.foreign, func(name string) (string, bool) {
		switch name {
		case "KV":
			return kv, true
		case "WORK":
			return work, true
		}
		return p.lookup(nil)(name)
	}, p.r.opt.ServerArgs)
	if err != nil {
		return "", err
	}
	cfg.Log = proc.NewLog(nil)
	server, err := proc.Start(cfg)
	if err != nil {
		return "", err
	}
	defer server.Close()
	rctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	base, err := server.WaitReady(rctx)
	if err != nil {
		return "", err
	}
	c, err := client.New(base)
	if err != nil {
		return "", err
	}
	req := p.request(rctx, c, a)
	req.OnEvent = nil
	got, err := c.Chat(rctx, req)
	return said(got), err
}

// request is what is sent for a question.
func (p *rep) request(ctx context.Context, c *client.Client, a *answer) client.Request {
	req := client.Request{Messages: a.messages, MaxTokens: a.spec.MaxTokens, Stream: a.spec.Stream, Thinking: a.spec.Thinking,
		Tools: json.RawMessage(a.tools)}
	api := ""
	switch {
	case p.foreign != nil:
		api = p.foreign.API
	case p.r.opt.Target != "":
		api = p.r.opt.API
	default:
		return req
	}
	req.Completions = api == scenarios.APICompletions
	req.Standard = true
	req.Stream = req.Stream || p.byTime
	req.Model = p.modelName(ctx, c)
	return req
}

// modelName is the first model that the server lists; some want to be asked for
// it by name.
func (p *rep) modelName(ctx context.Context, c *client.Client) string {
	p.mu.Lock()
	name := p.served
	p.mu.Unlock()
	if name != "" {
		return name
	}
	ctx, cancel := context.WithTimeout(ctx, counterTimeout)
	defer cancel()
	if list, err := c.Models(ctx); err == nil && len(list) > 0 {
		p.mu.Lock()
		p.served = list[0]
		p.mu.Unlock()
		return list[0]
	}
	return "" // the client has a name for those that do not care
}

// reusePercent is how much of the time of a cold chat one may take that reused
// what the cold one computed.
const reusePercent = 50

// checkReuseByTime judges reuse where the server has no counters: the chat must
// have begun to answer in half the time that the first one with the same prompt
// took.
func (p *rep) checkReuseByTime(b *scenarios.ChatBounds) error {
	if b.Chat == "" {
		return inconclusive("cannot be judged by time for all chats together, and the server has no counters")
	}
	a, err := p.named(b.Chat)
	if err != nil {
		return err
	}
	cold := p.firstLike(a)
	if cold == nil {
		return inconclusive("cannot be judged by time: no earlier chat has the prompt of %s, and the server has no counters", b.Chat)
	}
	if a.err != nil || cold.err != nil {
		return fmt.Errorf("one of %s and %s is no answer", b.Chat, cold.name)
	}
	p.warn("judged by time, for want of counters: reuse")
	if limit := cold.got.FirstToken * reusePercent / 100; a.got.FirstToken > limit {
		return fmt.Errorf("of chat %s cannot be seen: %s to its first token, the first time it took %s", b.Chat,
			a.got.FirstToken.Round(time.Millisecond), cold.got.FirstToken.Round(time.Millisecond))
	}
	return nil
}

// firstLike is the first chat with the same prompt, nil if that is a itself. A
// filling that was copied counts: it was measured when it was made.
func (p *rep) firstLike(a *answer) *answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	like := func(b *answer) bool {
		return b != a && reflect.DeepEqual(a.messages, b.messages) && b.got.FirstToken > 0
	}
	for _, b := range p.all {
		if b == a {
			break
		}
		if like(b) {
			return b
		}
	}
	for _, b := range p.answers {
		if like(b) && !slices.Contains(p.all, b) {
			return b
		}
	}
	return nil
}

// saysReuse says whether the answer's word on reused tokens means something: a
// server that is not ds4 may report no such number, which reads as zero.
func (p *rep) saysReuse(a *answer) bool {
	return a.got.HasUsage && (p.r.subject(p.s) == scenarios.SubjectDS4 || a.got.Usage.Details.CachedTokens > 0)
}
