package cpu

import (
	"context"

	"ds4/metal"
	"ds4/metal/cpu/kernels"
	"ds4/metal/quant"
)

var _ metal.Packer = (*Device)(nil)

// packArgs are the arguments of kernelPack.
type packArgs struct{ Type, Rows, Cols uint32 }

// packWeights: weights -> packed.
func packWeights(g *Group) {
	a := argsOf[packArgs](g)
	m := newMatrix(g, 0, a.Type, int(a.Rows), int(a.Cols), true, 0)
	lo, hi := panelRange(g.X, m.rows)
	dst := row(g.bytes(1), g.Y*kernels.Panels(m.rows)+g.X, m.stored.Bytes(m.cols))
	src := m.data[(g.Y*m.rows+lo)*m.rowBytes : (g.Y*m.rows+hi)*m.rowBytes]
	g.worker.set.Pack(dst, src, m.stored, m.typ, hi-lo, m.cols, &g.worker.codes, nil)
}

// PackedBytes is the size of w packed, about that of its file encoding, or 0 if it
// is not worth packing.
func PackedBytes(w metal.Weights) uint64 {
	p, own := kernels.PanelOf(quant.Type(w.Type))
	if !own || p.IsPackedK() && !w.Int8 {
		return 0 // it would be, or become, float32
	}
	return uint64(w.Count) * uint64(kernels.Panels(w.Rows)) * uint64(p.Bytes(w.Cols))
}

// PackWeights copies w into panels. It reads w with the device's threads, so that
// a mapped file that was cut short is an error here too.
func (d *Device) PackWeights(w metal.Weights, label string) (metal.Buffer, error) {
	n := PackedBytes(w)
	if n == 0 {
		return nil, nil
	}
	b, err := d.take(n, label)
	if err != nil {
		return nil, err
	}
	if err := d.pack(w, b, label); err != nil {
		b.Release()
		return nil, err
	}
	b.packed = true
	return b, nil
}

func (d *Device) pack(w metal.Weights, dst metal.Buffer, label string) error {
	src, err := d.WrapBytes(w.Data, label)
	if err != nil {
		return err
	}
	p, err := d.Pipeline(kernelPack)
	if err != nil {
		return err
	}
	c, err := d.NewCommandBuffer("pack " + label)
	if err != nil {
		return err
	}
	defer c.Release()
	a := packArgs{Type: w.Type, Rows: uint32(w.Rows), Cols: uint32(w.Cols)}
	g := metal.Size{X: uint32(kernels.Panels(w.Rows)), Y: uint32(w.Count)}
	c.Dispatch(p, g, metal.ArgBytes(&a), metal.Binding{Buffer: src}, metal.Binding{Buffer: dst})
	if err := c.Commit(); err != nil {
		return err
	}
	return c.Wait(context.Background())
}
