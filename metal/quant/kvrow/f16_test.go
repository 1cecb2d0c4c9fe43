package kvrow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"ds4/metal/quant"
)

// halvesOfRows are rows as F16, if that has all of their values.
func halvesOfRows(rows []float32) ([]byte, bool) {
	var b []byte
	for _, v := range rows {
		if math.Float32bits(f16(v)) != math.Float32bits(v) {
			return nil, false
		}
		b = binary.LittleEndian.AppendUint16(b, quant.F32ToF16(v))
	}
	return b, true
}

// halvesRoundTrip holds the functions for F16 to the bytes of those for float32.
func halvesRoundTrip(t *testing.T, c *Codec, halves, want []byte) {
	t.Helper()
	packed, back := make([]byte, len(want)), make([]byte, len(halves))
	if err := c.PackF16(packed, halves); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(packed, want) {
		t.Fatalf("halves are packed as %x, the same values as float32 as %x", packed, want)
	}
	if err := c.UnpackF16(back, packed); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back, halves) {
		t.Fatalf("halves come back as %x, want %x", back, halves)
	}
}

// TestPackF16EveryHalf: PackF16 takes what Pack takes, and refuses the rest with
// the same words.
func TestPackF16EveryHalf(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	c := codec(t, Part{E4M3, e4m3Block}, Part{F16, 1})
	taken := 0
	step := 1
	if testing.Short() {
		step = shortStep
	}
	for h := 0; h < 1<<16; h += step {
		halves := make([]byte, 2*c.Values())
		binary.LittleEndian.PutUint16(halves[2*(h%c.Values()):], uint16(h))
		if h%2 == 0 { // among others
			for i := range 8 {
				binary.LittleEndian.PutUint16(halves[2*rng.IntN(c.Values()):], uint16(h)+uint16(i)<<7)
			}
		}
		rows := make([]float32, c.Values())
		for i := range rows {
			rows[i] = quant.F16ToF32(binary.LittleEndian.Uint16(halves[2*i:]))
		}
		packed, want := make([]byte, c.Bytes()), make([]byte, c.Bytes())
		err, wantErr := c.PackF16(packed, halves), c.Pack(want, rows)
		switch {
		case (err == nil) != (wantErr == nil), err != nil && err.Error() != wantErr.Error():
			t.Fatalf("%04x: %v, want %v", h, err, wantErr)
		case err == nil:
			halvesRoundTrip(t, c, halves, want)
			taken++
		}
	}
	if taken < 500/step {
		t.Errorf("only %d rows are taken", taken)
	}
}

// TestUnpackF16EveryByte: UnpackF16 takes what Unpack takes if F16 has the values,
// and the scale is one that it may have.
func TestUnpackF16EveryByte(t *testing.T) {
	c := codec(t, Part{E4M3, e4m3Block})
	taken := 0
	step := 1
	if testing.Short() {
		step = shortStep
	}
	for e := range 256 {
		for code := e % step; code < 256; code += step {
			packed := make([]byte, c.Bytes())
			packed[code%e4m3Block], packed[e4m3Block] = byte(code), byte(e)
			row := make([]float32, c.Values())
			wantErr := c.Unpack(row, packed)
			halves, ok := halvesOfRows(row)
			back := make([]byte, 2*c.Values())
			err := c.UnpackF16(back, packed)
			if wantErr != nil || !ok || e > bias+mostHalf {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("code %02x, exponent %d: %v", code, e, err)
				}
				continue
			}
			if err != nil || !bytes.Equal(back, halves) {
				t.Fatalf("code %02x, exponent %d: %v, %x, want %x", code, e, err, back, halves)
			}
			taken++
		}
	}
	if taken < 254*28/step {
		t.Errorf("only %d combinations are taken", taken)
	}
	f := codec(t, Part{F16, 5})
	for i := range f.Values() {
		packed := make([]byte, f.Bytes())
		packed[2*i+1] = 0x7C
		if err := f.UnpackF16(make([]byte, f.Bytes()), packed); !errors.Is(err, ErrCorrupt) {
			t.Errorf("infinity at %d: %v", i, err)
		}
	}
}

func TestF16Refuses(t *testing.T) {
	c := codec(t, Part{E4M3, e4m3Block}, Part{F16, 2})
	halves, packed := make([]byte, 2*c.Values()), make([]byte, c.Bytes())
	whole := codec(t, Part{E4M3, e4m3Block}, Part{F32, 2})
	for _, err := range []error{
		c.PackF16(packed[1:], halves), c.PackF16(packed, halves[1:]), c.PackF16(packed, halves[2:]),
		c.UnpackF16(halves, packed[1:]), c.UnpackF16(halves[1:], packed),
		whole.PackF16(make([]byte, whole.Bytes()), make([]byte, 2*whole.Values())),
		whole.UnpackF16(make([]byte, 2*whole.Values()), make([]byte, whole.Bytes())),
		new(Codec).PackF16(nil, nil), new(Codec).UnpackF16(nil, nil),
	} {
		if !errors.Is(err, ErrSize) {
			t.Errorf("wrong sizes: %v", err)
		}
	}
	binary.LittleEndian.PutUint16(halves[2*40:], 0x5F00) // 448
	binary.LittleEndian.PutUint16(halves[2*41:], 0x3C40) // 1.0625
	err := c.PackF16(packed, halves)
	if err == nil || !strings.Contains(err.Error(), "row 0, value 41 of e4m3*64+f16*2 is 1.0625") {
		t.Error(err)
	}
	binary.LittleEndian.PutUint16(halves[2*41:], 0x0400) // 2^-14 has few bits, but is too small beside 448
	if err := c.PackF16(packed, halves); err == nil || !strings.Contains(err.Error(), "row 0, value 41 of e4m3*64+f16*2 is 6.1") {
		t.Error(err)
	}
}

func BenchmarkPackF16(b *testing.B) {
	c, rows, packed := benchRows(b, "kv")
	halves, _ := halvesOfRows(rows)
	b.SetBytes(int64(len(packed)))
	for b.Loop() {
		if err := c.PackF16(packed, halves); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/value")
}

func BenchmarkUnpackF16(b *testing.B) {
	c, rows, packed := benchRows(b, "kv")
	halves, _ := halvesOfRows(rows)
	b.SetBytes(int64(len(packed)))
	for b.Loop() {
		if err := c.UnpackF16(halves, packed); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/value")
}
