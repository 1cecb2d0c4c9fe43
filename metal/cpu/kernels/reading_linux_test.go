package kernels

import (
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"ds4/metal/quant"
)

var sink uint64

// readLines reads memory as fast as a core can: a word of each cache line, and asks
// for lines in advance.
func readLines(s *Set, p []byte) {
	const line, round, ahead = 64, 16, 4096
	var sum uint64
	for ; len(p) >= ahead+line*round; p = p[line*round:] {
		s.Prefetch(uintptr(unsafe.Pointer(&p[ahead])), line*round)
		for i := range round {
			sum += *(*uint64)(unsafe.Pointer(&p[line*i]))
		}
	}
	sink += sum
}

// BenchmarkReading compares products with one row, of weights that no cache holds,
// with reading alone. Both take turns, a few milliseconds each, and the figures are
// those of the tenth that others disturbed least.
func BenchmarkReading(b *testing.B) {
	const size, slice, cols, rest = 256 << 20, 8 << 20, 4096, 64 << 10
	mem, err := unix.Mmap(-1, 0, size+rest, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Munmap(mem)
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE)
	for i := range mem {
		mem[i] = byte(i) & 0x3f
	}
	s, err := Select()
	if err != nil {
		b.Fatal(err)
	}
	x, in, out := normals(newRand(1, 2), cols), make([]byte, cols/Block*ActBytes), make([]float32, PanelRows)
	s.QuantizeRow(in, x)
	for _, typ := range []quant.Type{quant.Q8_0, quant.F16, quant.Q4_K, quant.Q2_K, quant.IQ2_XXS} {
		b.Run(typ.String(), func(b *testing.B) {
			p, _ := PanelOf(typ)
			if p.IsPackedK() && !s.Direct(p, 1) {
				b.Skip("no product with one row")
			}
			var tile Tile
			tile.In[0], tile.Out[0] = unsafe.Pointer(&in[0]), unsafe.Pointer(&out[0])
			if p == PanelF16 {
				tile.In[0] = unsafe.Pointer(&x[0])
			}
			panel := p.Bytes(cols)
			var reading, product []float64 // ns per byte
			at := 0
			next := func() []byte {
				at = (at + slice) % (size - slice)
				return mem[at : at+slice]
			}
			for b.Loop() {
				start := time.Now()
				readLines(s, next())
				middle := time.Now()
				part := next()
				for ; len(part) >= panel; part = part[panel:] {
					s.Product(p, part, &tile, 1, cols)
				}
				reading = append(reading, float64(middle.Sub(start).Nanoseconds())/slice)
				product = append(product, float64(time.Since(middle).Nanoseconds())/float64(slice-len(part)))
			}
			slices.Sort(reading)
			slices.Sort(product)
			r, w := reading[len(reading)/10], product[len(product)/10]
			b.ReportMetric(1/w, "GB/s")
			b.ReportMetric(w*float64(panel)/(cols*PanelRows), "ns/weight")
			b.ReportMetric(r/w, "of-reading")
			b.ReportMetric(0, "ns/op")
		})
	}
}
