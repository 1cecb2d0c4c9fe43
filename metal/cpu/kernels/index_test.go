package kernels

import (
	"bytes"
	"fmt"
	"math"
	"testing"
	"unsafe"
)

// fp4Rows are n random rows that FP4 has rounded, their blocks far apart in size.
func fp4Rows(a uint64, n, width int) []float32 {
	rng := newRand(a, 58)
	x := normals(rng, n*width)
	for b := 0; b < len(x); b += Block {
		scale := float32(math.Ldexp(1, rng.IntN(60)-40))
		for i := range Block {
			x[b+i] *= scale
		}
	}
	clear(x[:Block])
	Scalar.RoundFP4(x)
	return x
}

// TestQuantizeExact: nothing of what FP4 left is lost, and the sets agree on that
// and on values with more bits.
func TestQuantizeExact(t *testing.T) {
	rows := fp4Rows(57, 40, 2*Block)
	check := func(t *testing.T, x []float32, exact bool) {
		want := make([]byte, len(x)/Block*ActBytes)
		Scalar.QuantizeExact(want, x)
		for i, v := range x {
			b := want[i/Block*ActBytes:]
			if got := *(*float32)(unsafe.Pointer(&b[0])) * float32(int8(b[actCodes+i%Block])); exact && got != v {
				t.Fatalf("value %d is %v, want %v", i, got, v)
			}
		}
		eachSet(t, func(t *testing.T, s *Set) {
			got := make([]byte, len(want))
			s.QuantizeExact(got, x)
			if !bytes.Equal(got, want) {
				t.Error("blocks differ from plain Go")
			}
		})
	}
	check(t, rows, true)
	check(t, normals(newRand(59, 60), 8*Block), false)
}

// TestIndexScores: a product adds the exact sums of blocks in order.
func TestIndexScores(t *testing.T) {
	const width = 4 * Block
	const stride = width / Block * ActBytes
	rows, heads := fp4Rows(61, PanelRows, width), fp4Rows(62, 7, width)
	panel, in := make([]byte, PanelI8.Bytes(width)), make([]byte, 7*stride)
	for r := range PanelRows {
		blocks := make([]byte, stride)
		Scalar.QuantizeExact(blocks, rows[r*width:(r+1)*width])
		PackI8Row(panel, blocks, r)
	}
	Scalar.QuantizeExact(in, heads)
	want := product(&Scalar, PanelI8, panel, in, stride, 7, width)
	for h := range 7 {
		for r := range PanelRows {
			var sum float32
			for b := 0; b < width; b += Block {
				var block float64
				for i := b; i < b+Block; i++ {
					block += float64(rows[r*width+i]) * float64(heads[h*width+i])
				}
				sum += float32(block)
			}
			if got := want[h*PanelRows+r]; got != sum {
				t.Fatalf("head %d, row %d: %v, want %v", h, r, got, sum)
			}
		}
	}
	eachSet(t, func(t *testing.T, s *Set) {
		for n := 1; n <= 7; n++ { // tiles of every size
			sameBits(t, "scores", product(s, PanelI8, panel, in, stride, n, width), want[:n*PanelRows])
		}
	})
}

func TestIndexAdd(t *testing.T) {
	rng := newRand(63, 64)
	for _, heads := range []int{1, 2, 7, 64} {
		sc, w, start := normals(rng, heads*PanelRows), normals(rng, heads), normals(rng, PanelRows)
		want := bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&start[0])), 4*PanelRows))
		sum := unsafe.Slice((*float32)(unsafe.Pointer(&want[0])), PanelRows)
		Scalar.IndexAdd(sum, sc, w)
		for j := range sum {
			exact := float64(start[j])
			for h := range heads {
				exact += float64(w[h]) * max(float64(sc[h*PanelRows+j]), 0)
			}
			if math.Abs(float64(sum[j])-exact) > 1e-4 {
				t.Fatalf("%d heads, row %d: %v, want %v", heads, j, sum[j], exact)
			}
		}
		eachSet(t, func(t *testing.T, s *Set) {
			got := append([]float32(nil), start...)
			s.IndexAdd(got, sc, w)
			sameBits(t, fmt.Sprint(heads, " heads"), got, sum)
		})
	}
}
