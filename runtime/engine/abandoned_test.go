package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"ds4/metal"
	"ds4/metal/cpu"
	"ds4/runtime/model"
	"ds4/runtime/model/synth"
)

// lateDevice has one command buffer that runs when it is told to. Who waits for it
// before gives up.
type lateDevice struct {
	metal.Device
	label  string // "" for none
	giveUp context.CancelFunc
	start  chan struct{}
}

func (d *lateDevice) NewCommandBuffer(label string) (metal.CommandBuffer, error) {
	c, err := d.Device.NewCommandBuffer(label)
	if err != nil || label != d.label {
		return c, err
	}
	return &lateBuffer{CommandBuffer: c, device: d}, nil
}

type lateBuffer struct {
	metal.CommandBuffer
	device *lateDevice
}

func (c *lateBuffer) Commit() error { return nil }

func (c *lateBuffer) Wait(ctx context.Context) error {
	c.device.giveUp()
	select {
	case <-c.device.start:
		if c.Status() == metal.StatusNotEnqueued {
			if err := c.CommandBuffer.Commit(); err != nil {
				return err
			}
		}
		return c.CommandBuffer.Wait(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// abandon leaves a step behind that appends tokens to s, at its second layer.
func (d *lateDevice) abandon(t *testing.T, s *Session, tokens []int32) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d.label, d.giveUp, d.start = "graph layer 1", cancel, make(chan struct{})
	err := s.engine.Forward(ctx, []Sequence{{Session: s, Tokens: tokens}})
	if d.label = ""; !errors.Is(err, context.Canceled) || s.engine.stuck == nil {
		t.Fatalf("error %v, want that of the context", err)
	}
}

func lateEngine(t *testing.T, m *model.Model) (*Engine, *lateDevice) {
	t.Helper()
	dev, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	late := &lateDevice{Device: dev}
	e, err := New(m, late, Options{ContextTokens: 512, ChunkTokens: 160, Numerics: model.Production})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(e.Close(), dev.Close()); err != nil {
			t.Error(err)
		}
	})
	return e, late
}

// TestAbandonedStep: a step that runs after its waiter has gone harms nobody who got
// its session or its memory meanwhile.
func TestAbandonedStep(t *testing.T) {
	m := smallModel(t, synth.Small(12))
	tokens, other := randomTokens(13, 300, m.Vocab), randomTokens(14, 150, m.Vocab)
	e, late := lateEngine(t, m)
	source, s, gone := newSession(t, e), newSession(t, e), newSession(t, e)
	prefill(t, source, tokens[:140], 160)
	x, err := source.Export(0)
	if err != nil {
		t.Fatal(err)
	}
	prefill(t, source, tokens[140:], 160)
	prefill(t, s, other[:20], 160)
	point := s.Keep()
	prefill(t, s, other[20:40], 160)

	late.abandon(t, s, other[40:130])
	if err := s.Rewind(point); !errors.Is(err, ErrBusy) || s.Len() != 40 {
		t.Errorf("rewind to %d: %v, want ErrBusy", s.Len(), err)
	}
	if _, err := s.BeginRestore(40, 60); !errors.Is(err, ErrBusy) {
		t.Errorf("restore behind what the session has: %v, want ErrBusy", err)
	}
	restoreFrom(t, s, []*Snapshot{x})
	close(late.start)
	prefill(t, s, tokens[140:], 160) // waits for the step
	if !sameBits(s.Logits(), source.Logits()) {
		t.Errorf("the step wrote to a restored session: logits have a relative rms of %.3g", relativeRMS(s.Logits(), source.Logits()))
	}

	late.abandon(t, gone, other[:130])
	gone.Release()
	if gone.state.Bytes() == nil {
		t.Error("memory was released that the step writes to")
	}
	close(late.start)
	prefill(t, s, tokens[:1], 1)
	if gone.state.Bytes() != nil {
		t.Error("memory is kept although the step has ended")
	}
}

// TestAbandonedStepAtTheEnd: an engine that ends before a step does leaves it the
// memory; a rewind that finds the step at its end works.
func TestAbandonedStepAtTheEnd(t *testing.T) {
	m := smallModel(t, synth.Small(12))
	e, late := lateEngine(t, m)
	s := newSession(t, e)
	tokens := randomTokens(15, 60, m.Vocab)
	prefill(t, s, tokens[:20], 20)
	point := s.Keep()
	late.abandon(t, s, tokens[20:])
	close(late.start)
	err := s.Rewind(point)
	for end := time.Now().Add(30 * time.Second); errors.Is(err, ErrBusy) && time.Now().Before(end); {
		err = s.Rewind(point)
	}
	if err != nil {
		t.Errorf("rewind after the step: %v", err)
	}
	late.abandon(t, s, tokens[20:])
	scratch := e.scratch.logits.Buffer
	if err := e.Close(); err != nil || scratch.Bytes() == nil {
		t.Errorf("close: %v, memory released: %v", err, scratch.Bytes() == nil)
	}
	close(late.start)
	if err := e.settle(t.Context()); err != nil {
		t.Error(err)
	}
}
