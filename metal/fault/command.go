package fault

import (
	"context"
	"fmt"
	"time"

	"ds4/metal"
)

// commandBuffer records what its user encodes and hands it to the driver's
// command buffer at Commit, when it is known how much of it shall run.
type commandBuffer struct {
	device     *device
	inner      metal.CommandBuffer
	label      string
	generation uint64
	scope      metal.Scope

	work    []dispatch
	markers []marker

	committed bool
	running   bool                // the driver has the work
	failure   *metal.CommandError // to be reported, nil while nothing was forced
	fired     *fired              // the rule behind failure, or one that only delays Wait
	before    []snapshot          // EffectScramble: what the buffers held
	reported  bool
}

type dispatch struct {
	pipeline metal.Pipeline
	groups   metal.Size
	args     []byte
	bindings []metal.Binding // of the driver's buffers
	buffers  []*buffer       // those of them that kernels may write
}

// Dispatch records one kernel.
func (c *commandBuffer) Dispatch(p metal.Pipeline, groups metal.Size, args []byte, bufs ...metal.Binding) {
	d := dispatch{pipeline: p, groups: groups, args: append([]byte(nil), args...), bindings: make([]metal.Binding, len(bufs))}
	for i, b := range bufs {
		if own, ok := b.Buffer.(*buffer); ok {
			if b.Buffer = own.Buffer; own.writable {
				d.buffers = append(d.buffers, own)
			}
		}
		d.bindings[i] = b
	}
	c.work = append(c.work, d)
}

// Marker names the operation that follows.
func (c *commandBuffer) Marker(op string) {
	c.markers = append(c.markers, marker{op: op, at: len(c.work)})
}

// Commit asks the rules and gives the driver the work, or the part of it that
// the rule lets run.
func (c *commandBuffer) Commit() error {
	if c.committed {
		return fmt.Errorf("fault: command buffer %q was committed before", c.label)
	}
	if c.generation != c.device.Generation() {
		return fmt.Errorf("fault: command buffer %q: %w", c.label, metal.ErrStale)
	}
	seq, stuck, err := c.device.begin()
	if err != nil {
		return err
	}
	c.committed = true
	if stuck != nil {
		return c.refuse(stuck, seq)
	}
	f := c.device.plan.ask(event{at: []At{AtCommit, AtWait}, label: c.label, markers: c.markers, scope: c.scope})
	if f == nil {
		return c.run(len(c.work))
	}
	if f.rule.At == AtWait {
		return c.commitForWait(f, seq)
	}
	if err := c.device.plan.act(context.Background(), f.rule); err != nil {
		return err
	}
	if f.rule.Pass {
		return c.run(len(c.work))
	}
	if err := c.execute(f); err != nil {
		return err
	}
	if c.running {
		if err := c.inner.Wait(context.Background()); err != nil {
			return err
		}
	}
	c.setFailure(f, seq)
	return c.report()
}

// refuse fails a command buffer because of a condition that holds.
func (c *commandBuffer) refuse(f *fired, seq uint64) error {
	c.device.plan.holds(f, c.label)
	c.setFailure(f, seq)
	if f.rule.At != AtWait {
		return c.report()
	}
	return nil // Wait reports it
}

// commitForWait does a rule's effect now and leaves its report to Wait.
func (c *commandBuffer) commitForWait(f *fired, seq uint64) error {
	c.fired = f
	if f.rule.Pass {
		return c.run(len(c.work))
	}
	if err := c.execute(f); err != nil {
		return err
	}
	c.setFailure(f, seq)
	return nil
}

// setFailure makes the error to report.
func (c *commandBuffer) setFailure(f *fired, seq uint64) {
	e := f.commandError(c.label)
	e.Seq, e.Generation = seq, c.generation
	if n := len(c.markers); n > 0 {
		e.LastOp = c.markers[n-1].op
	}
	if f.op != "" && f.opAt >= 0 {
		e.LastOp = f.op
	}
	c.fired, c.failure = f, e
}

// execute runs as much of the work as the rule's effect says.
func (c *commandBuffer) execute(f *fired) error {
	switch f.rule.Effect {
	case EffectAll:
		return c.run(len(c.work))
	case EffectPartial:
		n := len(c.work) / 2
		if f.opAt >= 0 {
			n = f.opAt
		}
		if f.rule.First > 0 {
			n = f.rule.First
		}
		return c.run(min(n, len(c.work)))
	case EffectScramble:
		c.before = takeSnapshots(c.work)
		return c.run(len(c.work))
	}
	return nil
}

// run gives the driver the first n dispatches with their markers.
func (c *commandBuffer) run(n int) error {
	next := 0
	for i, d := range c.work[:n] {
		for ; next < len(c.markers) && c.markers[next].at <= i; next++ {
			c.inner.Marker(c.markers[next].op)
		}
		c.inner.Dispatch(d.pipeline, d.groups, d.args, d.bindings...)
	}
	if err := c.inner.Commit(); err != nil {
		return err
	}
	c.running = true
	return nil
}

// Wait blocks until the work has ended and reports the forced failure, if any. A
// failure of the driver itself takes precedence.
func (c *commandBuffer) Wait(ctx context.Context) error {
	switch {
	case !c.committed:
		return fmt.Errorf("fault: command buffer %q was not committed", c.label)
	case c.reported:
		return c.failure
	}
	// A queue that was rebuilt has let go of its work: nothing holds it up any more.
	if c.fired != nil && c.fired.rule.At == AtWait && c.generation == c.device.Generation() {
		if err := c.device.plan.act(ctx, c.fired.rule); err != nil {
			if c.fired.rule.Hang {
				c.device.stick(c.fired, c.generation)
			}
			return fmt.Errorf("fault: command buffer %q is still running: %w", c.label, err)
		}
	}
	if c.running {
		if err := c.inner.Wait(ctx); err != nil {
			return err
		}
	}
	if c.failure == nil {
		return nil
	}
	return c.report()
}

// report ends the execution's effect, poisons the device and returns the error.
func (c *commandBuffer) report() error {
	c.reported = true
	scramble(c.before, uint64(c.failure.Seq))
	c.before = nil
	c.device.fail(c.failure, c.fired)
	return c.failure
}

// Status is StatusError once a forced failure was reported.
func (c *commandBuffer) Status() metal.Status {
	switch {
	case c.reported:
		return metal.StatusError
	case c.failure != nil:
		return metal.StatusCommitted
	}
	return c.inner.Status()
}

// GPUTime is how long the driver executed; 0 if nothing was.
func (c *commandBuffer) GPUTime() time.Duration {
	if !c.running {
		return 0
	}
	return c.inner.GPUTime()
}

// Release hands the driver's object back.
func (c *commandBuffer) Release() { c.inner.Release() }
