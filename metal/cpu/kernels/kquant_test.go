package kernels

import (
	"bytes"
	"math"
	"testing"
	"unsafe"

	"ds4/metal/quant"
)

var kTypes = []quant.Type{quant.Q4_K, quant.Q2_K, quant.IQ2_XXS}

// kMatrix is a random matrix of a K-quant: all bits but the scales are free.
func kMatrix(t *testing.T, typ quant.Type, rows, cols int) []byte {
	t.Helper()
	rng := newRand(51, uint64(typ))
	size, err := quant.RowBytes(typ, cols)
	if err != nil {
		t.Fatal(err)
	}
	w := make([]byte, rows*size)
	for i := range w {
		w[i] = byte(rng.Uint32())
	}
	scalesAt := map[quant.Type][]int{quant.Q4_K: {0, 2}, quant.Q2_K: {80, 82}, quant.IQ2_XXS: {0}}[typ]
	for b := 0; b < len(w); b += typ.BlockBytes() {
		for _, at := range scalesAt {
			h := quant.F32ToF16(float32(rng.NormFloat64()) * 0.02)
			w[b+at], w[b+at+1] = byte(h), byte(h>>8)
		}
	}
	return w
}

// TestPackK: scale*code + offset is what the type's decoder gives.
func TestPackK(t *testing.T) {
	for _, typ := range kTypes {
		const rows, cols = 31, 512
		raw := kMatrix(t, typ, rows, cols)
		size := len(raw) / rows
		p := make([]byte, PanelK.Bytes(cols))
		Scalar.Pack(p, raw, PanelK, typ, rows, cols, new(Scratch), nil)
		eachSet(t, func(t *testing.T, s *Set) {
			q := make([]byte, len(p))
			for i := range q {
				q[i] = 0x55
			}
			s.Pack(q, raw, PanelK, typ, rows, cols, new(Scratch), nil)
			if !bytes.Equal(p, q) {
				t.Errorf("%v: the panel differs from plain Go's", typ)
			}
		})
		want := make([]float32, cols)
		for r := range rows {
			if err := quant.DecodeRow(typ, want, raw[r*size:(r+1)*size]); err != nil {
				t.Fatal(err)
			}
			for k, v := range want {
				b := p[k/Block*kPanelBytes:]
				h := unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), 3*PanelRows)
				code := float32(int8(b[kHeader*PanelRows+k%Block/4*4*PanelRows+4*r+k%4] ^ 0x80))
				got := float64(h[r])*float64(code) + float64(h[(1+k%Block/16)*PanelRows+r])
				if math.Abs(got-float64(v)) > 1e-6*(math.Abs(float64(h[r]*code))+math.Abs(float64(v))) {
					t.Fatalf("%v: row %d column %d is %v, want %v", typ, r, k, got, v)
				}
			}
		}
	}
}

// TestProductK compares plain Go with float64, and the sets with plain Go.
func TestProductK(t *testing.T) {
	rng := newRand(53, 54)
	for _, typ := range kTypes {
		for _, n := range []int{1, 2, 3, 4, 5, 13} {
			const rows, cols = 30, 512
			raw := kMatrix(t, typ, rows, cols)
			p := make([]byte, PanelK.Bytes(cols))
			Scalar.Pack(p, raw, PanelK, typ, rows, cols, new(Scratch), nil)
			const stride = cols / Block * ActBytes
			x, in := normals(rng, n*cols), make([]byte, n*stride)
			for i := range n {
				Scalar.QuantizeRow(in[i*stride:], x[i*cols:(i+1)*cols])
			}
			want := product(&Scalar, PanelK, p, in, stride, n, cols)
			v := make([]float32, cols)
			for r := range rows {
				if err := quant.DecodeRow(typ, v, raw[r*len(raw)/rows:(r+1)*len(raw)/rows]); err != nil {
					t.Fatal(err)
				}
				for i := range n {
					var sum, size float64
					for k := range v {
						b := in[i*stride+k/Block*ActBytes:]
						a := float64(*(*float32)(unsafe.Pointer(&b[0]))) * float64(int8(b[actCodes+k%Block]))
						sum += a * float64(v[k])
						size += math.Abs(a * float64(v[k]))
					}
					if got := float64(want[i*PanelRows+r]); math.Abs(got-sum) > 1e-5*size {
						t.Fatalf("%v: output %d,%d is %v, want %v", typ, i, r, got, sum)
					}
				}
			}
			eachSet(t, func(t *testing.T, s *Set) {
				sameBits(t, "product", product(s, PanelK, p, in, stride, n, cols), want)
			})
		}
	}
}

// BenchmarkPackK times what a product with one row spends its time on.
func BenchmarkPackK(b *testing.B) {
	for _, s := range Available() {
		for _, typ := range kTypes {
			b.Run(s.Name+"/"+typ.String(), func(b *testing.B) {
				const cols = 4096
				raw := make([]byte, PanelRows*cols/quant.BlockK*typ.BlockBytes())
				p, mem := make([]byte, PanelK.Bytes(cols)), new(Scratch)
				for b.Loop() {
					s.Pack(p, raw, PanelK, typ, PanelRows, cols, mem, nil)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(PanelRows*cols), "ns/weight")
			})
		}
	}
}
