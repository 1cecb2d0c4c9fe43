package cpu

import (
	"testing"
	"unsafe"

	"ds4/metal"
	"ds4/metal/cpu/kernels"
	"ds4/metal/quant"
)

// packedExperts is a stack of packed matrices of zeros.
func packedExperts(t *testing.T, d *Device, typ quant.Type, count, rows, cols int) metal.Buffer {
	t.Helper()
	size, err := quant.RowBytes(typ, cols)
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.PackWeights(metal.Weights{Data: make([]byte, count*rows*size), Type: uint32(typ), Rows: rows, Cols: cols, Count: count, Int8: true}, "experts")
	if err != nil || b == nil {
		t.Fatalf("packed: %v, %v", b, err)
	}
	t.Cleanup(b.Release)
	return b
}

// record adds a dispatch.
func record(t *testing.T, d *Device, c metal.CommandBuffer, kernel string, groups metal.Size, args []byte, bufs ...metal.Buffer) {
	t.Helper()
	p, err := d.Pipeline(kernel)
	if err != nil {
		t.Fatal(err)
	}
	c.Dispatch(p, groups, args, bind(bufs...)...)
}

// TestReadAhead: the weights that are read ahead are those that the next large product
// reads first, and none are before it is known which.
func TestReadAhead(t *testing.T) {
	const experts, used, rows, cols = 16, 3, 96, 4096
	d := newDevice(t, 2)
	if !d.set.Prefetch(0, 0) {
		t.Skip("this kernel set reads nothing ahead")
	}
	gate, up := packedExperts(t, d, quant.Q8_0, experts, rows, cols), packedExperts(t, d, quant.Q4_K, experts, rows, cols)
	down := packedExperts(t, d, quant.Q2_K, experts, rows, cols)
	ids := deviceBuffer(t, d, []int32{14, 11, 12})
	order, offsets := deviceBuffer(t, d, make([]int32, used)), deviceBuffer(t, d, make([]int32, experts+1))
	other := deviceBuffer(t, d, make([]int32, experts+1))
	x := deviceBuffer(t, d, make([]float32, used*max(rows, cols)))

	route := metal.RouteArgs{Experts: experts, Used: used, Tokens: 1}
	args := metal.ExpertArgs{Type: uint32(quant.Q8_0), TypeUp: uint32(quant.Q4_K), Rows: rows, Cols: cols, Used: used, Experts: experts}
	downArgs := args
	downArgs.Type = uint32(quant.Q2_K)
	small := metal.MatmulArgs{Type: uint32(quant.Q4_K), Rows: 32, Cols: cols}
	grid := metal.Size{X: rows / kernels.PanelRows, Y: used}
	cb, err := d.NewCommandBuffer("test")
	if err != nil {
		t.Fatal(err)
	}
	defer cb.Release()
	record(t, d, cb, metal.KernelGroup, metal.Size{X: 1}, metal.ArgBytes(&route), ids, order, offsets)
	record(t, d, cb, metal.KernelMatmulInt8, metal.Size{X: 1}, metal.ArgBytes(&small), up, x, x)
	record(t, d, cb, metal.KernelExpertGateUpInt8, grid, metal.ArgBytes(&args), gate, up, order, offsets, x, x, x)
	record(t, d, cb, metal.KernelExpertDownInt8, grid, metal.ArgBytes(&downArgs), down, order, other, x, x)
	c := cb.(*commandBuffer)

	for i, want := range []int{none, 2, 3, none} {
		if got := c.ahead(i); got != want {
			t.Errorf("after dispatch %d the next to read is %d, want %d", i, got, want)
		}
	}

	if err := runKernel(t, d, metal.KernelGroup, metal.Size{X: 1}, metal.ArgBytes(&route), bind(ids, order, offsets)...); err != nil {
		t.Fatal(err)
	}
	copy(other.Bytes(), offsets.Bytes())
	for _, at := range []int{2, 3} {
		for slot := range used {
			g := &Group{X: 1, Y: slot, worker: d.pool.workers[0]}
			g.bind(c, &c.work[at])
			e := []int{11, 12, 14}[slot] // experts in ascending order
			for k, part := range c.work[at].reader.weights(g, rows) {
				if at == 3 && k == 1 {
					continue
				}
				typ := []uint32{args.Type, args.TypeUp}[k]
				if at == 3 {
					typ = downArgs.Type
				}
				m := newMatrix(g, k, typ, rows, cols, true, 1)
				want := m.panel(g, e, g.X)
				if unsafe.SliceData(part) != unsafe.SliceData(want) || len(part) != 2*len(want) {
					t.Errorf("dispatch %d reads other weights in slot %d of matrix %d", at, slot, k)
				}
			}
		}
	}
}

// TestReadAheadOutside: workers read ahead while a dispatch of one group runs, next to
// the one that runs it and to the product that follows.
func TestReadAheadOutside(t *testing.T) {
	const rows, cols, rounds = 512, 4096, 50
	d := newDevice(t, 3)
	w := packedExperts(t, d, quant.Q8_0, 1, rows, cols)
	x, out := deviceBuffer(t, d, make([]float32, cols)), deviceBuffer(t, d, make([]float32, rows))
	in := deviceBuffer(t, d, make([]byte, cols/metal.Int8Block*metal.Int8Bytes))
	quantize := metal.QuantizeArgs{N: cols}
	product := metal.MatmulArgs{Type: uint32(quant.Q8_0), Rows: rows, Cols: cols, Tokens: 1, Stride: cols, OutStride: rows, GroupRows: rows, Block: 1}
	for range rounds {
		floatsOf(out)[rows-1] = 1
		c, err := d.NewCommandBuffer("test")
		if err != nil {
			t.Fatal(err)
		}
		record(t, d, c, metal.KernelQuantize, metal.Size{X: 1}, metal.ArgBytes(&quantize), x, in)
		record(t, d, c, metal.KernelMatmulInt8, metal.Size{X: rows / kernels.PanelRows, Y: 1}, metal.ArgBytes(&product), w, in, out)
		if err := c.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p := d.pool; p.aheadKey != c.(*commandBuffer).seq<<aheadKeyShift|1 {
			t.Fatalf("what was to be read ahead is %#x", p.aheadKey)
		}
		if got := floatsOf(out)[rows-1]; got != 0 {
			t.Fatalf("output %v, want 0", got)
		}
		c.Release()
	}
}
