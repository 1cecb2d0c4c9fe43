package cpu

import (
	"unsafe"
)

// kernelFunc computes one threadgroup of a grid.
type kernelFunc func(g *Group)

// Group is what a kernel sees: its place in the grid, its arguments, the bound
// buffers, and scratch memory of the worker that runs it.
type Group struct {
	X, Y, Z int

	args   unsafe.Pointer
	binds  []binding
	worker *worker
}

func (g *Group) bind(c *commandBuffer, d *dispatch) {
	g.args = nil
	if d.argsAt < len(c.args) {
		g.args = unsafe.Pointer(&c.args[d.argsAt])
	}
	g.binds = c.binds[d.bindsAt:d.bindsEnd]
}

// argsOf views the argument struct.
func argsOf[T any](g *Group) *T { return (*T)(g.args) }

// view is binding i as a slice of a fixed-width type, to the end of its buffer.
func view[T float32 | float64 | int32 | uint16](g *Group, i int) []T {
	b := g.binds[i].data
	if len(b) == 0 {
		return nil
	}
	var zero T
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), len(b)/int(unsafe.Sizeof(zero)))
}

func (g *Group) bytes(i int) []byte  { return g.binds[i].data }
func (g *Group) f32(i int) []float32 { return view[float32](g, i) }
func (g *Group) i32(i int) []int32   { return view[int32](g, i) }

// row is values [r*n, (r+1)*n).
func row[T any](s []T, r, n int) []T { return s[r*n : r*n+n : r*n+n] }

// scratch lends n float32 of the worker's own memory, with arbitrary contents,
// until the group ends. A kernel asks once.
func (g *Group) scratch(n int) []float32 {
	w := g.worker
	if cap(w.scratch) < n {
		w.scratch = make([]float32, n+n/4)
	}
	return w.scratch[:n]
}

// panel lends n bytes in the same way, besides scratch. They are aligned for float32.
func (g *Group) panel(n int) []byte {
	w := g.worker
	if cap(w.panel) < n {
		w.panel = make([]byte, n+n/4)
	}
	return w.panel[:n]
}

// pointers lends a list of n pointers in the same way.
func (g *Group) pointers(n int) []unsafe.Pointer {
	w := g.worker
	if cap(w.list) < n {
		w.list = make([]unsafe.Pointer, n+n/4)
	}
	w.listed = max(w.listed, n)
	return w.list[:n]
}
