package kernels

import (
	"bytes"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unsafe"

	"ds4/metal/quant"
)

func newRand(a, b uint64) *rand.Rand { return rand.New(rand.NewPCG(a, b)) }

func normals(rng *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	return v
}

// eachSet runs f for every set of this machine but the plain one.
func eachSet(t *testing.T, f func(t *testing.T, s *Set)) {
	for _, s := range Available() {
		if s != &Scalar {
			t.Run(s.Name, func(t *testing.T) { f(t, s) })
		}
	}
}

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

// TestGenerated shows that the assembler is what the generator writes.
func TestGenerated(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("go", "run", "./gen", "-dir", dir).CombinedOutput(); err != nil {
		t.Fatalf("go run ./gen: %v\n%s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("generated files: %v, %v", files, err)
	}
	for _, f := range files {
		want, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Base(f))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is out of date: run go generate ./metal/cpu/kernels", filepath.Base(f))
		}
	}
}

func TestSelect(t *testing.T) {
	for _, s := range Available() {
		t.Setenv(EnvSet, s.Name)
		if got, err := Select(); err != nil || got != s {
			t.Errorf("%s=%s: %v, %v", EnvSet, s.Name, got, err)
		}
	}
	t.Setenv(EnvSet, "abacus")
	if _, err := Select(); err == nil {
		t.Error("an unknown set was accepted")
	}
}

// TestFMA compares with exact arithmetic, on values that meet in every way: far
// apart, cancelling, on ties, below the normal numbers.
func TestFMA(t *testing.T) {
	rng := newRand(1, 2)
	value := func(spread int) float32 {
		m := float32(rng.IntN(1<<24)) * (1 - 2*float32(rng.IntN(2)))
		if rng.IntN(3) == 0 { // few bits: ties
			m = float32(rng.IntN(64)) * (1 - 2*float32(rng.IntN(2)))
		}
		return float32(math.Ldexp(float64(m), rng.IntN(2*spread)-spread))
	}
	for i := range 300_000 {
		spread := []int{4, 30, 80}[i%3]
		a, b, c := value(spread), value(spread), value(spread)
		if i%7 == 0 {
			c = -float32(a*b) + value(2)*0x1p-24
		}
		if i%11 == 0 { // an addend that pushes a tie over
			a, b, c = float32(1+rng.IntN(1<<12)), 1+0x1p-12, value(2)*0x1p-60
		}
		exact := new(big.Float).SetPrec(400).SetFloat64(float64(a))
		exact.Mul(exact, new(big.Float).SetFloat64(float64(b)))
		exact.Add(exact, new(big.Float).SetFloat64(float64(c)))
		want, _ := exact.Float32()
		if got := fma(a, b, c); got != want && !math.IsInf(float64(want), 0) {
			t.Fatalf("fma(%x, %x, %x) = %x, want %x", a, b, c, got, want)
		}
	}
}

// q8Matrix is random Q8_0 data with finite scales.
func q8Matrix(rng *rand.Rand, rows, cols int) []byte {
	w := make([]byte, rows*cols/Block*(2+Block))
	for i := range w {
		w[i] = byte(rng.Uint32())
	}
	for b := 0; b < len(w); b += 2 + Block {
		h := quant.F32ToF16(float32(rng.NormFloat64()) * 0.01)
		w[b], w[b+1] = byte(h), byte(h>>8)
		if rng.IntN(4) == 0 {
			for i := range Block {
				w[b+2+i] = 0x80 // -128 throughout: where 16-bit sums would overflow
			}
		}
	}
	return w
}

// product runs one panel over the rows of in, tile by tile.
func product(s *Set, p PanelType, w []byte, in []byte, stride, n, cols int) []float32 {
	out := make([]float32, n*PanelRows)
	for t := 0; t < n; t += TileTokens {
		var tile Tile
		k := min(TileTokens, n-t)
		for i := range k {
			tile.In[i] = unsafe.Pointer(&in[(t+i)*stride])
			tile.Out[i] = unsafe.Pointer(&out[(t+i)*PanelRows])
		}
		s.Product(p, w, &tile, k, cols)
	}
	return out
}

func TestQuantizeRow(t *testing.T) {
	rng := newRand(3, 4)
	const blocks = 40
	x := normals(rng, blocks*Block)
	for b := range blocks {
		scale := float32(math.Ldexp(1, rng.IntN(240)-140))
		for i := range Block {
			x[b*Block+i] *= scale
			if b%5 == 0 { // ties
				x[b*Block+i] = float32(rng.IntN(255)-127) / 2
			}
		}
	}
	clear(x[:Block])
	want := make([]byte, blocks*ActBytes)
	Scalar.QuantizeRow(want, x)
	for b := range blocks {
		scale := *(*float32)(unsafe.Pointer(&want[b*ActBytes]))
		for i := range Block {
			v, q := x[b*Block+i], float32(int8(want[b*ActBytes+actCodes+i]))
			if d := math.Abs(float64(v - q*scale)); d > 0.501*float64(scale) && scale > 0x1p-100 {
				t.Fatalf("block %d: %v became %v * %v", b, v, q, scale)
			}
		}
	}
	eachSet(t, func(t *testing.T, s *Set) {
		got := make([]byte, len(want))
		s.QuantizeRow(got, x)
		if !bytes.Equal(got, want) {
			t.Error("blocks differ from plain Go")
		}
	})
}

