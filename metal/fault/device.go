package fault

import (
	"context"
	"fmt"
	"sync"

	"ds4/metal"
)

// device wraps a driver.
type device struct {
	metal.Device // the driver inside
	plan         *Plan

	mu     sync.Mutex
	scope  metal.Scope
	seq    uint64
	poison error  // first injected failure since the last Rebuild, already wrapped
	sticky *fired // StickyQueue or StickyDevice condition that holds
}

// Wrap returns a device that fails as plan says and otherwise is dev. Closing it
// closes dev. Buffers, pipelines and command buffers of one must not be used
// with the other.
func Wrap(dev metal.Device, plan *Plan) metal.Device {
	return &device{Device: dev, plan: plan}
}

// SetScope remembers on whose behalf command buffers are made from now on.
func (d *device) SetScope(s metal.Scope) {
	d.mu.Lock()
	d.scope = s
	d.mu.Unlock()
	metal.SetScope(d.Device, s)
}

func (d *device) currentScope() metal.Scope {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.scope
}

// resource asks the rules about an allocation, a mapping or a pipeline.
func (d *device) resource(at At, what, label string) error {
	f := d.plan.ask(event{at: []At{at}, label: label, scope: d.currentScope()})
	if f == nil {
		return nil
	}
	if err := d.plan.act(context.Background(), f.rule); err != nil || f.rule.Pass {
		return err
	}
	return fmt.Errorf("%s: %w", d.Name(), f.resourceError(what, label))
}

// Pipeline looks a kernel up, unless a rule fails it.
func (d *device) Pipeline(kernel string) (metal.Pipeline, error) {
	if err := d.resource(AtPipeline, "pipeline", kernel); err != nil {
		return nil, err
	}
	return d.Device.Pipeline(kernel)
}

// NewBuffer allocates, unless a rule fails it.
func (d *device) NewBuffer(n uint64, label string) (metal.Buffer, error) {
	if err := d.resource(AtAlloc, "allocate", label); err != nil {
		return nil, err
	}
	b, err := d.Device.NewBuffer(n, label)
	if err != nil {
		return nil, err
	}
	return &buffer{Buffer: b, writable: true}, nil
}

// WrapBytes makes a buffer of mem, unless a rule fails it.
func (d *device) WrapBytes(mem []byte, label string) (metal.Buffer, error) {
	if err := d.resource(AtWrap, "wrap", label); err != nil {
		return nil, err
	}
	b, err := d.Device.WrapBytes(mem, label)
	if err != nil {
		return nil, err
	}
	return &buffer{Buffer: b}, nil
}

// PackWeights packs where the driver can, unless a rule for wrapping fails it.
func (d *device) PackWeights(w metal.Weights, label string) (metal.Buffer, error) {
	p, ok := d.Device.(metal.Packer)
	if !ok {
		return nil, nil
	}
	if err := d.resource(AtWrap, "wrap", label); err != nil {
		return nil, err
	}
	b, err := p.PackWeights(w, label)
	if err != nil || b == nil {
		return nil, err
	}
	return &buffer{Buffer: b}, nil
}

// NewCommandBuffer starts recording, in the scope of this moment.
func (d *device) NewCommandBuffer(label string) (metal.CommandBuffer, error) {
	inner, err := d.Device.NewCommandBuffer(label)
	if err != nil {
		return nil, err
	}
	return &commandBuffer{device: d, inner: inner, label: label, generation: d.Generation(), scope: d.currentScope()}, nil
}

// Rebuild clears the poison and the conditions that this level cures.
func (d *device) Rebuild(level metal.Level) error {
	if err := d.Device.Rebuild(level); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.poison = nil
	if d.sticky != nil && (level == metal.RebuildDevice || d.sticky.rule.Sticky == StickyQueue) {
		d.sticky = nil
	}
	return nil
}

// begin numbers a command buffer that is committed. It returns the error of a
// poisoned device, or the sticky condition that holds.
func (d *device) begin() (seq uint64, stuck *fired, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.poison != nil {
		return 0, nil, d.poison
	}
	d.seq++
	if d.sticky != nil {
		return d.seq, d.sticky, nil
	}
	return d.seq, d.plan.stuck(), nil
}

// fail poisons the device with the failure that is being reported, unless the
// device was rebuilt since or is poisoned already, and remembers what stays broken.
func (d *device) fail(err *metal.CommandError, f *fired) {
	d.mu.Lock()
	if d.poison == nil && err.Generation == d.Generation() {
		d.poison = fmt.Errorf("%w: %w", metal.ErrPoisoned, err)
	}
	d.mu.Unlock()
	d.stick(f, err.Generation)
}

// stick makes the rule's condition hold, if it has one. A queue or device that
// was rebuilt since the given generation is a new one and stays whole.
func (d *device) stick(f *fired, generation uint64) {
	switch f.rule.Sticky {
	case StickyQueue, StickyDevice:
		d.mu.Lock()
		if d.sticky == nil && generation == d.Generation() {
			d.sticky = f
		}
		d.mu.Unlock()
	case StickyProcess:
		d.plan.stick(f)
	}
}

// buffer is a buffer of the driver. Kernels may write to it only if it came from
// NewBuffer: mapped memory holds weights and is read-only.
type buffer struct {
	metal.Buffer
	writable bool
}
