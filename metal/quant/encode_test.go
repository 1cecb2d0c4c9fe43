package quant

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func TestHalfExhaustive(t *testing.T) {
	for h := range 1 << 16 {
		got, want := F16ToF32(uint16(h)), slowHalf(uint16(h))
		if !same(got, want) {
			t.Fatalf("F16ToF32(%#04x) = %v, want %v", h, got, want)
		}
		back := F32ToF16(got)
		if got == got && back != uint16(h) || got != got && back&0x7C00 != 0x7C00 {
			t.Fatalf("F32ToF16(%v) = %#04x, want %#04x", got, back, h)
		}
	}
}

// TestHalfRounding visits the midpoint above every positive half and its
// neighbours: the midpoint goes to the even side, the neighbours to their own.
func TestHalfRounding(t *testing.T) {
	for h := range uint16(0x7BFF) {
		lo, hi := F16ToF32(h), F16ToF32(h+1)
		mid := float32((float64(lo) + float64(hi)) / 2)
		even := h + h&1
		for _, tc := range []struct {
			f    float32
			want uint16
		}{
			{mid, even},
			{math.Nextafter32(mid, 0), h},
			{math.Nextafter32(mid, math.MaxFloat32), h + 1},
		} {
			if got := F32ToF16(tc.f); got != tc.want {
				t.Fatalf("F32ToF16(%v) = %#04x, want %#04x", tc.f, got, tc.want)
			}
			if got := F32ToF16(-tc.f); got != tc.want|0x8000 {
				t.Fatalf("F32ToF16(%v) = %#04x, want %#04x", -tc.f, got, tc.want|0x8000)
			}
		}
	}
	for f, want := range map[float32]uint16{65519.996: 0x7BFF, 65520: 0x7C00, 1e30: 0x7C00, float32(math.Inf(-1)): 0xFC00, 1e-30: 0} {
		if got := F32ToF16(f); got != want {
			t.Errorf("F32ToF16(%v) = %#04x, want %#04x", f, got, want)
		}
	}
}

func TestBF16(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.Float32().Draw(t, "f")
		got := BF16ToF32(F32ToBF16(f))
		if f != f {
			if got == got {
				t.Fatalf("NaN became %v", got)
			}
			return
		}
		if math.IsInf(float64(got), 0) {
			if math.Abs(float64(f)) < 0x1.FFp127 { // halfway beyond the largest bfloat16
				t.Fatalf("%v became %v", f, got)
			}
			return
		}
		// Nothing nearer exists: the neighbours on both sides are not closer.
		code := F32ToBF16(f)
		for _, other := range []uint16{code - 1, code + 1} {
			v := BF16ToF32(other)
			if (v < 0) == (got < 0) && v == v && math.Abs(float64(v)-float64(f)) < math.Abs(float64(got)-float64(f)) {
				t.Fatalf("%v became %v, %v is nearer", f, got, v)
			}
		}
	})
}

// relativeRMS encodes and decodes values and returns the error's size over
// the values' size.
func relativeRMS(t *testing.T, typ Type, values []float32) float64 {
	t.Helper()
	size, err := RowBytes(typ, len(values))
	if err != nil {
		t.Fatal(err)
	}
	row, back := bytes.Repeat([]byte{0xAA}, size), make([]float32, len(values))
	if err := EncodeRow(typ, row, values); err != nil {
		t.Fatal(err)
	}
	if err := DecodeRow(typ, back, row); err != nil {
		t.Fatal(err)
	}
	var num, den float64
	for i, v := range values {
		d := float64(back[i]) - float64(v)
		num, den = num+d*d, den+float64(v)*float64(v)
	}
	return math.Sqrt(num / den)
}

// TestEncoderQuality bounds the error on normally distributed weights, over
// twenty orders of magnitude that the F16 scales can hold.
func TestEncoderQuality(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, tc := range []struct {
		typ   Type
		limit float64
	}{
		{F32, 0}, {F16, 4e-4}, {BF16, 3e-3}, {Q8_0, 0.007}, {Q4_K, 0.075}, {Q2_K, 0.32}, {IQ2_XXS, 0.38},
	} {
		for _, scale := range []float32{0.01, 1, 100} {
			values := make([]float32, 4*BlockK)
			for i := range values {
				values[i] = float32(r.NormFloat64()) * scale
			}
			got := relativeRMS(t, tc.typ, values)
			t.Logf("%v at scale %g: relative rms error %.4f", tc.typ, scale, got)
			if got > tc.limit {
				t.Errorf("%v at scale %g: relative rms error %.4f, limit %.4f", tc.typ, scale, got, tc.limit)
			}
		}
	}
}

