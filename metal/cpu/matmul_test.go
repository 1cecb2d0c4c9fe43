package cpu

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"ds4/metal"
	"ds4/metal/quant"
)

// deviceBuffer copies v into a buffer of d.
func deviceBuffer[T any](t testing.TB, d *Device, v []T) metal.Buffer {
	t.Helper()
	n := len(v) * int(unsafe.Sizeof(v[0]))
	b, err := d.NewBuffer(uint64(n), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Release)
	copy(b.Bytes(), unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), n))
	return b
}

func floatsOf(b metal.Buffer) []float32 {
	return view[float32](&Group{binds: []binding{{data: b.Bytes()}}}, 0)
}

func bind(b ...metal.Buffer) []metal.Binding {
	out := make([]metal.Binding, len(b))
	for i := range b {
		out[i].Buffer = b[i]
	}
	return out
}

// encoded is a random matrix in an encoding, with the values that it stands for.
func encoded(t testing.TB, rng *rand.Rand, typ quant.Type, rows, cols int) (data []byte, values []float32) {
	t.Helper()
	size, err := quant.RowBytes(typ, cols)
	if err != nil {
		t.Fatal(err)
	}
	values, data = make([]float32, rows*cols), make([]byte, rows*size)
	for i := range values {
		values[i] = float32(rng.NormFloat64())
	}
	if err := quant.EncodeRow(typ, data, values); err != nil {
		t.Fatal(err)
	}
	if err := quant.DecodeRow(typ, values, data); err != nil {
		t.Fatal(err)
	}
	return data, values
}

// TestMatmul compares products of every type with float64 sums: block-diagonal
// ones whose blocks end inside a panel, packed weights and mapped ones, tiles of
// every size. Packed or not, in blocks of tokens or not, the bits are the same.
func TestMatmul(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	d := newDevice(t, 2)
	for _, typ := range []quant.Type{quant.F32, quant.F16, quant.BF16, quant.Q8_0, quant.Q4_K, quant.Q2_K, quant.IQ2_XXS} {
		for _, c := range []struct{ rows, blocks, tokens, block int }{{1, 1, 1, 1}, {24, 1, 5, 2}, {80, 2, 13, 12}, {64, 1, 6, 6}, {96, 4, 3, 48}} {
			t.Run(fmt.Sprint(typ, c), func(t *testing.T) {
				testMatmul(t, d, rng, typ, c.rows, c.blocks, c.tokens, c.block)
			})
		}
	}
}

func testMatmul(t *testing.T, d *Device, rng *rand.Rand, typ quant.Type, rows, blocks, tokens, block int) {
	const cols = 256
	data, w := encoded(t, rng, typ, rows, cols)
	x := make([]float32, tokens*blocks*cols)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	in := deviceBuffer(t, d, x)
	mapped, err := d.WrapBytes(data, "weights")
	if err != nil {
		t.Fatal(err)
	}
	weights := metal.Weights{Data: data, Type: uint32(typ), Rows: rows, Cols: cols, Count: 1}
	packed, err := d.PackWeights(weights, "weights")
	if err != nil {
		t.Fatal(err)
	}
	var first []float32
	for i, b := range []metal.Buffer{mapped, packed, mapped} {
		if b == nil {
			if PackedBytes(weights) != 0 {
				t.Fatal("not packed")
			}
			continue
		}
		if i == 2 {
			block = tokens
		}
		out := deviceBuffer(t, d, make([]float32, tokens*rows))
		a := metal.MatmulArgs{
			Type: uint32(typ), Rows: uint32(rows), Cols: cols, Tokens: uint32(tokens),
			Stride: uint32(blocks * cols), OutStride: uint32(rows), GroupRows: uint32(rows / blocks), Block: uint32(block),
		}
		g := metal.Size{X: uint32((rows + 31) / 32), Y: uint32((tokens + block - 1) / block)}
		if err := runKernel(t, d, metal.KernelMatmul, g, metal.ArgBytes(&a), bind(b, in, out)...); err != nil {
			t.Fatal(err)
		}
		got := slices.Clone(floatsOf(out))
		if first == nil {
			first = got
			checkProduct(t, got, w, x, rows, blocks, tokens, cols)
		}
		if !slices.Equal(got, first) {
			t.Fatal("results depend on packing or blocks")
		}
	}
}

