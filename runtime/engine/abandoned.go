package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"ds4/metal"
)

// abandoned is a command buffer whose waiter gave up. It may still run, and write
// to its sessions behind what they have committed, so until it has ended that is
// not theirs: a restore gets other memory, and what a session releases is kept.
type abandoned struct {
	work metal.CommandBuffer

	mu     sync.Mutex // restores are not the engine's goroutine
	ended  bool
	memory []metal.Buffer
}

// settleMoment is how long a rewind waits for abandoned work.
const settleMoment = 10 * time.Millisecond

// keep takes over memory that the work may write to. It reports false if there is
// no such work.
func (a *abandoned) keep(b metal.Buffer) bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ended {
		a.memory = append(a.memory, b)
	}
	return !a.ended
}

func (a *abandoned) running() bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.ended
}

// end releases what was kept.
func (a *abandoned) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	a.work.Release()
	for _, b := range a.memory {
		b.Release()
	}
	a.memory = nil
}

// settle waits for work that an earlier call abandoned.
func (e *Engine) settle(ctx context.Context) error {
	if e.stuck == nil {
		return ctx.Err()
	}
	err := e.stuck.work.Wait(ctx)
	if err != nil && ctx.Err() != nil && e.stuck.work.Status() < metal.StatusCompleted {
		return fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
	e.stuck.end()
	e.stuck = nil
	return nil
}

// settleSoon is settle with little patience.
func (e *Engine) settleSoon() error {
	ctx, cancel := context.WithTimeout(context.Background(), settleMoment)
	defer cancel()
	return e.settle(ctx)
}

// moveEmpty gives an empty session memory of its own if abandoned work may write to
// what it has.
func (s *Session) moveEmpty() error {
	if !s.pending.running() {
		return nil
	}
	b, err := s.engine.newState()
	if err != nil {
		return err
	}
	if s.pending.keep(s.state) {
		s.state = b
	} else {
		b.Release() // it has just ended
	}
	return nil
}
