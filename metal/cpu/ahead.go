package cpu

import (
	"unsafe"

	"ds4/metal"
	"ds4/metal/cpu/kernels"
	"ds4/metal/quant"
)

// A core reads memory at its own limit, which another core that waits does not lift.
// So a worker that has nothing to do in a dispatch, because that has one group or
// because its last groups are others', asks for what it will read in the next large
// product, and finds it in its cache.

const (
	// aheadMost is how much of a product one worker asks for, a part of its
	// second-level cache.
	aheadMost = 768 << 10
	// aheadStep is how much it asks for before it looks whether the dispatch is done.
	aheadStep = 1 << 10
	// aheadLeast is how large the weights must be: of small ones, most are in a cache.
	aheadLeast = 1 << 20
	// aheadDispatches is how far the next large product may be.
	aheadDispatches = 8
	// aheadKeyShift leaves room for the dispatches of a command buffer.
	aheadKeyShift = 24
)

const none = -1

// reader says what a kernel reads.
type reader struct {
	// weights are the packed weights of g and the groups after it, n at most, as far as
	// they lie together: of one matrix or of two that are read in turn.
	weights func(g *Group, n int) [2][]byte
	// offsets is the binding that says which experts have work, or none.
	offsets int
}

// aim sets what is read ahead during dispatch i of c.
func (p *pool) aim(c *commandBuffer, i int) {
	j := c.ahead(i)
	if j == none {
		p.ahead = nil
		return
	}
	p.ahead, p.aheadKey = &c.work[j], c.seq<<aheadKeyShift|uint64(j)
}

// ahead is the next dispatch after i whose weights can be read ahead, or none.
func (c *commandBuffer) ahead(i int) int {
	var sorted *byte
	for j := i; j < len(c.work) && j <= i+aheadDispatches; j++ {
		d := &c.work[j]
		if j > i && d.reader.weights != nil && d.groups.Count() > 1 && len(c.bound(d, 0)) >= aheadLeast {
			if o := d.reader.offsets; o != none && sorted != nil && sorted == unsafe.SliceData(c.bound(d, o)) {
				return none // not known yet
			}
			return j
		}
		if d.sorts {
			sorted = unsafe.SliceData(c.bound(d, groupOffsets))
		}
	}
	return none
}

// bound is the memory of a binding, nil if it is missing: here no kernel fails for it.
func (c *commandBuffer) bound(d *dispatch, i int) []byte {
	if b := c.binds[d.bindsAt:d.bindsEnd]; i < len(b) {
		return b[i].data
	}
	return nil
}

// reading is what a worker has yet to read ahead. It holds addresses, as the worker
// may be outside of the dispatch, which then does not wait for it, and the buffers gone.
type reading struct {
	of    uint64 // p.aheadKey
	parts [2]struct {
		at uintptr
		n  int
	}
}

// aim sets what w reads ahead: its share of p.ahead, unless that is what it has
// begun before.
func (r *reading) aim(p *pool, w *worker) {
	d := p.ahead
	if d == nil || p.aheadKey == r.of {
		return
	}
	*r = reading{of: p.aheadKey}
	total := int64(d.groups.Count())
	cut := min(int64(p.size), total)
	if int64(w.index) >= cut {
		return
	}
	g := &w.group
	g.bind(p.buffer, d)
	i, end := int(total*int64(w.index)/cut), int(total*int64(w.index+1)/cut)
	nx := int(max(d.groups.X, 1))
	g.X, g.Y, g.Z = i%nx, i/nx, 0
	parts, most := d.reader.weights(g, end-i), aheadMost
	if parts[1] != nil {
		most /= len(parts)
	}
	for k, part := range parts {
		r.parts[k].at = uintptr(unsafe.Pointer(unsafe.SliceData(part)))
		r.parts[k].n = min(len(part), most)
	}
}

// step reads the next of it, and reports whether there was any.
func (r *reading) step(set *kernels.Set) bool {
	part := r.parts[0]
	n := min(part.n, aheadStep)
	if n == 0 || !set.Prefetch(part.at, n) {
		return false
	}
	part.at += uintptr(n)
	part.n -= n
	r.parts[0] = part
	if r.parts[1].n > 0 {
		r.parts[0], r.parts[1] = r.parts[1], part
	}
	return true
}

// readAhead reads for w, which has left the dispatch of that epoch, until it is done.
func (p *pool) readAhead(w *worker, epoch uint64) {
	for {
		s := p.state.Load()
		if s&stateClosed != 0 || s>>epochShift != epoch || !w.reading.step(w.set) {
			return
		}
	}
}

// packedPanels are n panels of binding bind, or those that are left, from the group's of
// matrix e on.
func packedPanels(g *Group, bind int, typ, rows, cols uint32, e, n int) []byte {
	b := g.binds[bind]
	if !b.packed {
		return nil
	}
	p, _ := kernels.PanelOf(quant.Type(typ))
	size, panels := p.Bytes(int(cols)), kernels.Panels(int(rows))
	at := (e*panels + g.X) * size
	return b.data[at : at+min(n, panels-g.X)*size]
}

func matmulWeights(g *Group, n int) (w [2][]byte) {
	a := argsOf[metal.MatmulArgs](g)
	w[0] = packedPanels(g, 0, a.Type, a.Rows, a.Cols, 0, n)
	return w
}

func gateUpWeights(g *Group, n int) (w [2][]byte) {
	a := argsOf[metal.ExpertArgs](g)
	e, _ := expertList(g, a, 2, 3)
	w[0] = packedPanels(g, 0, a.Type, a.Rows, a.Cols, e, n)
	w[1] = packedPanels(g, 1, a.TypeUp, a.Rows, a.Cols, e, n)
	return w
}

func downWeights(g *Group, n int) (w [2][]byte) {
	a := argsOf[metal.ExpertArgs](g)
	e, _ := expertList(g, a, 1, 2)
	w[0] = packedPanels(g, 0, a.Type, a.Rows, a.Cols, e, n)
	return w
}
