package kernels

import (
	"bytes"
	"fmt"
	"testing"
	"unsafe"

	"ds4/metal/quant"
)

// packedK is a random matrix as PanelK, and packed.
func packedK(t *testing.T, typ quant.Type, rows, cols int) (p PanelType, expanded, packed []byte) {
	t.Helper()
	raw := kMatrix(t, typ, rows, cols)
	expanded = make([]byte, PanelK.Bytes(cols))
	Scalar.Pack(expanded, raw, PanelK, typ, rows, cols, new(Scratch), nil)
	p, _ = PanelOf(typ)
	packed = make([]byte, p.Bytes(cols))
	for i := range packed {
		packed[i] = 0x55
	}
	Scalar.Pack(packed, raw, p, typ, rows, cols, nil, nil)
	return p, expanded, packed
}

// TestExpand: what was packed at start expands to what is packed from the file.
func TestExpand(t *testing.T) {
	for _, typ := range kTypes {
		for _, rows := range []int{PanelRows, 29} {
			const cols = 3 * quant.BlockK
			p, want, packed := packedK(t, typ, rows, cols)
			for _, s := range Available() {
				got := make([]byte, len(want))
				s.Expand(got, packed, p, cols)
				for b := range cols / Block {
					for r := range PanelRows {
						if r >= rows {
							continue // zeros, whose sign may differ
						}
						for i := range 3 {
							if x, y := floatAt(got, b, i, r), floatAt(want, b, i, r); x != y {
								t.Fatalf("%s, %v: block %d, header %d of row %d is %v, want %v", s.Name, typ, b, i, r, x, y)
							}
						}
					}
					from, to := b*kPanelBytes+kHeader*PanelRows, (b+1)*kPanelBytes
					for at := from; at < to; at++ {
						if row := (at - from) / 4 % PanelRows; row < rows && got[at] != want[at] {
							t.Fatalf("%s, %v: code %d of block %d, row %d is %#x, want %#x", s.Name, typ, at-from, b, row, got[at], want[at])
						}
					}
				}
			}
		}
	}
}

func floatAt(p []byte, block, header, row int) uint32 {
	return *(*uint32)(unsafe.Pointer(&p[block*kPanelBytes+4*(header*PanelRows+row)]))
}

// TestExpandSets: every set writes what plain Go does, to the last byte.
func TestExpandSets(t *testing.T) {
	for _, typ := range kTypes {
		const cols = 3 * quant.BlockK
		p, _, packed := packedK(t, typ, PanelRows, cols)
		want, got := make([]byte, PanelK.Bytes(cols)), make([]byte, PanelK.Bytes(cols))
		Scalar.Expand(want, packed, p, cols)
		eachSet(t, func(t *testing.T, s *Set) {
			s.Expand(got, packed, p, cols)
			if !bytes.Equal(got, want) {
				t.Errorf("%v: the panel differs from plain Go's", typ)
			}
		})
	}
}

// TestDirect: a product with the packed form has the bits of one with the expanded.
func TestDirect(t *testing.T) {
	rng := newRand(55, 56)
	for _, typ := range kTypes {
		const rows, cols = 31, 3 * quant.BlockK
		p, expanded, packed := packedK(t, typ, rows, cols)
		const stride = cols / Block * ActBytes
		for n := 1; n <= DirectTokens; n++ {
			x, in := normals(rng, n*cols), make([]byte, n*stride)
			clear(x[Block : 2*Block]) // sums and scale of zero
			for i := range n {
				Scalar.QuantizeRow(in[i*stride:], x[i*cols:(i+1)*cols])
			}
			want := product(&Scalar, PanelK, expanded, in, stride, n, cols)
			eachSet(t, func(t *testing.T, s *Set) {
				if !s.Direct(p, n) {
					t.Skipf("%v: no product with %d rows", typ, n)
				}
				for i, got := range product(s, p, packed, in, stride, n, cols) {
					if i%PanelRows < rows {
						sameBits(t, fmt.Sprintf("%v, output %d", typ, i), []float32{got}, want[i:i+1])
					}
				}
			})
		}
	}
}

// BenchmarkDirect times the product of decode with what it reads, and the
// expansion of prefill.
func BenchmarkDirect(b *testing.B) {
	const cols, panels = 4096, 512
	for _, s := range Available() {
		for _, typ := range kTypes {
			p, _ := PanelOf(typ)
			packed, dst := make([]byte, p.Bytes(cols)*panels), make([]byte, PanelK.Bytes(cols))
			for i := range packed {
				packed[i] = byte(i) & 0x3f
			}
			in, out := make([]byte, cols/Block*ActBytes), make([]float32, TileTokens*PanelRows)
			s.QuantizeRow(in, normals(newRand(1, 2), cols))
			run := func(name string, f func(panel []byte)) {
				b.Run(s.Name+"/"+typ.String()+"/"+name, func(b *testing.B) {
					n := 0
					for b.Loop() {
						f(packed[n*p.Bytes(cols) : (n+1)*p.Bytes(cols)])
						n = (n + 1) % panels
					}
					b.SetBytes(int64(p.Bytes(cols)))
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(PanelRows*cols), "ns/weight")
				})
			}
			for n := 1; n <= DirectTokens && s.Direct(p, n); n++ {
				var tile Tile
				for i := range n {
					tile.In[i], tile.Out[i] = unsafe.Pointer(&in[0]), unsafe.Pointer(&out[i*PanelRows])
				}
				run(fmt.Sprintf("product%d", n), func(panel []byte) { s.Product(p, panel, &tile, n, cols) })
			}
			raw := make([]byte, PanelRows*cols/quant.BlockK*typ.BlockBytes())
			run("pack", func(panel []byte) { s.Pack(panel, raw, p, typ, PanelRows, cols, nil, nil) })
			run("expand", func(panel []byte) { s.Expand(dst, panel, p, cols) })
		}
	}
}