// TestProductQ8 compares plain Go with the definition, and the sets with plain Go.
func TestProductQ8(t *testing.T) {
	rng := newRand(5, 6)
	for _, c := range []struct{ rows, cols, n int }{{32, 32, 1}, {24, 96, 2}, {32, 256, 6}, {1, 64, 5}, {32, 1024, 13}, {31, 32, 10}, {32, 352, 3}} {
		raw := q8Matrix(rng, c.rows, c.cols)
		w := make([]byte, PanelQ8.Bytes(c.cols))
		Scalar.Pack(w, raw, PanelQ8, quant.Q8_0, c.rows, c.cols, new(Scratch), nil)
		eachSet(t, func(t *testing.T, s *Set) {
			again := make([]byte, len(w))
			s.Pack(again, raw, PanelQ8, quant.Q8_0, c.rows, c.cols, new(Scratch), nil)
			if c.rows == PanelRows && !bytes.Equal(w, again) {
				t.Error("the panel differs from plain Go's")
			}
		})
		x := normals(rng, c.n*c.cols)
		clear(x[:Block])
		stride := c.cols / Block * ActBytes
		in := make([]byte, c.n*stride)
		for i := range c.n {
			Scalar.QuantizeRow(in[i*stride:], x[i*c.cols:(i+1)*c.cols])
		}
		want := product(&Scalar, PanelQ8, w, in, stride, c.n, c.cols)
		for i := range c.n {
			for r := range PanelRows {
				var sum float32
				if r < c.rows {
					sum = plainQ8(raw[r*c.cols/Block*(2+Block):], in[i*stride:(i+1)*stride])
				}
				if want[i*PanelRows+r] != sum {
					t.Fatalf("%+v: output %d,%d is %v, want %v", c, i, r, want[i*PanelRows+r], sum)
				}
			}
		}
		eachSet(t, func(t *testing.T, s *Set) {
			sameBits(t, "product", product(s, PanelQ8, w, in, stride, c.n, c.cols), want)
		})
	}
}

// plainQ8 is one output by its definition.
func plainQ8(w, in []byte) (acc float32) {
	for ; len(in) > 0; w, in = w[2+Block:], in[ActBytes:] {
		sum := 0
		for i := range Block {
			sum += int(int8(w[2+i])) * int(int8(in[actCodes+i]))
		}
		d := quant.F16ToF32(uint16(w[0])|uint16(w[1])<<8) * *(*float32)(unsafe.Pointer(&in[0]))
		acc = fma(d, float32(sum), acc)
	}
	return acc
}

func TestProductFloat(t *testing.T) {
	rng := newRand(7, 8)
	for _, typ := range []quant.Type{quant.F32, quant.F16, quant.BF16, quant.Q2_K} {
		for _, c := range []struct{ rows, cols, n int }{{32, 256, 6}, {24, 1024, 1}, {3, 256, 4}, {32, 7, 3}, {17, 36, 11}} {
			if c.cols%typ.BlockSize() != 0 {
				continue
			}
			size, err := quant.RowBytes(typ, c.cols)
			if err != nil {
				t.Fatal(err)
			}
			raw, v := make([]byte, c.rows*size), normals(rng, c.rows*c.cols)
			for r := range c.rows {
				if err := quant.EncodeRow(typ, raw[r*size:(r+1)*size], v[r*c.cols:(r+1)*c.cols]); err != nil {
					t.Fatal(err)
				}
				if err := quant.DecodeRow(typ, v[r*c.cols:(r+1)*c.cols], raw[r*size:(r+1)*size]); err != nil {
					t.Fatal(err)
				}
			}
			p, _ := PanelOf(typ)
			if IsK(typ) { // as float32 activations need it
				p = PanelF32
			}
			w := make([]byte, p.Bytes(c.cols))
			Scalar.Pack(w, raw, p, typ, c.rows, c.cols, new(Scratch), make([]float32, c.cols))
			x := normals(rng, c.n*c.cols)
			in := unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x))
			want := product(&Scalar, p, w, in, 4*c.cols, c.n, c.cols)
			for i := range c.n {
				for r := range c.rows {
					var sum float32
					for k := range c.cols {
						sum = fma(v[r*c.cols+k], x[i*c.cols+k], sum)
					}
					if want[i*PanelRows+r] != sum {
						t.Fatalf("%v %+v: output %d,%d is %v, want %v", typ, c, i, r, want[i*PanelRows+r], sum)
					}
				}
			}
			eachSet(t, func(t *testing.T, s *Set) {
				sameBits(t, "product", product(s, p, w, in, 4*c.cols, c.n, c.cols), want)
			})
		}
	}
}
