package cpu

import (
	"context"
	"fmt"
	"time"
	"unsafe"

	"ds4/metal"
)

// commandBuffer records dispatches in reusable arenas.
type commandBuffer struct {
	device     *Device
	label      string
	generation uint64
	seq        uint64
	op         string // last Marker

	work  []dispatch
	binds []binding
	args  []uint64 // argument structs, 8-byte aligned
	err   *metal.CommandError
	stale error // a dispatch of an older generation, or of a foreign object

	status metal.Status
	time   time.Duration
	done   chan struct{}
}

type dispatch struct {
	fn       kernelFunc
	reader   reader
	groups   metal.Size
	argsAt   int // index into args
	bindsAt  int // index into binds
	bindsEnd int
	op       string
	sorts    bool // it says which experts have work
}

type binding struct {
	data   []byte
	packed bool
}

// Dispatch records one kernel.
func (c *commandBuffer) Dispatch(p metal.Pipeline, groups metal.Size, args []byte, bufs ...metal.Binding) {
	cp, ok := p.(*pipeline)
	switch {
	case c.stale != nil:
		return
	case !ok:
		c.stale = fmt.Errorf("cpu: %s: pipeline is of another driver", c.label)
		return
	case cp.generation != c.generation:
		c.stale = fmt.Errorf("cpu: %s: pipeline %s: %w", c.label, cp.name, metal.ErrStale)
		return
	}
	d := dispatch{fn: cp.fn, reader: cp.reader, sorts: cp.name == metal.KernelGroup, groups: groups, argsAt: len(c.args), bindsAt: len(c.binds), op: c.op}
	words := (len(args) + 7) / 8
	for range words {
		c.args = append(c.args, 0)
	}
	if words > 0 {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&c.args[d.argsAt])), 8*words), args)
	}
	for _, b := range bufs {
		buf, ok := b.Buffer.(*buffer)
		if !ok || b.Offset > buf.Len() {
			c.stale = fmt.Errorf("cpu: %s: binding %d of %s is foreign or starts past its end", c.label, len(c.binds)-d.bindsAt, cp.name)
			return
		}
		c.binds = append(c.binds, binding{data: buf.data[b.Offset:], packed: buf.packed})
	}
	d.bindsEnd = len(c.binds)
	c.work = append(c.work, d)
}

// Marker names the operation that follows.
func (c *commandBuffer) Marker(op string) { c.op = op }

// Commit queues the work.
func (c *commandBuffer) Commit() error {
	if c.status != metal.StatusNotEnqueued {
		return fmt.Errorf("cpu: command buffer %q was committed before", c.label)
	}
	if c.stale != nil {
		return c.stale
	}
	c.device.gate.RLock()
	defer c.device.gate.RUnlock()
	if err := c.device.refuses(); err != nil {
		return err
	}
	if c.generation != c.device.Generation() {
		return fmt.Errorf("cpu: command buffer %q: %w", c.label, metal.ErrStale)
	}
	c.seq = c.device.seq.Add(1)
	c.status = metal.StatusCommitted
	c.device.queue <- c
	return nil
}

// Wait blocks until the work has run.
func (c *commandBuffer) Wait(ctx context.Context) error {
	switch c.status {
	case metal.StatusNotEnqueued:
		return fmt.Errorf("cpu: command buffer %q was not committed", c.label)
	case metal.StatusCommitted:
		if ctx.Done() == nil {
			<-c.done
		} else {
			select {
			case <-c.done:
			case <-ctx.Done():
				return fmt.Errorf("cpu: command buffer %q is still running: %w", c.label, ctx.Err())
			}
		}
		c.status = metal.StatusCompleted
		if c.err != nil {
			c.status = metal.StatusError
		}
	}
	if c.err != nil {
		return c.err
	}
	return nil
}

// Status is the state as of the last Commit or Wait.
func (c *commandBuffer) Status() metal.Status { return c.status }

// GPUTime is how long the kernels ran.
func (c *commandBuffer) GPUTime() time.Duration { return c.time }

// Release hands the object back to the device. One that may still be running is
// left to the garbage collector.
func (c *commandBuffer) Release() {
	if c.status == metal.StatusCommitted {
		return
	}
	clear(c.binds) // let go of the buffers' memory
	c.work, c.binds, c.args = c.work[:0], c.binds[:0], c.args[:0]
	c.err, c.stale, c.op, c.time = nil, nil, "", 0
	d := c.device
	d.mu.Lock()
	d.free = append(d.free, c)
	d.mu.Unlock()
}