// TestEncodeIsStable encodes what was decoded: nothing may move any more for the
// types whose codes determine the values.
func TestEncodeIsStable(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, typ := range []Type{F32, F16, BF16, Q8_0} {
		values := make([]float32, 256)
		for i := range values {
			values[i] = float32(r.NormFloat64())
		}
		size, _ := RowBytes(typ, len(values))
		first, second := make([]byte, size), make([]byte, size)
		if err := EncodeRow(typ, first, values); err != nil {
			t.Fatal(err)
		}
		if err := DecodeRow(typ, values, first); err != nil {
			t.Fatal(err)
		}
		if err := EncodeRow(typ, second, values); err != nil {
			t.Fatal(err)
		}
		if typ != Q8_0 && !bytes.Equal(first, second) {
			t.Errorf("%v: encoding decoded values changed them", typ)
		}
		again := make([]float32, 256)
		if err := DecodeRow(typ, again, second); err != nil {
			t.Fatal(err)
		}
		for i := range again {
			if math.Abs(float64(again[i]-values[i])) > 1e-3*math.Abs(float64(values[i])) {
				t.Errorf("%v value %d moved from %v to %v", typ, i, values[i], again[i])
			}
		}
	}
}

// TestEncodeAnyFinite draws values over the whole range: encoding either fails
// with ErrRange or gives finite values whose error is bounded by the block's
// largest magnitude.
func TestEncodeAnyFinite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		typ := rapid.SampledFrom([]Type{Q8_0, Q2_K, Q4_K, IQ2_XXS}).Draw(t, "type")
		limit := rapid.Float32Range(0, math.MaxFloat32).Draw(t, "limit")
		values := rapid.SliceOfN(rapid.Float32Range(-limit, limit), BlockK, BlockK).Draw(t, "values")
		size, _ := RowBytes(typ, BlockK)
		row, back := make([]byte, size), make([]float32, BlockK)
		if err := EncodeRow(typ, row, values); err != nil {
			if limit < 60000 || !errors.Is(err, ErrRange) {
				t.Fatalf("values up to %v: %v", limit, err)
			}
			return
		}
		if err := DecodeRow(typ, back, row); err != nil {
			t.Fatal(err)
		}
		var amax float64
		for _, v := range values {
			amax = max(amax, math.Abs(float64(v)))
		}
		// Below 2^-24 the scales are subnormal halves or zero: the error is then
		// absolute, a few of the smallest halves times the codes.
		const tiny = 255 * 0x1p-24
		for i, v := range values {
			if d := math.Abs(float64(back[i]) - float64(v)); !(d <= amax*1.5+tiny) {
				t.Fatalf("value %d: %v became %v (largest %v)", i, v, back[i], amax)
			}
		}
	})
}

func TestEncodeSpecialRows(t *testing.T) {
	for _, typ := range []Type{Q8_0, Q2_K, Q4_K, IQ2_XXS} {
		size, _ := RowBytes(typ, BlockK)
		row, back := make([]byte, size), make([]float32, BlockK)
		if err := EncodeRow(typ, row, make([]float32, BlockK)); err != nil {
			t.Fatal(err)
		}
		if err := DecodeRow(typ, back, row); err != nil {
			t.Fatal(err)
		}
		for i, v := range back {
			if v != 0 {
				t.Errorf("%v: zero %d became %v", typ, i, v)
			}
		}
		for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), math.MaxFloat32} {
			values := make([]float32, BlockK)
			values[100] = bad
			if err := EncodeRow(typ, row, values); !errors.Is(err, ErrRange) {
				t.Errorf("%v: %v encoded with error %v", typ, bad, err)
			}
		}
	}
	for _, c := range []float32{1, -1, 0.37} { // constants need no code of their own
		values := make([]float32, BlockK)
		for i := range values {
			values[i] = c
		}
		for typ, limit := range map[Type]float64{Q8_0: 1e-3, Q4_K: 0.02, Q2_K: 0.07, IQ2_XXS: 0.1} {
			if got := relativeRMS(t, typ, values); got > limit {
				t.Errorf("%v: all %v: relative rms error %v, limit %v", typ, c, got, limit)
			}
		}
	}
}

func TestEncodeI32(t *testing.T) {
	row := make([]byte, 8)
	if err := EncodeRow(I32, row, []float32{-5, 1 << 24}); err != nil {
		t.Fatal(err)
	}
	got := make([]int32, 2)
	if err := DecodeInt32(got, row); err != nil || got[0] != -5 || got[1] != 1<<24 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []float32{0.5, 1 << 31, float32(math.NaN()), float32(math.Inf(-1))} {
		if err := EncodeRow(I32, row[:4], []float32{bad}); !errors.Is(err, ErrRange) {
			t.Errorf("%v encoded with error %v", bad, err)
		}
	}
}

func FuzzDecodeRow(f *testing.F) {
	f.Add(uint32(Q4_K), 256, make([]byte, 144))
	f.Add(uint32(IQ2_XXS), 256, make([]byte, 66))
	f.Add(uint32(Q8_0), 31, make([]byte, 34))
	f.Fuzz(func(t *testing.T, typ uint32, n int, row []byte) {
		if n < 0 || n > 1<<16 {
			return
		}
		dst := make([]float32, n)
		err := DecodeRow(Type(typ), dst, row)
		size, sizeErr := RowBytes(Type(typ), n)
		if (err == nil) != (sizeErr == nil && size == len(row)) {
			t.Fatalf("decode %d values of %v from %d bytes: %v", n, Type(typ), len(row), err)
		}
	})
}
