package fault

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"

	"go.uber.org/goleak"

	"ds4/metal"
	"ds4/metal/cpu"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRealDriver runs a kernel of metal/cpu through the wrapper: it fails as
// told, and after Rebuild the same work, encoded again, gives the right values.
func TestRealDriver(t *testing.T) {
	const n, rows = 64, 4
	for _, at := range []string{"commit", "wait"} {
		for _, effect := range effectNames {
			inner, err := cpu.New(cpu.Options{Threads: 2})
			if err != nil {
				t.Fatal(err)
			}
			rules, err := Parse(fmt.Sprintf("at=%s,n=1,effect=%s", at, effect))
			if err != nil {
				t.Fatal(err)
			}
			plan, err := NewPlan(rules, t.Logf)
			if err != nil {
				t.Fatal(err)
			}
			dev := Wrap(inner, plan)
			weight, x := floatBuffer(t, dev, n), floatBuffer(t, dev, n*rows)
			norm := func() error {
				for i := range n * rows {
					putFloat(x, i, float32(i%n)-n/2)
				}
				p, err := dev.Pipeline(metal.KernelRMSNorm)
				if err != nil {
					return err
				}
				cb, err := dev.NewCommandBuffer("norm")
				if err != nil {
					return err
				}
				defer cb.Release()
				args := metal.NormArgs{N: n}
				cb.Dispatch(p, metal.Size{X: rows}, metal.ArgBytes(&args),
					metal.Binding{Buffer: weight}, metal.Binding{Buffer: x})
				if err := cb.Commit(); err != nil {
					return err
				}
				return cb.Wait(context.Background())
			}
			for i := range n {
				putFloat(weight, i, 1)
			}
			var e *metal.CommandError
			if err := norm(); !errors.As(err, &e) {
				t.Fatalf("at=%s effect=%s: %v", at, effect, err)
			}
			if err := norm(); !errors.Is(err, metal.ErrPoisoned) {
				t.Fatalf("at=%s effect=%s: poisoned device: %v", at, effect, err)
			}
			if err := dev.Rebuild(metal.RebuildQueue); err != nil {
				t.Fatal(err)
			}
			if err := norm(); err != nil {
				t.Fatalf("at=%s effect=%s: after Rebuild: %v", at, effect, err)
			}
			var squares float64
			for i := range n {
				v := float64(math.Float32frombits(binary.LittleEndian.Uint32(x.Bytes()[4*((rows-1)*n+i):])))
				squares += v * v
			}
			if math.Abs(squares/n-1) > 1e-5 {
				t.Errorf("at=%s effect=%s: mean square %v, want 1", at, effect, squares/n)
			}
			if err := dev.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func floatBuffer(t *testing.T, dev metal.Device, n int) metal.Buffer {
	t.Helper()
	b, err := dev.NewBuffer(uint64(4*n), "floats")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func putFloat(b metal.Buffer, i int, v float32) {
	binary.LittleEndian.PutUint32(b.Bytes()[4*i:], math.Float32bits(v))
}
