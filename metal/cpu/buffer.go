package cpu

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"ds4/metal"
)

// maxBuffer is the largest single allocation that is tried.
const maxBuffer = 1 << 44

// buffer is a range of memory outside the Go heap, or a wrapped one.
type buffer struct {
	data     []byte
	label    string
	mapped   bool
	giveBack func() // of a part of a slab
	packed   bool   // panels as kernels.Pack makes them
	released atomic.Bool
}

func (b *buffer) Bytes() []byte { return b.data }
func (b *buffer) Len() uint64   { return uint64(len(b.data)) }
func (b *buffer) Label() string { return b.label }

// Release returns the memory. Later calls do nothing.
func (b *buffer) Release() {
	if b.released.Swap(true) {
		return
	}
	if b.giveBack != nil {
		b.data = nil
		b.giveBack()
	}
	if !b.mapped {
		return
	}
	data := b.data
	b.data = nil
	_ = unix.Munmap(data) // a mapping of ours cannot fail to go
}

// NewBuffer maps n zeroed bytes. Pages take memory when they are first touched.
func (d *Device) NewBuffer(n uint64, label string) (metal.Buffer, error) {
	if n == 0 {
		return &buffer{label: label}, nil
	}
	if n > maxBuffer {
		return nil, fmt.Errorf("cpu: buffer %s of %d bytes (limit %d): %w", label, n, uint64(maxBuffer), metal.ErrOutOfMemory)
	}
	data, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("cpu: buffer %s of %d bytes: %v: %w", label, n, err, metal.ErrOutOfMemory)
	}
	return &buffer{data: data, label: label, mapped: true}, nil
}

// WrapBytes makes a buffer of mem without copying. Any alignment will do.
func (d *Device) WrapBytes(mem []byte, label string) (metal.Buffer, error) {
	return &buffer{data: mem, label: label}, nil
}
