package fault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ds4/metal"
)

// toy is a driver with one kernel, "fill": it writes args[0] into the args[1]
// bytes of its first binding from its Offset on. It executes at Commit.
type toy struct {
	generation uint64
	scope      metal.Scope
	ran        []string // label:op of every executed dispatch
	failNext   *metal.CommandError
}

func (d *toy) Name() string           { return "toy" }
func (d *toy) Generation() uint64     { return d.generation }
func (d *toy) SetScope(s metal.Scope) { d.scope = s }
func (d *toy) Close() error           { return nil }
func (d *toy) Rebuild(metal.Level) error {
	d.generation++
	return nil
}

func (d *toy) Pipeline(kernel string) (metal.Pipeline, error) {
	if kernel != "fill" {
		return nil, metal.ErrUnknownKernel
	}
	return toyPipeline{}, nil
}

func (d *toy) NewBuffer(n uint64, label string) (metal.Buffer, error) {
	return &toyBuffer{make([]byte, n), label}, nil
}

func (d *toy) WrapBytes(mem []byte, label string) (metal.Buffer, error) {
	return &toyBuffer{mem, label}, nil
}

func (d *toy) NewCommandBuffer(label string) (metal.CommandBuffer, error) {
	return &toyCommands{dev: d, label: label, generation: d.generation}, nil
}

type toyPipeline struct{}

func (toyPipeline) Kernel() string { return "fill" }

type toyBuffer struct {
	data  []byte
	label string
}

func (b *toyBuffer) Bytes() []byte { return b.data }
func (b *toyBuffer) Len() uint64   { return uint64(len(b.data)) }
func (b *toyBuffer) Label() string { return b.label }
func (b *toyBuffer) Release()      {}

type toyCommands struct {
	dev        *toy
	label, op  string
	generation uint64
	work       []func()
	status     metal.Status
	err        error
	released   bool
}

func (c *toyCommands) Dispatch(_ metal.Pipeline, _ metal.Size, args []byte, bufs ...metal.Binding) {
	op, value, n := c.op, args[0], int(args[1])
	target := bufs[0].Buffer.(*toyBuffer) // anything else means that the wrapper passed its own
	off := bufs[0].Offset
	c.work = append(c.work, func() {
		c.dev.ran = append(c.dev.ran, c.label+":"+op)
		for i := range n {
			target.data[int(off)+i] = value
		}
	})
}

func (c *toyCommands) Marker(op string) { c.op = op }

func (c *toyCommands) Commit() error {
	if c.status != metal.StatusNotEnqueued {
		return errors.New("toy: committed twice")
	}
	if c.generation != c.dev.generation {
		return fmt.Errorf("toy: %w", metal.ErrStale)
	}
	for _, f := range c.work {
		f()
	}
	c.status = metal.StatusCompleted
	if c.dev.failNext != nil {
		c.err, c.dev.failNext, c.status = c.dev.failNext, nil, metal.StatusError
	}
	return nil
}

func (c *toyCommands) Wait(context.Context) error { return c.err }
func (c *toyCommands) Status() metal.Status       { return c.status }
func (c *toyCommands) GPUTime() time.Duration     { return time.Millisecond }
func (c *toyCommands) Release()                   { c.released = true }
