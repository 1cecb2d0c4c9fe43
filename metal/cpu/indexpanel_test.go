package cpu

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"ds4/metal"
	"ds4/metal/cpu/kernels"
	"ds4/metal/quant"
)

// TestIndexPanelForm: the panels that kernels write and multiply are those of
// package metal.
func TestIndexPanelForm(t *testing.T) {
	const width = 128
	rng := rand.New(rand.NewPCG(5, 6))
	for _, set := range kernels.Available() {
		got, want := make([]byte, metal.IndexPanelBytes(width)), make([]byte, metal.IndexPanelBytes(width))
		if n := kernels.PanelI8.Bytes(width); n != len(want) {
			t.Fatalf("a panel has %d bytes, want %d", n, len(want))
		}
		blocks := make([]byte, width/kernels.Block*kernels.ActBytes)
		for r := range metal.IndexPanel {
			row := make([]float32, width)
			for i := range row {
				row[i] = float32(rng.NormFloat64() * math.Exp(float64(r)))
			}
			set.RoundFP4(row)
			set.QuantizeExact(blocks, row)
			kernels.PackI8Row(got, blocks, r)
			metal.PutIndexRow(want, r, row)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: panels differ", set.Name)
		}
	}
}

// TestCompressedRowForms: a new row is stored in the form that the flags say, and
// nothing else of the table is written; what is not finite stays so.
func TestCompressedRowForms(t *testing.T) {
	const width, rot, at = 128, 64, 5
	rng := rand.New(rand.NewPCG(7, 8))
	row := make([]float32, width)
	for i := range row {
		row[i] = float32(rng.NormFloat64())
	}
	for _, set := range kernels.Available() {
		for _, form := range []struct {
			name  string
			flags uint32
			bytes int // of a row
			read  func(dst []float32, table []byte)
		}{
			{"float32", metal.FlagFP8, 4 * width, func(dst []float32, table []byte) {
				copy(dst, unsafe.Slice((*float32)(unsafe.Pointer(&table[at*4*width])), width))
			}},
			{"F16", metal.FlagFP8 | metal.FlagF16, 2 * width, func(dst []float32, table []byte) {
				for i := range dst {
					dst[i] = quant.F16ToF32(binary.LittleEndian.Uint16(table[at*2*width+2*i:]))
				}
			}},
			{"panels", metal.FlagFP4, metal.IndexPanelBytes(width) / metal.IndexPanel, func(dst []float32, table []byte) {
				codes, scales := make([]byte, width), make([]float32, width/metal.Int8Block)
				metal.IndexCodes(codes, scales, table, at)
				for i := range dst {
					dst[i] = float32(int8(codes[i])) * scales[i/metal.Int8Block]
				}
			}},
		} {
			for _, broken := range []bool{false, true} {
				table := make([]byte, metal.IndexPanel*form.bytes)
				g := &Group{binds: make([]binding, 7), worker: &worker{set: set}}
				g.binds[6].data = table
				z, want, got := slices.Clone(row), slices.Clone(row), make([]float32, width)
				if broken {
					z[70] = float32(math.Inf(1))
				}
				a := metal.CompressArgs{Width: width, Rot: rot, Ratio: 4, Flags: form.flags, Eps: 1e-6}
				putCompressed(g, at, z, &a)
				form.read(got, table)
				if form.flags&metal.FlagFP4 != 0 {
					set.Hadamard(want)
					set.RoundFP4(want)
				}
				roundRow(set, want, width-rot, form.flags)
				if finite := !slices.ContainsFunc(got, func(v float32) bool { return v-v != 0 }); finite == broken {
					t.Errorf("%s, %s: finite %v, want %v", set.Name, form.name, finite, !broken)
				}
				for i := range want {
					if !broken && got[i] != want[i] {
						t.Fatalf("%s, %s: value %d is %v, want %v", set.Name, form.name, i, got[i], want[i])
					}
				}
				written := 0
				for _, b := range table {
					written += int(min(b, 1))
				}
				if written > form.bytes || written < form.bytes/3 && !broken { // codes of what is not finite may be any
					t.Errorf("%s, %s: %d bytes are written, a row has %d", set.Name, form.name, written, form.bytes)
				}
			}
		}
	}
}
