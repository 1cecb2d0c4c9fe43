package cpu

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"ds4/metal"
	"ds4/metal/cpu/kernels"
)

const (
	maxThreads = 1024
	// A worker without work spins this many rounds before it parks: a barrier in
	// decode comes every few microseconds, and waking a parked goroutine costs more.
	spinRounds = 4000
	// Every this many rounds a spinning worker lets other goroutines run.
	yieldEvery = 200
)

// pool runs the grid of one dispatch at a time on size workers: the goroutine
// that calls execute, and size-1 others. A grid is open to workers only while
// groups are left, and nobody waits for a worker that has not entered: a worker
// that the system has put aside costs its share and not the whole dispatch.
type pool struct {
	size    int
	workers []*worker
	wg      sync.WaitGroup

	_     [64]byte
	state atomic.Uint64 // epoch<<16 | closed<<15 | workers inside
	_     [56]byte

	// The groups of the open dispatch, cut into shares. A worker begins with its
	// own share, which costs no contention, and then helps with the others.
	shares []share
	cut    int // shares in use

	// The open dispatch: written before state opens it, read by workers inside.
	current *dispatch
	// The dispatch whose weights are read while there is time, or nil, and a number
	// that no other has.
	ahead    *dispatch
	aheadKey uint64
	buffer   *commandBuffer
	total    int64
	failure  atomic.Pointer[failure]
	quit     bool
}

// share is a range of groups.
type share struct {
	next atomic.Int64
	end  int64
	_    [48]byte
}

// failure is what went wrong in a kernel.
type failure struct {
	code metal.Code
	text string
	op   string
}

const (
	stateClosed  = 1 << 15
	stateEntered = stateClosed - 1
	epochShift   = 16
)

// worker is the private state of one thread.
type worker struct {
	index   int
	group   Group
	set     *kernels.Set
	scratch []float32
	panel   []byte
	list    []unsafe.Pointer
	listed  int // entries of list that may hold pointers
	heads   [2][headTile]float32
	gates   kernels.Gates
	top     kernels.TopMemory
	product product
	reading reading
	codes   kernels.Scratch
	wake    chan struct{}
	parked  atomic.Bool
	_       [64]byte
}

func newPool(n int, set *kernels.Set) *pool {
	p := &pool{size: n}
	p.state.Store(stateClosed)
	p.shares = make([]share, n)
	for i := range n {
		w := &worker{index: i, set: set, wake: make(chan struct{}, 1)}
		w.group.worker = w
		p.workers = append(p.workers, w)
	}
	for _, w := range p.workers[1:] {
		p.wg.Go(func() { p.serve(w) })
	}
	return p
}

// execute runs every dispatch of c in order, on the calling goroutine and the workers.
func (p *pool) execute(c *commandBuffer) {
	start := time.Now()
	p.buffer = c
	for i := range c.work {
		d := &c.work[i]
		if p.size > 1 {
			p.aim(c, i)
		}
		p.dispatch(d)
		if f := p.failure.Swap(nil); f != nil {
			c.err = &metal.CommandError{
				Label: c.label, LastOp: f.op, Seq: c.seq, Generation: c.generation,
				Domain: ErrorDomain, Code: f.code, Message: f.text,
			}
			break
		}
	}
	p.buffer, p.current, p.ahead = nil, nil, nil
	for _, w := range p.workers {
		w.forget()
	}
	c.time = time.Since(start)
}

// forget drops the pointers into buffers: these may be unmapped before the next
// use, and the collector must never find a pointer to memory that became its own.
func (w *worker) forget() {
	clear(w.list[:w.listed])
	w.listed = 0
	w.product.tile = kernels.Tile{}
}