// TestPackedForInt8: a K-quant that was packed for int8 activations is refused by
// a product with float32, which could only get it wrong.
func TestPackedForInt8(t *testing.T) {
	for _, typ := range []quant.Type{quant.Q4_K, quant.Q2_K, quant.IQ2_XXS} {
		d := newDevice(t, 2)
		packed := packedExperts(t, d, typ, 1, 32, 256)
		x, out := deviceBuffer(t, d, make([]float32, 256)), deviceBuffer(t, d, make([]float32, 32))
		a := metal.MatmulArgs{Type: uint32(typ), Rows: 32, Cols: 256, Tokens: 1, Stride: 256, OutStride: 32, GroupRows: 32, Block: 1}
		err := runKernel(t, d, metal.KernelMatmul, metal.Size{X: 1, Y: 1}, metal.ArgBytes(&a), bind(packed, x, out)...)
		var ce *metal.CommandError
		if !errors.As(err, &ce) || !strings.Contains(ce.Message, "packed for int8") {
			t.Errorf("%v: %v, want a refusal", typ, err)
		}
	}
}

func checkProduct(t *testing.T, got, w, x []float32, rows, blocks, tokens, cols int) {
	t.Helper()
	for i := range tokens {
		for r := range rows {
			at := i*blocks*cols + r/(rows/blocks)*cols
			var want, size float64
			for k := range cols {
				p := float64(x[at+k]) * float64(w[r*cols+k])
				want += p
				size += math.Abs(p)
			}
			if math.Abs(float64(got[i*rows+r])-want) > 1e-5*size {
				t.Fatalf("output %d,%d is %v, want %v", i, r, got[i*rows+r], want)
			}
		}
	}
}

// TestMatmulInt8 compares integer products, tile by tile and packed or not, with
// the product of what the int8 blocks stand for.
func TestMatmulInt8(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	d := newDevice(t, 2)
	for _, typ := range []quant.Type{quant.Q8_0, quant.Q4_K, quant.Q2_K, quant.IQ2_XXS} {
		t.Run(typ.String(), func(t *testing.T) { testMatmulInt8(t, d, rng, typ) })
	}
}

func testMatmulInt8(t *testing.T, d *Device, rng *rand.Rand, typ quant.Type) {
	const rows, blocks, tokens, cols = 80, 2, 13, 256
	data, w := encoded(t, rng, typ, rows, cols)
	x := make([]float32, tokens*blocks*cols)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	in := deviceBuffer(t, d, make([]byte, len(x)/metal.Int8Block*metal.Int8Bytes))
	q := metal.QuantizeArgs{N: blocks * cols}
	if err := runKernel(t, d, metal.KernelQuantize, metal.Size{X: tokens}, metal.ArgBytes(&q), bind(deviceBuffer(t, d, x), in)...); err != nil {
		t.Fatal(err)
	}
	for i := range x {
		b := in.Bytes()[i/metal.Int8Block*metal.Int8Bytes:]
		x[i] = *(*float32)(unsafe.Pointer(&b[0])) * float32(int8(b[16+i%metal.Int8Block]))
	}
	mapped, err := d.WrapBytes(data, "weights")
	if err != nil {
		t.Fatal(err)
	}
	weights := metal.Weights{Data: data, Type: uint32(typ), Rows: rows, Cols: cols, Count: 1, Int8: true}
	packed, err := d.PackWeights(weights, "weights")
	if err != nil || packed == nil {
		t.Fatalf("packed: %v, %v", packed, err)
	}
	defer packed.Release()
	var first []float32
	for _, b := range []metal.Buffer{mapped, packed} {
		for _, block := range []uint32{1, 3, 6, 8, tokens} {
			out := deviceBuffer(t, d, make([]float32, tokens*rows))
			a := metal.MatmulArgs{
				Type: uint32(typ), Rows: rows, Cols: cols, Tokens: tokens,
				Stride: blocks * cols, OutStride: rows, GroupRows: rows / blocks, Block: block,
			}
			g := metal.Size{X: (rows + 31) / 32, Y: (tokens + block - 1) / block}
			if err := runKernel(t, d, metal.KernelMatmulInt8, g, metal.ArgBytes(&a), bind(b, in, out)...); err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = slices.Clone(floatsOf(out))
				checkProduct(t, first, w, x, rows, blocks, tokens, cols)
			}
			if !slices.Equal(floatsOf(out), first) {
				t.Fatalf("blocks of %d tokens give other bits", block)
			}
		}
	}
}

// TestPackTruncatedMapping: a file that was cut short fails the packing, not the process.
func TestPackTruncatedMapping(t *testing.T) {
	d := newDevice(t, 2)
	mem := truncatedMapping(t)
	_, err := d.PackWeights(metal.Weights{Data: mem, Type: uint32(quant.F16), Rows: 32, Cols: 256, Count: 1}, "weights")
	var ce *metal.CommandError
	if !errors.As(err, &ce) || ce.Code != metal.CodePageFault {
		t.Fatalf("error %v, want a page fault", err)
	}
}
