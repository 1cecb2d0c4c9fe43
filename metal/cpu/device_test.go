package cpu

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"ds4/metal"
	"ds4/metal/quant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Kernels of the tests.
var (
	visits  [1000]atomic.Int32
	holding = make(chan struct{})
)

func init() {
	registry["test_visit"] = func(g *Group) { visits[g.X+10*g.Y].Add(1) }
	registry["test_panic"] = func(g *Group) {
		if g.X == 3 {
			panic("kernel bug")
		}
	}
	registry["test_touch"] = func(g *Group) { g.bytes(0)[8192]++ }
	registry["test_hold"] = func(g *Group) { <-holding }
	registry["test_hold_panic"] = func(g *Group) { <-holding; panic("late") }
	registry["test_pointers"] = func(g *Group) {
		for i := range g.pointers(3) {
			g.worker.list[i] = unsafe.Pointer(&g.bytes(0)[0])
		}
		g.worker.product.tile.In[0] = unsafe.Pointer(&g.bytes(0)[0])
	}
	registry["test_add"] = func(g *Group) { g.f32(0)[g.X] += argsOf[metal.NormArgs](g).Eps }
}

func newDevice(t testing.TB, threads int) *Device {
	t.Helper()
	d, err := New(Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// runKernel commits one dispatch and waits for it.
func runKernel(t testing.TB, d *Device, kernel string, groups metal.Size, args []byte, bufs ...metal.Binding) error {
	t.Helper()
	p, err := d.Pipeline(kernel)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.NewCommandBuffer("test work")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	c.Marker(kernel)
	c.Dispatch(p, groups, args, bufs...)
	if err := c.Commit(); err != nil {
		return err
	}
	return c.Wait(t.Context())
}

func TestEveryGroupRunsOnce(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 8} {
		d := newDevice(t, threads)
		for range 50 {
			for i := range visits {
				visits[i].Store(0)
			}
			if err := runKernel(t, d, "test_visit", metal.Size{X: 10, Y: 100}, nil); err != nil {
				t.Fatal(err)
			}
			for i := range visits {
				if n := visits[i].Load(); n != 1 {
					t.Fatalf("%d threads: group %d ran %d times", threads, i, n)
				}
			}
		}
	}
}

func TestDispatchesRunInOrder(t *testing.T) {
	d := newDevice(t, 3)
	b, err := d.NewBuffer(4*64, "numbers")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Release()
	p, err := d.Pipeline("test_add")
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.NewCommandBuffer("sum")
	if err != nil {
		t.Fatal(err)
	}
	args := metal.NormArgs{Eps: 1}
	for range 200 {
		c.Dispatch(p, metal.Size{X: 64}, metal.ArgBytes(&args), metal.Binding{Buffer: b})
	}
	if err := errors.Join(c.Commit(), c.Wait(t.Context())); err != nil {
		t.Fatal(err)
	}
	c.Release()
	for i, v := range view[float32](&Group{binds: []binding{{data: b.Bytes()}}}, 0) {
		if v != 200 {
			t.Fatalf("value %d is %v, want 200", i, v)
		}
	}
}

func TestPanicPoisonsUntilRebuild(t *testing.T) {
	d := newDevice(t, 2)
	err := runKernel(t, d, "test_panic", metal.Size{X: 64}, nil)
	var ce *metal.CommandError
	if !errors.As(err, &ce) || ce.Code != metal.CodeInternal || ce.LastOp != "test_panic" || !strings.Contains(ce.Error(), "Metal test work failed: Internal Error (kernel panic: kernel bug)") {
		t.Fatalf("error %v (%+v)", err, ce)
	}
	if err := runKernel(t, d, "test_visit", metal.Size{X: 1}, nil); !errors.Is(err, metal.ErrPoisoned) || !errors.As(err, &ce) {
		t.Errorf("after a failure: %v, want ErrPoisoned and its cause", err)
	}
	old, err := d.Pipeline("test_visit")
	if err != nil {
		t.Fatal(err)
	}
	before, err := d.NewCommandBuffer("before")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Rebuild(metal.RebuildQueue); err != nil {
		t.Fatal(err)
	}
	if err := runKernel(t, d, "test_visit", metal.Size{X: 1}, nil); err != nil {
		t.Errorf("after Rebuild: %v", err)
	}
	if err := before.Commit(); !errors.Is(err, metal.ErrStale) {
		t.Errorf("command buffer of an older generation: %v, want ErrStale", err)
	}
	before.Release()
	c, err := d.NewCommandBuffer("stale")
	if err != nil {
		t.Fatal(err)
	}
	c.Dispatch(old, metal.Size{X: 1}, nil)
	if err := c.Commit(); !errors.Is(err, metal.ErrStale) {
		t.Errorf("pipeline of an older generation: %v, want ErrStale", err)
	}
	c.Release()
}

// truncatedMapping is a mapping whose file was shortened under it.
func truncatedMapping(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weights")
	if err := os.WriteFile(path, make([]byte, 16384), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mem, err := unix.Mmap(int(f.Fd()), 0, 16384, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	return mem
}

// TestTruncatedMapping shortens a file under its mapping: the kernel faults, the
// process does not.
func TestTruncatedMapping(t *testing.T) {
	d := newDevice(t, 2)
	b, err := d.WrapBytes(truncatedMapping(t), "weights")
	if err != nil {
		t.Fatal(err)
	}
	err = runKernel(t, d, "test_touch", metal.Size{X: 1}, nil, metal.Binding{Buffer: b})
	var ce *metal.CommandError
	if !errors.As(err, &ce) || ce.Code != metal.CodePageFault {
		t.Fatalf("error %v, want a page fault", err)
	}
}

// held commits work that goes on until somebody sends to holding.
func held(t *testing.T, d *Device, kernel string) metal.CommandBuffer {
	t.Helper()
	p, err := d.Pipeline(kernel)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.NewCommandBuffer("held")
	if err != nil {
		t.Fatal(err)
	}
	c.Dispatch(p, metal.Size{X: 1}, nil)
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWaitEndsWithItsContext(t *testing.T) {
	c := held(t, newDevice(t, 2), "test_hold")
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := c.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the context's", err)
	}
	holding <- struct{}{}
	if err := c.Wait(t.Context()); err != nil {
		t.Errorf("second wait: %v", err)
	}
	c.Release()
}

// TestLateFailure: work of an older generation that fails after a Rebuild poisons
// nothing.
func TestLateFailure(t *testing.T) {
	d := newDevice(t, 2)
	c := held(t, d, "test_hold_panic")
	if err := d.Rebuild(metal.RebuildQueue); err != nil {
		t.Fatal(err)
	}
	holding <- struct{}{}
	var ce *metal.CommandError
	if err := c.Wait(t.Context()); !errors.As(err, &ce) {
		t.Errorf("error %v, want a command error", err)
	}
	c.Release()
	if err := runKernel(t, d, "test_visit", metal.Size{X: 1}, nil); err != nil {
		t.Errorf("after an old failure: %v", err)
	}
}

// TestWorkersForget: no worker keeps a pointer into a buffer, which may be unmapped
// when the command buffer has run.
func TestWorkersForget(t *testing.T) {
	d := newDevice(t, 3)
	b := deviceBuffer(t, d, make([]byte, 64))
	for range 20 {
		if err := runKernel(t, d, "test_pointers", metal.Size{X: 100}, nil, metal.Binding{Buffer: b}); err != nil {
			t.Fatal(err)
		}
		for i, w := range d.pool.workers {
			for _, p := range append(w.list[:cap(w.list)], w.product.tile.In[0]) {
				if p != nil {
					t.Fatalf("worker %d keeps a pointer", i)
				}
			}
		}
	}
}

// TestSlabs: packed weights share memory, which goes when the last of them does.
func TestSlabs(t *testing.T) {
	d := newDevice(t, 1)
	pack := func(value byte) metal.Buffer {
		t.Helper()
		data := bytes.Repeat([]byte{value}, 32*2*32)
		b, err := d.PackWeights(metal.Weights{Data: data, Type: uint32(quant.F16), Rows: 32, Cols: 32, Count: 1}, "weights")
		if err != nil || b == nil {
			t.Fatalf("packed: %v, %v", b, err)
		}
		return b
	}
	first, second := pack(1), pack(2)
	if d.slab == nil || d.slab.refs != 2 {
		t.Fatal("not one slab for both")
	}
	first.Release()
	first.Release()
	for i, v := range second.Bytes() {
		if v != 2 {
			t.Fatalf("byte %d of the other is %d, want 2", i, v)
		}
	}
	second.Release()
	if d.slab != nil {
		t.Error("the slab is kept")
	}
}

func TestMisuse(t *testing.T) {
	d := newDevice(t, 1)
	if _, err := d.Pipeline("no such kernel"); !errors.Is(err, metal.ErrUnknownKernel) {
		t.Errorf("unknown kernel: %v", err)
	}
	if _, err := d.NewBuffer(1<<60, "huge"); !errors.Is(err, metal.ErrOutOfMemory) {
		t.Errorf("huge buffer: %v", err)
	}
	if _, err := New(Options{Threads: -1}); err == nil {
		t.Error("negative threads are accepted")
	}
	c, err := d.NewCommandBuffer("twice")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(t.Context()); err == nil {
		t.Error("waiting before Commit succeeds")
	}
	if err := errors.Join(c.Commit(), c.Wait(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := c.Commit(); err == nil {
		t.Error("a second Commit succeeds")
	}
	c.Release()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.NewCommandBuffer("late"); err == nil {
		t.Error("a closed device takes work")
	}
}

// TestCommitAfterClose: work that was recorded before the device was closed is
// refused after.
func TestCommitAfterClose(t *testing.T) {
	d := newDevice(t, 2)
	c, err := d.NewCommandBuffer("late")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Commit(); err == nil {
		t.Error("a closed device takes work")
	}
	c.Release()
}

// TestMissingBindings: a dispatch without the buffers that its kernel reads fails its
// command buffer, and not the device that looks at what comes next.
func TestMissingBindings(t *testing.T) {
	args := metal.ExpertArgs{Experts: 1}
	for kernel := range readers {
		d := newDevice(t, 2)
		empty, err := d.NewBuffer(0, "empty")
		if err != nil {
			t.Fatal(err)
		}
		weights := deviceBuffer(t, d, make([]byte, aheadLeast))
		for _, bufs := range [][]metal.Buffer{nil, {weights}, {weights, empty, empty, empty, empty, empty, empty}} {
			c, err := d.NewCommandBuffer("test")
			if err != nil {
				t.Fatal(err)
			}
			record(t, d, c, metal.KernelGroup, metal.Size{X: 1}, metal.ArgBytes(&metal.RouteArgs{}), weights, weights, weights)
			record(t, d, c, kernel, metal.Size{X: 2, Y: 2}, metal.ArgBytes(&args), bufs...)
			if err := c.Commit(); err != nil {
				t.Fatal(err)
			}
			var ce *metal.CommandError
			err = c.Wait(t.Context())
			if nothing := err == nil && len(bufs) > 1 && readers[kernel].offsets == none; !nothing && (!errors.As(err, &ce) || ce.Code != metal.CodeInternal) {
				t.Errorf("%s with %d buffers: %v, want a command error", kernel, len(bufs), err)
			}
			c.Release()
			if err := d.Rebuild(metal.RebuildQueue); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestDispatchDoesNotAllocate(t *testing.T) {
	d := newDevice(t, 2)
	b, err := d.NewBuffer(4*64, "numbers")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Release()
	p, err := d.Pipeline("test_add")
	if err != nil {
		t.Fatal(err)
	}
	args := metal.NormArgs{Eps: 1}
	binds := []metal.Binding{{Buffer: b}}
	ctx := context.Background()
	step := func() {
		c, err := d.NewCommandBuffer("sum")
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			c.Dispatch(p, metal.Size{X: 64}, metal.ArgBytes(&args), binds...)
		}
		if err := errors.Join(c.Commit(), c.Wait(ctx)); err != nil {
			t.Fatal(err)
		}
		c.Release()
	}
	step()
	if n := testing.AllocsPerRun(100, step); n >= 1 {
		t.Errorf("%.2f allocations per command buffer", n)
	}
}
