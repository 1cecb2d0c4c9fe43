// Package proc runs a server as a child process for the harness: starts it,
// waits until it answers, signals it, kills it, collects its output with times.
//
// It promises that nothing is left behind: every process has a group of its own,
// which ends with it and with Close, and when the harness dies, on Linux the kernel
// kills the process, and a guard process the whole group, if the program calls
// Main. Who leaves the group on purpose, as a daemon does, is found on Linux by a
// variable in its environment, and without it by having become our child, unless that
// may be another's: of a program that had children when it began, or is init. Only one
// that has dropped the variable stays there, or when the harness itself is killed.
//
// It knows two things about a server: it writes a line with "listening on
// http://HOST:PORT" when it is ready, or is told where to listen, and it answers
// HTTP there.
package proc

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// markVar is the variable that descendants of a process are found by.
const markVar = "DS4BENCH_PROCESS"

// running counts the processes that have not ended.
var running atomic.Int64

// outputDelay is how long output is read after a process has ended, in case a
// child of it holds the pipe.
const outputDelay = 2 * time.Second

// Config says what to start.
type Config struct {
	Path string
	Args []string
	Env  []string // added to the environment of the harness
	Dir  string   // working directory, empty for that of the harness
	Log  *Log     // where output goes; required
	// URL is where the server will listen, for one that does not say so in its
	// output. Ready is then what it answers with status 200 once it is ready;
	// empty means /v1/models below URL.
	URL   string
	Ready string
	// Group says that signals are for the whole group: what is started may be a
	// script around the server.
	Group bool
	// Attr, if not nil, changes how the process is created.
	Attr func(*syscall.SysProcAttr)
}

// Exit is how a process ended.
type Exit struct {
	Code   int            // exit status, -1 if a signal ended it
	Signal syscall.Signal // 0 if none
	At     time.Time
}

func (e Exit) String() string {
	if e.Signal != 0 {
		return "killed by " + cmp.Or(unix.SignalName(e.Signal), e.Signal.String())
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Process is a running or ended process.
type Process struct {
	cmd      *exec.Cmd
	group    bool   // Config.Group
	told     string // Config.URL
	ready    string // Config.Ready
	log      *Log
	logStart int // position of its first line
	started  time.Time
	done     chan struct{} // closed when it has ended and its output is read
	exit     Exit          // valid after done

	mu  sync.Mutex
	url string
}

// Start starts a process. The caller must Close it.
func Start(cfg Config) (*Process, error) {
	if cfg.Log == nil {
		return nil, errors.New("proc: start: no log")
	}
	w := &lineWriter{log: cfg.Log}
	p := &Process{group: cfg.Group, told: cfg.URL, ready: cfg.Ready, log: cfg.Log, logStart: cfg.Log.Len(), done: make(chan struct{})}
	p.cmd = exec.Command(cfg.Path, cfg.Args...)
	mark := markVar + "=" + rand.Text()
	p.cmd.Env = append(append(os.Environ(), cfg.Env...), mark)
	p.cmd.Dir = cfg.Dir
	p.cmd.Stdout, p.cmd.Stderr = w, w
	p.cmd.WaitDelay = outputDelay
	p.cmd.SysProcAttr = ownGroup()
	if cfg.Attr != nil {
		cfg.Attr(p.cmd.SysProcAttr)
	}
	p.started = time.Now()
	adoptOrphans()
	running.Add(1)
	if err := p.cmd.Start(); err != nil {
		running.Add(-1)
		return nil, fmt.Errorf("proc: start %s: %w", cfg.Path, err)
	}
	release := guard(p.PID(), mark)
	go func() {
		_ = p.cmd.Wait() // its news is in ProcessState
		ended := time.Now()
		endFamily(p.PID(), mark, running.Add(-1) == 0)
		release()
		w.flush()
		p.exit = Exit{Code: p.cmd.ProcessState.ExitCode(), At: ended}
		if st, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && st.Signaled() {
			p.exit.Signal = st.Signal()
		}
		close(p.done)
	}()
	return p, nil
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Started is the time of the start.
func (p *Process) Started() time.Time { return p.started }

// Done is closed when the process has ended and all its output is in the log.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exited returns how the process ended, and whether it has.
func (p *Process) Exited() (Exit, bool) {
	select {
	case <-p.done:
		return p.exit, true
	default:
		return Exit{}, false
	}
}

// Wait waits for the end.
func (p *Process) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-p.done:
		return p.exit, nil
	case <-ctx.Done():
		return Exit{}, fmt.Errorf("proc: wait for the end of process %d: %w", p.PID(), ctx.Err())
	}
}

// Signal sends a signal to the process. One that has ended is no error.
func (p *Process) Signal(sig syscall.Signal) error {
	if _, ended := p.Exited(); p.group && !ended {
		if err := syscall.Kill(-p.PID(), sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("proc: signal %s to group %d: %w", sig, p.PID(), err)
		}
		return nil
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("proc: signal %s to %d: %w", sig, p.PID(), err)
	}
	return nil
}

// Close kills the process's whole group and waits until it is gone. It may be
// called again, and after the end.
func (p *Process) Close() {
	if _, ended := p.Exited(); !ended {
		killGroup(p.PID())
	}
	<-p.done
}

var listening = regexp.MustCompile(`listening on (http://[^\s/]+:[0-9]+)`)

// URL is where the server listens, or "" while that is not known.
func (p *Process) URL() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.url
}

// where is the address that the server was given, or says.
func (p *Process) where(ctx context.Context) (string, error) {
	if p.told != "" {
		return p.told, nil
	}
	if url := p.URL(); url != "" {
		return url, nil // a log of hours has forgotten its beginning
	}
	line, err := p.log.Wait(ctx, p.logStart, listening)
	if err != nil {
		return "", err
	}
	return listening.FindStringSubmatch(line.Text)[1], nil
}

// WaitReady waits until it is known where the server listens, and it answers
// GET /v1/models there, or what Config.Ready names.
func (p *Process) WaitReady(ctx context.Context) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // an end of the process ends the waiting
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	url, err := p.where(ctx)
	if err != nil {
		return "", p.notReady(err)
	}
	question := p.ready
	if question == "" {
		question = url + "/v1/models"
	}
	for {
		if err = answers(ctx, question); err == nil {
			p.mu.Lock()
			p.url = url
			p.mu.Unlock()
			return url, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return "", p.notReady(err)
		}
	}
}

// notReady explains why a server did not become ready.
func (p *Process) notReady(err error) error {
	const lines = 5
	wrote := "it wrote nothing"
	if tail := p.log.Tail(lines); tail != "" {
		wrote = "it wrote:\n" + tail
	}
	if exit, ended := p.Exited(); ended {
		return fmt.Errorf("%w with %s before it was ready; %s", ErrExited, exit, wrote)
	}
	return fmt.Errorf("%w: %w; %s", ErrNotReady, err, wrote)
}

var readyClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func answers(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := readyClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}
