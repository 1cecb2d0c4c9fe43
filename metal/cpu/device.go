// Package cpu is the default driver of metal.Device: kernels are Go functions,
// run over a grid of threadgroups by a fixed set of worker goroutines.
//
// Promises. A threadgroup computes the same bits whichever worker runs it and
// whatever else is in the grid, so results do not depend on the number of
// threads. A kernel that panics, or touches memory that is gone (a mapped file
// cut short), fails its command buffer with a *metal.CommandError and poisons
// the device; the process lives on. Nothing is allocated per dispatch once
// buffers have grown to their working size.
package cpu

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"ds4/metal"
	"ds4/metal/cpu/kernels"
)

// ErrorDomain is the domain of the errors that this driver makes itself.
const ErrorDomain = "DS4CPUErrorDomain"

// Options configures the driver.
type Options struct {
	// Threads that run kernels, the device's own goroutine included; 0 means one
	// per CPU that Go may use.
	Threads int
}

// Device is the CPU driver.
type Device struct {
	pool  *pool
	set   *kernels.Set
	queue chan *commandBuffer
	idle  sync.WaitGroup // the queue goroutine
	gate  sync.RWMutex   // held by who sends to the queue, and to close it

	generation atomic.Uint64
	seq        atomic.Uint64

	mu     sync.Mutex
	poison error // first failure since the last Rebuild, already wrapped
	free   []*commandBuffer
	slab   *slab // that packed weights come from
	closed bool
}

var _ metal.Device = (*Device)(nil)

// maxQueued bounds the command buffers that are committed and not yet run.
const maxQueued = 64

// New starts a device. Close ends its goroutines.
func New(opt Options) (*Device, error) {
	n := opt.Threads
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	if n < 1 || n > maxThreads {
		return nil, fmt.Errorf("cpu: %d threads: want 1 to %d", n, maxThreads)
	}
	set, err := kernels.Select()
	if err != nil {
		return nil, fmt.Errorf("cpu: %w", err)
	}
	d := &Device{pool: newPool(n, set), set: set, queue: make(chan *commandBuffer, maxQueued)}
	d.generation.Store(1)
	d.idle.Go(d.run)
	return d, nil
}

// Name is "cpu".
func (d *Device) Name() string { return "cpu" }

// Kernels is the name of the kernel set in use.
func (d *Device) Kernels() string { return d.set.Name }

// Threads is the number of workers.
func (d *Device) Threads() int { return d.pool.size }

// Generation grows with every Rebuild.
func (d *Device) Generation() uint64 { return d.generation.Load() }

// Pipeline looks a kernel up by name.
func (d *Device) Pipeline(name string) (metal.Pipeline, error) {
	fn, ok := registry[name]
	if !ok {
		return nil, fmt.Errorf("cpu: kernel %q: %w", name, metal.ErrUnknownKernel)
	}
	return &pipeline{name: name, fn: fn, reader: readers[name], generation: d.Generation()}, nil
}

type pipeline struct {
	name       string
	fn         kernelFunc
	reader     reader
	generation uint64
}

func (p *pipeline) Kernel() string { return p.name }

// NewCommandBuffer starts recording.
func (d *Device) NewCommandBuffer(label string) (metal.CommandBuffer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, fmt.Errorf("cpu: command buffer %q: device is closed", label)
	}
	var c *commandBuffer
	if n := len(d.free); n > 0 {
		c = d.free[n-1]
		d.free = d.free[:n-1]
	} else {
		c = &commandBuffer{device: d, done: make(chan struct{}, 1)}
	}
	c.label, c.generation, c.status = label, d.Generation(), metal.StatusNotEnqueued
	return c, nil
}

// refuses returns the error that stops new work, or nil.
func (d *Device) refuses() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errors.New("cpu: the device is closed")
	}
	return d.poison
}

// fail poisons the device with err if it is the first failure of its generation.
func (d *Device) fail(err *metal.CommandError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.poison == nil && err.Generation == d.Generation() {
		d.poison = fmt.Errorf("%w: %w", metal.ErrPoisoned, err)
	}
}

// Rebuild clears the poison and starts a new generation. Buffers survive.
func (d *Device) Rebuild(level metal.Level) error {
	if level != metal.RebuildQueue && level != metal.RebuildDevice {
		return fmt.Errorf("cpu: unknown rebuild level %d", level)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fmt.Errorf("cpu: rebuild: device is closed")
	}
	d.poison = nil
	d.generation.Add(1)
	return nil
}

// Close ends the device's goroutines after the work already committed.
func (d *Device) Close() error {
	d.mu.Lock()
	closed := d.closed
	d.closed = true
	d.mu.Unlock()
	if closed {
		return nil
	}
	d.gate.Lock()
	close(d.queue)
	d.gate.Unlock()
	d.idle.Wait()
	d.pool.close()
	return nil
}

// run executes command buffers in the order of their Commit.
func (d *Device) run() {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for c := range d.queue {
		d.pool.execute(c)
		if c.err != nil {
			d.fail(c.err)
		}
		c.done <- struct{}{}
	}
}