// dispatch runs one grid and returns when all its groups are done. Workers that have
// no group, or none any more, read ahead.
func (p *pool) dispatch(d *dispatch) {
	p.current, p.total = d, int64(d.groups.Count())
	p.cut = int(min(int64(p.size), p.total))
	for i := range p.cut {
		s := &p.shares[i]
		s.next.Store(p.total * int64(i) / int64(p.cut))
		s.end = p.total * int64(i+1) / int64(p.cut)
	}
	open := p.size > 1 && (p.total > 1 || p.ahead != nil)
	if p.total == 1 {
		p.shares[0].next.Store(1) // the first worker's alone
	}
	if open {
		epoch := p.state.Load()>>epochShift + 1
		p.state.Store(epoch << epochShift) // open
		for _, w := range p.workers[1:] {
			if p.total > 1 && w.parked.Load() && w.parked.CompareAndSwap(true, false) {
				w.wake <- struct{}{}
			}
		}
	}
	p.work(p.workers[0])
	if open {
		p.state.Or(stateClosed)
		for n := 1; p.state.Load()&stateEntered != 0; n++ {
			if p.workers[0].reading.step(p.workers[0].set) {
				continue
			}
			if n%yieldEvery == 0 {
				runtime.Gosched()
			}
		}
	}
}

// enter takes part in the open dispatch, unless it is the one already seen.
func (p *pool) enter(seen uint64) (epoch uint64, ok bool) {
	for {
		s := p.state.Load()
		if s&stateClosed != 0 || s>>epochShift == seen {
			return seen, false
		}
		if p.state.CompareAndSwap(s, s+1) {
			return s >> epochShift, true
		}
	}
}

// serve is the life of a worker other than the first.
func (p *pool) serve(w *worker) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var seen uint64
	for idle := 0; ; idle++ {
		if epoch, ok := p.enter(seen); ok {
			if p.quit {
				p.state.Add(^uint64(0))
				return
			}
			p.work(w)
			p.state.Add(^uint64(0))
			p.readAhead(w, epoch)
			seen, idle = epoch, 0
			continue
		}
		switch {
		case idle >= spinRounds:
			w.parked.Store(true)
			// A dispatch may have opened before parked was visible.
			if s := p.state.Load(); s&stateClosed == 0 && s>>epochShift != seen && w.parked.CompareAndSwap(true, false) {
				idle = 0
				continue
			}
			<-w.wake
			idle = 0
		case idle%yieldEvery == yieldEvery-1:
			runtime.Gosched()
		}
	}
}

// work runs groups until none is left. A panic ends the dispatch.
func (p *pool) work(w *worker) {
	d, g := p.current, &w.group
	defer p.recover(d)
	g.bind(p.buffer, d)
	nx, ny := uint32(max(d.groups.X, 1)), uint32(max(d.groups.Y, 1))
	plain := int64(nx) == p.total
	g.X, g.Y, g.Z = 0, 0, 0
	if p.total == 1 && w.index == 0 {
		d.fn(g)
	}
	for k := range p.cut {
		s := &p.shares[(w.index+k)%p.cut]
		for {
			i := s.next.Add(1) - 1
			if i >= s.end {
				break
			}
			if g.X = int(i); !plain {
				j := uint32(i)
				g.X, g.Y, g.Z = int(j%nx), int(j/nx%ny), int(j/nx/ny)
			}
			d.fn(g)
		}
	}
	w.reading.aim(p, w)
}

// recover turns a panic in a kernel into the failure of its command buffer.
func (p *pool) recover(d *dispatch) {
	r := recover()
	if r == nil {
		return
	}
	for i := range p.cut {
		p.shares[i].next.Store(p.total) // nobody starts another group
	}
	f := &failure{code: metal.CodeInternal, text: fmt.Sprintf("Internal Error (kernel panic: %v)", r), op: d.op}
	if e, ok := r.(interface{ Addr() uintptr }); ok {
		f.code = metal.CodePageFault
		f.text = fmt.Sprintf("Caused GPU Address Fault Error (address %#x: %v)", e.Addr(), r)
	}
	p.failure.CompareAndSwap(nil, f)
}

// close ends the workers. No dispatch may be running.
func (p *pool) close() {
	p.quit = true
	epoch := p.state.Load()>>epochShift + 1
	p.state.Store(epoch << epochShift)
	for _, w := range p.workers[1:] {
		if w.parked.CompareAndSwap(true, false) {
			w.wake <- struct{}{}
		}
	}
	p.wg.Wait()
}
