package kvrow

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// int8OfRow is the int8 form of a row by its definition.
func int8OfRow(row []float32) (codes []byte, scales []float32) {
	for i := 0; i < len(row); i += Int8Block {
		top := 0x1p-100
		for _, v := range row[i : i+Int8Block] {
			top = max(top, math.Abs(float64(v)))
		}
		_, e := math.Frexp(top) // top < 2^e
		for _, v := range row[i : i+Int8Block] {
			codes = append(codes, byte(int8(math.RoundToEven(math.Ldexp(float64(v), int8Bits-e)))))
		}
		scales = append(scales, float32(math.Ldexp(1, e-int8Bits)))
	}
	return codes, scales
}

// TestInt8 holds int8 rows to float32 ones, with every scale: all codes in their
// block, those under a bound, and one alone.
func TestInt8(t *testing.T) {
	const n = 2 * e2m1Block
	c := codec(t, Part{E2M1, n})
	rng := rand.New(rand.NewPCG(1, 2))
	for s := minExponent; s <= maxE2M1-bias; s++ {
		for _, most := range []int{1, 2, 5, 7, 8} { // codes under it
			row := make([]float32, n)
			for i := range row {
				row[i] = e2m1[rng.IntN(most)+8*rng.IntN(2)] * power(s)
			}
			if most == 1 {
				row[rng.IntN(n)] = e2m1[rng.IntN(8)] * power(s)
			}
			for i := range row {
				row[i] += 0 // a zero has no sign
			}
			want := make([]byte, c.Bytes())
			if err := c.Pack(want, row); err != nil {
				t.Fatal(err)
			}
			int8RoundTrip(t, c, row, want)
		}
	}
}

func int8RoundTrip(t *testing.T, c *Codec, row []float32, packed []byte) {
	t.Helper()
	wantCodes, wantScales := int8OfRow(row)
	codes, scales := make([]byte, c.Values()), make([]float32, c.Values()/Int8Block)
	if err := c.UnpackInt8(codes, scales, packed); err != nil {
		t.Fatal(err)
	}
	for i := range scales {
		if scales[i] != wantScales[i] || !bytes.Equal(codes[i*Int8Block:][:Int8Block], wantCodes[i*Int8Block:][:Int8Block]) {
			t.Fatalf("%v is unpacked as %v times %v, want %v times %v", row, codes, scales, wantCodes, wantScales)
		}
	}
	if magnitude(row)>>23 < bias+minExponent+40 {
		return // values under the smallest scale are lost: they are not in any row
	}
	got := make([]byte, len(packed))
	if err := c.PackInt8(got, codes, scales); err != nil {
		t.Fatalf("%v times %v: %v", codes, scales, err)
	}
	if !bytes.Equal(got, packed) {
		t.Fatalf("%v is packed as %x, want %x", row, got, packed)
	}
}

// TestUnpackInt8EveryByte: what Unpack takes, and refuses, with any scale that the
// bytes may have.
func TestUnpackInt8EveryByte(t *testing.T) {
	c := codec(t, Part{E2M1, e2m1Block})
	codes, scales := make([]byte, e2m1Block), make([]float32, 1)
	for e := range 256 {
		for code := range 256 {
			packed := make([]byte, c.Bytes())
			packed[code%(e2m1Block/2)], packed[e2m1Block/2] = byte(code), byte(e)
			row := make([]float32, e2m1Block)
			wantErr := c.Unpack(row, packed)
			if err := c.UnpackInt8(codes, scales, packed); (err != nil) != (wantErr != nil) || err != nil && err.Error() != wantErr.Error() {
				t.Fatalf("code %02x, exponent %d: %v, want %v", code, e, err, wantErr)
			}
			if want, wantScales := int8OfRow(row); wantErr == nil && (scales[0] != wantScales[0] || !bytes.Equal(codes, want)) {
				t.Fatalf("code %02x, exponent %d: %v times %v, want %v times %v", code, e, codes, scales, want, wantScales)
			}
		}
	}
}

