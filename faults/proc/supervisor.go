package proc

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"
)

// restartDelay keeps a supervisor from spinning on a process that dies at once.
const restartDelay = 100 * time.Millisecond

// Supervisor keeps a server running: a death that nobody commanded is followed
// by a new start, at most so often.
type Supervisor struct {
	cfg Config
	max int

	mu        sync.Mutex
	cur       *Process
	deaths    []Exit // not commanded
	commanded bool   // the next end is wanted
	ended     chan struct{}
	changed   chan struct{} // closed and replaced when cur or deaths change
}

// Supervise starts a process and watches it. maxRestarts may be 0. The caller
// must Close.
func Supervise(cfg Config, maxRestarts int) (*Supervisor, error) {
	p, err := Start(cfg)
	if err != nil {
		return nil, err
	}
	s := &Supervisor{cfg: cfg, max: maxRestarts, cur: p, ended: make(chan struct{}), changed: make(chan struct{})}
	go s.watch(p)
	return s, nil
}

func (s *Supervisor) watch(p *Process) {
	defer close(s.ended)
	for {
		<-p.Done()
		s.mu.Lock()
		if s.commanded {
			s.mu.Unlock()
			return
		}
		exit, _ := p.Exited()
		s.deaths = append(s.deaths, exit)
		again := len(s.deaths) <= s.max
		s.tell()
		s.mu.Unlock()
		if !again {
			return
		}
		time.Sleep(restartDelay)
		s.mu.Lock()
		if s.commanded {
			s.mu.Unlock()
			return
		}
		next, err := Start(s.cfg)
		if err != nil {
			s.mu.Unlock()
			s.cfg.Log.add(err.Error())
			return
		}
		s.cur, p = next, next
		s.tell()
		s.mu.Unlock()
	}
}

// tell wakes those who wait for a change; mu is held.
func (s *Supervisor) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Current is the latest process; it may have ended.
func (s *Supervisor) Current() *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cur
}

// Deaths lists the ends that nobody commanded.
func (s *Supervisor) Deaths() []Exit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.deaths)
}

// Signal sends a signal that may end the process; its end is then no death.
func (s *Supervisor) Signal(sig syscall.Signal) error {
	s.mu.Lock()
	s.commanded = true
	p := s.cur
	s.mu.Unlock()
	return p.Signal(sig)
}

// Alive says whether a process runs, or will be started again.
func (s *Supervisor) Alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ended := s.cur.Exited(); !ended {
		return true
	}
	return !s.commanded && len(s.deaths) <= s.max
}

// WaitReady waits until the current process, or one that follows it, answers.
func (s *Supervisor) WaitReady(ctx context.Context) (string, error) {
	for {
		s.mu.Lock()
		p, changed := s.cur, s.changed
		s.mu.Unlock()
		url, err := p.WaitReady(ctx)
		if err == nil {
			return url, nil
		}
		if ctx.Err() != nil {
			return "", err
		}
		select {
		case <-changed:
		case <-s.ended:
			return "", err
		case <-ctx.Done():
			return "", fmt.Errorf("%w: %w", ErrNotReady, err)
		}
	}
}

// Close kills what runs and waits until it is gone.
func (s *Supervisor) Close() {
	s.mu.Lock()
	s.commanded = true
	p := s.cur
	s.mu.Unlock()
	p.Close()
	<-s.ended
}
