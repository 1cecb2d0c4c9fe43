package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"ds4/faults/explore"
	"ds4/faults/proc"
	"ds4/faults/syscalls"
	"ds4/runtime/client"
)

// explorable is a program that is explored.
type explorable interface {
	// run runs it once, to be recorded; point says how many operations it has made.
	run(ctx context.Context, sup *syscalls.Supervisor, dir string, point func() int) error
	// judge says what is wrong with a directory.
	judge(ctx context.Context, dir string, s *explore.State) error
	// settled says why nothing can be judged although the directory from which
	// nothing was lost is good. It may use folders below work.
	settled(ctx context.Context, work string) error
}

// Deadlines of explored programs.
const (
	exploreStart  = time.Minute
	exploreAnswer = 2 * time.Minute
	exploreStop   = time.Minute
)

// exploredServer is a server that answers a question.
type exploredServer struct {
	command []string
	script  exploredScript
	ready   string         // path that answers when the server is ready
	forbid  *regexp.Regexp // nil: anything may be logged
	stored  *regexp.Regexp // what the log says of tokens that are durable now; nil: nothing
	lying   bool           // nothing was ever durable
	noReuse bool           // how much is reused is not judged

	cold     []string // the answers of the recorded run
	due      []int64  // of each question the tokens that are reused if nothing is lost
	promises []promise
}

// promise is what the server has said of what it stored.
type promise struct {
	point  int // operations that had been made by then
	tokens int64
}

const exploreMaxTokens = 8

// start starts the server on a directory, under a supervisor if there is one. One
// with a port in its command line is told where to listen, others say it.
func (e *exploredServer) start(ctx context.Context, sup *syscalls.Supervisor, dir string) (*proc.Process, *proc.Log, error) {
	log := proc.NewLog(nil)
	cfg := proc.Config{Path: e.command[0], Log: log, Env: []string{"DS4_LOCK_FILE=" + dir + ".lock"}}
	port := ""
	if e.told() {
		n, err := freePort()
		if err != nil {
			return nil, nil, err
		}
		port = strconv.Itoa(n)
		cfg.URL = "http://" + net.JoinHostPort("127.0.0.1", port)
		if e.ready != "" {
			cfg.Ready = cfg.URL + e.ready
		}
	}
	for _, a := range e.command[1:] {
		cfg.Args = append(cfg.Args, strings.NewReplacer(kvWord, dir, portWord, port).Replace(a))
	}
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

// ask asks a question.
func (e *exploredServer) ask(ctx context.Context, url string, number int) (answer string, reused int64, err error) {
	actx, cancel := context.WithTimeout(ctx, exploreAnswer)
	defer cancel()
	c, err := client.New(url)
	if err != nil {
		return "", 0, err
	}
	model := ""
	if e.told() { // other servers want a name
		if list, err := c.Models(actx); err == nil && len(list) > 0 {
			model = list[0]
		}
	}
	a, err := c.Chat(actx, client.Request{Model: model, Messages: []client.Message{{Role: "user", Content: e.script.questions[number]}}, MaxTokens: exploreMaxTokens})
	if err != nil {
		return "", 0, err
	}
	return a.Reasoning + "\x00" + a.Text, int64(a.Usage.Details.CachedTokens), nil
}

// told says whether the server is told where to listen.
func (e *exploredServer) told() bool {
	return slices.ContainsFunc(e.command, func(a string) bool { return strings.Contains(a, portWord) })
}

func (e *exploredServer) run(ctx context.Context, sup *syscalls.Supervisor, dir string, point func() int) error {
	e.cold = make([]string, len(e.script.questions))
	steps := e.script.steps
	for len(steps) > 0 {
		n := slices.IndexFunc(steps, func(s exploredStep) bool { return s.end != 0 })
		end := syscall.SIGTERM
		asked := steps
		if n >= 0 {
			asked, end, n = steps[:n], steps[n].end, n+1
		} else {
			n = len(steps)
		}
		if err := e.life(ctx, sup, dir, point, asked, end); err != nil {
			return err
		}
		steps = steps[n:]
	}
	return nil
}

// life is one process of the recorded run: a start, questions, and an end.
func (e *exploredServer) life(ctx context.Context, sup *syscalls.Supervisor, dir string, point func() int, steps []exploredStep, end syscall.Signal) error {
	p, log, err := e.start(ctx, sup, dir)
	if err != nil {
		return err
	}
	defer p.Close()
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		e.hear(p, log, point)
	}()
	for _, s := range steps {
		answer, _, err := e.ask(ctx, p.URL(), s.ask)
		switch {
		case err != nil:
			return err
		case e.cold[s.ask] == "":
			e.cold[s.ask] = answer
		case e.cold[s.ask] != answer:
			return &wrongRun{fmt.Errorf("question %d of the recorded run: wrong answer %q, the first time it was %q", s.ask+1, answer, e.cold[s.ask])}
		}
	}
	if err := p.Signal(end); err != nil {
		return err
	}
	sctx, cancel := context.WithTimeout(ctx, exploreStop)
	defer cancel()
	exit, err := p.Wait(sctx)
	if err != nil {
		return err
	}
	<-heard
	if end == syscall.SIGTERM && exit.Code != 0 && !(e.told() && exit.Signal == syscall.SIGTERM) {
		return fmt.Errorf("the server ended with %s after SIGTERM", exit)
	}
	return nil
}