// TestPackInt8Refuses: what is not FP4 or not finite.
func TestPackInt8Refuses(t *testing.T) {
	c := codec(t, Part{E2M1, 2 * e2m1Block})
	dst, scales := make([]byte, c.Bytes()), []float32{1, 0.25}
	for code := range 256 {
		codes := make([]byte, c.Values())
		codes[0], codes[40], codes[41] = 48, 48, byte(code)
		row := make([]float32, c.Values())
		for i := range row {
			row[i] = float32(int8(codes[i])) * scales[i/Int8Block]
		}
		want := make([]byte, c.Bytes())
		err, wantErr := c.PackInt8(dst, codes, scales), c.Pack(want, row)
		if (err != nil) != (wantErr != nil) || err != nil && err.Error() != wantErr.Error() || err == nil && !bytes.Equal(dst, want) {
			t.Errorf("code %d: %x, %v, want %x, %v", int8(code), dst, err, want, wantErr)
		}
	}
	codes := make([]byte, c.Values())
	codes[0] = 40
	if err := c.PackInt8(dst, codes, scales); !errors.Is(err, ErrInexact) || !strings.Contains(err.Error(), "row 0, value 0 of e2m1*64 is 40") {
		t.Errorf("40 alone: %v", err)
	}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
		codes := bytes.Repeat([]byte{48, 4}, e2m1Block)
		if err := c.PackInt8(dst, codes, []float32{1, bad}); !errors.Is(err, ErrInexact) {
			t.Errorf("scale %v: %v", bad, err)
		}
	}
	plain := codec(t, Part{F16, 64})
	for _, err := range []error{
		c.PackInt8(dst[1:], codes, scales), c.PackInt8(dst, codes[1:], scales), c.PackInt8(dst, codes, scales[1:]),
		c.UnpackInt8(codes, scales, dst[1:]), plain.PackInt8(make([]byte, 128), codes, scales), plain.UnpackInt8(codes, scales, make([]byte, 128)),
	} {
		if !errors.Is(err, ErrSize) {
			t.Errorf("wrong sizes: %v", err)
		}
	}
}

// TestPackInt8AnyScale: a row is packed as its values are, whatever scale and codes
// say them.
func TestPackInt8AnyScale(t *testing.T) {
	c := codec(t, Part{E2M1, e2m1Block})
	for _, scale := range []float32{1, 1.5, 0.75, -1, 0, 0x1p-100, 0x1p-126, 0x1p-149, 0x1p110} {
		for _, most := range []int{1, 4, 8, 16, 24, 32, 48, 64, 96} { // the largest code
			codes, row := make([]byte, e2m1Block), make([]float32, e2m1Block)
			for i, share := range []int{most, -most, most / 2, most / 4, 0} {
				codes[7*i] = byte(share)
			}
			for i := range row {
				row[i] = float32(int8(codes[i])) * scale
			}
			got, want := make([]byte, c.Bytes()), make([]byte, c.Bytes())
			err, wantErr := c.PackInt8(got, codes, []float32{scale}), c.Pack(want, row)
			if (err != nil) != (wantErr != nil) || err == nil && !bytes.Equal(got, want) {
				t.Errorf("codes up to %d times %v: %x, %v, want %x, %v", most, scale, got, err, want, wantErr)
			}
		}
	}
}

func BenchmarkPackInt8(b *testing.B) { benchInt8(b, (*Codec).PackInt8) }
func BenchmarkUnpackInt8(b *testing.B) {
	benchInt8(b, func(c *Codec, packed, codes []byte, scales []float32) error {
		return c.UnpackInt8(codes, scales, packed)
	})
}

func benchInt8(b *testing.B, f func(c *Codec, packed, codes []byte, scales []float32) error) {
	c, rows, packed := benchRows(b, "index")
	codes, scales := int8OfRow(rows[:c.Values()])
	b.SetBytes(int64(c.Bytes()))
	for b.Loop() {
		if err := f(c, packed[:c.Bytes()], codes, scales); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.Values()), "ns/value")
}
