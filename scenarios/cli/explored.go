package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"ds4/faults/explore"
	"ds4/faults/proc"
	"ds4/faults/syscalls"
	"ds4/runtime/client"
	"ds4/scenarios/corpus"
)

// explorable is a program that is explored.
type explorable interface {
	// run runs it once, to be recorded.
	run(ctx context.Context, sup *syscalls.Supervisor, dir string) error
	// judge says what is wrong with a directory.
	judge(ctx context.Context, dir string, s *explore.State) error
	// ready is asked after the directory was judged from which nothing was lost.
	ready() error
}

// Deadlines of explored programs.
const (
	exploreStart  = time.Minute
	exploreAnswer = 2 * time.Minute
	exploreStop   = time.Minute
)

// exploredServer is a server that answers a question.
type exploredServer struct {
	command  []string
	question string
	forbid   *regexp.Regexp // nil: anything may be logged
	lying    bool           // nothing was ever durable

	cold string       // the answer of the recorded run
	due  atomic.Int64 // tokens that are reused if nothing is lost
}

const exploreMaxTokens = 8

// question is a text of about so many tokens.
func question(tokens int) (string, error) {
	const seed, bytesPerToken = 11, 3
	return corpus.Text("go-source", seed, tokens*bytesPerToken)
}

// start starts the server on a directory, under a supervisor if there is one.
func (e *exploredServer) start(ctx context.Context, sup *syscalls.Supervisor, dir string) (*proc.Process, *proc.Log, error) {
	var args []string
	for _, a := range e.command[1:] {
		args = append(args, strings.ReplaceAll(a, kvWord, dir))
	}
	log := proc.NewLog(nil)
	cfg := proc.Config{Path: e.command[0], Args: args, Log: log, Env: []string{"DS4_LOCK_FILE=" + dir + ".lock"}}
	if sup != nil {
		cfg.Path, cfg.Args = sup.Command(cfg.Path, cfg.Args)
	}
	p, err := proc.Start(cfg)
	if err != nil {
		return nil, nil, err
	}
	rctx, cancel := context.WithTimeout(ctx, exploreStart)
	defer cancel()
	if _, err := p.WaitReady(rctx); err != nil {
		p.Close()
		return nil, nil, err
	}
	return p, log, nil
}

// ask asks the question.
func (e *exploredServer) ask(ctx context.Context, url string) (answer string, reused int64, err error) {
	actx, cancel := context.WithTimeout(ctx, exploreAnswer)
	defer cancel()
	c, err := client.New(url)
	if err != nil {
		return "", 0, err
	}
	a, err := c.Chat(actx, client.Request{Messages: []client.Message{{Role: "user", Content: e.question}}, MaxTokens: exploreMaxTokens})
	if err != nil {
		return "", 0, err
	}
	return a.Reasoning + "\x00" + a.Text, int64(a.Usage.Details.CachedTokens), nil
}

func (e *exploredServer) run(ctx context.Context, sup *syscalls.Supervisor, dir string) error {
	p, _, err := e.start(ctx, sup, dir)
	if err != nil {
		return err
	}
	defer p.Close()
	if e.cold, _, err = e.ask(ctx, p.URL()); err != nil {
		return err
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	sctx, cancel := context.WithTimeout(ctx, exploreStop)
	defer cancel()
	exit, err := p.Wait(sctx)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("the server ended with %s after SIGTERM", exit)
	}
	return err
}

func (e *exploredServer) judge(ctx context.Context, dir string, s *explore.State) error {
	defer os.Remove(dir + ".lock")
	p, log, err := e.start(ctx, nil, dir)
	if err != nil {
		return fmt.Errorf("the server does not start: %w", err)
	}
	defer p.Close()
	answer, reused, err := e.ask(ctx, p.URL())
	switch {
	case err != nil:
		return fmt.Errorf("no answer: %w", err)
	case answer != e.cold:
		return fmt.Errorf("wrong answer: %q, without a cache it is %q", answer, e.cold)
	case e.lying:
		return nil
	}
	if e.forbid != nil {
		for _, line := range log.Since(0) {
			if e.forbid.MatchString(line.Text) {
				return fmt.Errorf("a file that was published is damaged: %s", line.Text)
			}
		}
	}
	switch {
	case s.Last && len(s.Lost) == 0:
		e.due.Store(reused)
	case s.Last && reused < e.due.Load():
		return fmt.Errorf("%d tokens are reused; the server had ended in good order with %d in the cache", reused, e.due.Load())
	}
	return nil
}

func (e *exploredServer) ready() error {
	if e.due.Load() == 0 && !e.lying {
		return errors.New("the server reuses nothing after a restart: losing it would not be noticed")
	}
	return nil
}

// program is any command, with another one that judges what it left.
type program struct {
	command []string
	check   string
}

func (g *program) run(ctx context.Context, sup *syscalls.Supervisor, dir string) error {
	path, err := exec.LookPath(g.command[0])
	if err != nil {
		return err
	}
	var args []string
	for _, a := range g.command[1:] {
		args = append(args, strings.ReplaceAll(a, kvWord, dir))
	}
	child := exec.Command(path, args...)
	child.Env = append(os.Environ(), "KV="+dir)
	child.Stdout, child.Stderr = os.Stderr, os.Stderr
	signals := make(chan os.Signal, 1)
	stop := context.AfterFunc(ctx, func() { signals <- syscall.SIGTERM })
	defer stop()
	state, err := sup.Run(child, signals)
	if err == nil && !state.Success() {
		err = fmt.Errorf("%s: %s", filepath.Base(path), state)
	}
	return err
}

func (g *program) judge(ctx context.Context, dir string, _ *explore.State) error {
	c := exec.CommandContext(ctx, "sh", "-c", g.check)
	c.Env = append(os.Environ(), "KV="+dir)
	c.WaitDelay = time.Second
	out, err := c.CombinedOutput()
	if err != nil {
		const most = 500
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out[max(len(out)-most, 0):])))
	}
	return nil
}

func (g *program) ready() error { return nil }
