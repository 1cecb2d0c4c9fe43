package cpu

import (
	"fmt"

	"golang.org/x/sys/unix"

	"ds4/metal"
)

// slabBytes is how much packed weights are allocated together: on pages of 4 KiB
// a pass over many small matrices spends its time on page tables.
const slabBytes = 64 << 20

// slabAlign keeps vectors within cache lines.
const slabAlign = 64

// slab is memory that several buffers share. The device's mutex guards it.
type slab struct {
	data []byte
	used int
	refs int
}

// take lends n bytes of a slab, which the buffer gives back when it is released.
func (d *Device) take(n uint64, label string) (*buffer, error) {
	if n > maxBuffer {
		return nil, fmt.Errorf("cpu: buffer %s of %d bytes (limit %d): %w", label, n, uint64(maxBuffer), metal.ErrOutOfMemory)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.slab
	if s == nil || len(s.data)-s.used < int(n) {
		data, err := unix.Mmap(-1, 0, max(int(n), slabBytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return nil, fmt.Errorf("cpu: buffer %s of %d bytes: %v: %w", label, n, err, metal.ErrOutOfMemory)
		}
		adviseHuge(data)
		s = &slab{data: data}
		d.slab = s
	}
	b := &buffer{data: s.data[s.used : s.used+int(n) : s.used+int(n)], label: label}
	s.used = min((s.used+int(n)+slabAlign-1)&^(slabAlign-1), len(s.data))
	s.refs++
	b.giveBack = func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if s.refs--; s.refs > 0 {
			return
		}
		if d.slab == s {
			d.slab = nil
		}
		_ = unix.Munmap(s.data) // a mapping of ours cannot fail to go
	}
	return b, nil
}