// hear notes what the server says of what it stored, until its end. By the time
// that a line is read more operations may have been made than when it was written:
// never less is asked for than was promised, but perhaps later.
func (e *exploredServer) hear(p *proc.Process, log *proc.Log, point func() int) {
	if e.stored == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // all output is in the log by then
		<-p.Done()
		cancel()
	}()
	for at := 0; ; {
		_, err := log.Wait(ctx, at, e.stored)
		now := point()
		for _, line := range log.Since(at) {
			at++
			if m := e.stored.FindStringSubmatch(line.Text); m != nil {
				if n, err := strconv.ParseInt(m[1], 10, 64); err == nil {
					e.promises = append(e.promises, promise{now, n})
				}
			}
		}
		if err != nil {
			return
		}
	}
}

// owed is how many tokens the server had promised at a moment.
func (e *exploredServer) owed(s *explore.State) int64 {
	var n int64
	for _, pr := range e.promises {
		if pr.point <= s.Point {
			n = max(n, pr.tokens)
		}
	}
	return n
}

func (e *exploredServer) judge(ctx context.Context, dir string, s *explore.State) error {
	defer os.Remove(dir + ".lock")
	p, log, err := e.start(ctx, nil, dir)
	if err != nil {
		return fmt.Errorf("the server does not start: %w", err)
	}
	defer p.Close()
	reused, err := e.judgeAnswers(ctx, p.URL())
	if err != nil || e.lying {
		return err
	}
	if e.forbid != nil {
		for _, line := range log.Since(0) {
			if e.forbid.MatchString(line.Text) {
				return fmt.Errorf("a file that was published is damaged: %s", line.Text)
			}
		}
	}
	return e.judgeReuse(reused, s)
}

func (e *exploredServer) settled(ctx context.Context, work string) error {
	if !e.lying && !e.noReuse && !slices.ContainsFunc(e.due, func(n int64) bool { return n > 0 }) {
		return errors.New("the server reuses nothing after a restart: losing it would not be noticed")
	}
	if len(e.script.questions) == 1 { // its answer was given on an empty directory
		return nil
	}
	return e.compareControls(ctx, filepath.Join(work, "control"))
}

// program is any command, with another one that judges what it left.
type program struct {
	command []string
	check   string
}

func (g *program) run(ctx context.Context, sup *syscalls.Supervisor, dir string, _ func() int) error {
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

func (g *program) settled(context.Context, string) error { return nil }
