package kvrow

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"ds4/metal/quant"
)

func codec(t testing.TB, parts ...Part) *Codec {
	t.Helper()
	c, err := New(parts...)
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

// shortStep is which part of the cases is tried with -short: one in so many. It
// has no divisor in common with numbers of codes and values.
const shortStep = 19

var roundTrips int

// roundTrip packs and unpacks whole rows and compares bits.
func roundTrip(t *testing.T, c *Codec, rows []float32) []byte {
	t.Helper()
	packed := make([]byte, len(rows)/c.Values()*c.Bytes())
	if err := c.Pack(packed, rows); err != nil {
		t.Fatalf("%v: %v", rows, err)
	}
	back := make([]float32, len(rows))
	if err := c.Unpack(back, packed); err != nil {
		t.Fatalf("%v: %v", rows, err)
	}
	for i, v := range rows {
		if math.Float32bits(v) != math.Float32bits(back[i]) {
			t.Fatalf("value %d: %v (%08x) comes back as %v (%08x)", i, v, math.Float32bits(v), back[i], math.Float32bits(back[i]))
		}
	}
	if roundTrips++; c.Halves() && (!testing.Short() || roundTrips%shortStep == 0) {
		if halves, ok := halvesOfRows(rows); ok {
			halvesRoundTrip(t, c, halves, packed)
		}
	}
	return packed
}

// f16 is what a kernel makes of a value that it rounds to F16.
func f16(v float32) float32 { return quant.F16ToF32(quant.F32ToF16(v)) }

// block returns a block that holds v at place i, other at the next, and zeros of
// both signs.
func block(n, i int, v, other float32) []float32 {
	b := make([]float32, n)
	for j := 1; j < n; j += 2 {
		b[j] = float32(math.Copysign(0, -1))
	}
	b[i%n], b[(i+1)%n] = v, other
	return b
}

// exponentsE4M3 are the scales that the forward pass can choose: 2^-22 for the
// smallest block maximum, 1e-4, and the largest that Pack takes.
const (
	minScaleE4M3 = -22
	maxScaleE4M3 = maxE4M3 - bias
)

// TestEveryE4M3: every code with every scale, alone in its block, under a larger
// value, and among all other codes, rounded to F16 afterwards and not.
func TestEveryE4M3(t *testing.T) {
	c := codec(t, Part{E4M3, e4m3Block})
	tried := 0
	for _, round := range []bool{true, false} {
		for s := minScaleE4M3; s <= maxScaleE4M3; s++ {
			value := func(code int) (float32, bool) {
				v := e4m3[code&255] * power(s)
				if round {
					v = f16(v)
				}
				return v, isFinite(v)
			}
			for code := range 256 {
				v, ok := value(code)
				if !ok {
					continue
				}
				roundTrip(t, c, block(e4m3Block, code, v, 0))
				for _, top := range []int{0x7E, 0xFE, 0x78, 0x08, 0x01} {
					if w, ok := value(top); ok {
						roundTrip(t, c, block(e4m3Block, code, v, w))
					}
				}
				tried++
			}
			var all []float32
			for code := range 256 {
				if v, ok := value(code); ok {
					all = append(all, v)
				} else {
					all = append(all, 0)
				}
			}
			roundTrip(t, c, all)
		}
	}
	// 31 scales after F16, less what overflows; 142 without.
	if tried < 254*(31-3)+254*142 {
		t.Errorf("tried %d codes and scales", tried)
	}
}

// TestEveryE2M1: the same for FP4, whose rows are not rounded again.
func TestEveryE2M1(t *testing.T) {
	c := codec(t, Part{E2M1, e2m1Block})
	for s := minExponent; s <= maxE2M1-bias; s++ {
		all := make([]float32, e2m1Block)
		for code := range 2 * 16 {
			all[code] = e2m1[code] * power(s)
			roundTrip(t, c, block(e2m1Block, code, all[code], 0))
			for other := range 16 {
				roundTrip(t, c, block(e2m1Block, code, all[code], e2m1[other]*power(s)))
			}
		}
		roundTrip(t, c, all)
	}
}

// TestEveryF16: all halves, at every place that the loops treat differently.
func TestEveryF16(t *testing.T) {
	for _, n := range []int{1, 4, 7} {
		c := codec(t, Part{F16, n})
		packed, back := make([]byte, 2*n), make([]float32, n)
		for h := range 1 << 16 {
			for i := range n {
				row := make([]float32, n)
				row[i] = quant.F16ToF32(uint16(h))
				if isFinite(row[i]) {
					roundTrip(t, c, row)
					continue
				}
				if err := c.Pack(packed, row); !errors.Is(err, ErrInexact) {
					t.Fatalf("half %04x at %d: %v", h, i, err)
				}
				clear(packed)
				packed[2*i], packed[2*i+1] = byte(h), byte(h>>8)
				if err := c.Unpack(back, packed); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("bytes of half %04x at %d: %v", h, i, err)
				}
			}
		}
	}
}

// TestScaleIsSmallest: equal blocks have equal bytes, whatever scale the forward
// pass chose.
func TestScaleIsSmallest(t *testing.T) {
	for _, x := range []struct {
		part Part
		top  float32
		want byte
	}{
		{Part{E4M3, e4m3Block}, 448, bias},
		{Part{E4M3, e4m3Block}, 224, bias - 1},
		{Part{E4M3, e4m3Block}, 240, bias},
		{Part{E4M3, e4m3Block}, -256, bias},
		{Part{E4M3, e4m3Block}, 0x1p-24, bias - 32},
		{Part{E4M3, e4m3Block}, 0, 1},
		{Part{E2M1, e2m1Block}, 6, bias},
		{Part{E2M1, e2m1Block}, -3, bias - 1},
		{Part{E2M1, e2m1Block}, 4, bias},
		{Part{E2M1, e2m1Block}, 0x1p-127, 1},
		{Part{E2M1, e2m1Block}, 0, 1},
	} {
		packed := roundTrip(t, codec(t, x.part), block(x.part.Values, 9, x.top, 0))
		if got := packed[len(packed)-1]; got != x.want {
			t.Errorf("%v with %v: exponent byte %d, want %d", x.part, x.top, got, x.want)
		}
	}
}

// TestRefuses: what is not of the form is refused, and the error names it.
func TestRefuses(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	fp8, fp4 := Part{E4M3, 2 * e4m3Block}, Part{E2M1, 2 * e2m1Block}
	for _, x := range []struct {
		part Part
		v    float32
		top  float32
	}{
		{fp8, nan, 1}, {fp8, inf, 1}, {fp8, 1, nan},
		{fp8, 17, 1},                     // five significant bits
		{fp8, math.Nextafter32(1, 2), 1}, // one bit off
		{fp8, math.Nextafter32(1, 0), 1}, //
		{fp8, 0x1p-10, 448},              // under the smallest code
		{fp8, 3 * 0x1p-10, 448},          // between two of them
		{fp8, math.MaxFloat32, 0},        //
		{fp8, 0x1.ep127, 0},              // a scale whose largest code is infinite
		{fp8, 0x1p-149, 0x1p-120},        //
		{fp4, nan, 1}, {fp4, inf, 1},     //
		{fp4, 5, 1}, {fp4, 2.5, 6}, // three significant bits
		{fp4, 0.25, 6},                    // under the smallest code
		{fp4, math.Nextafter32(1, 2), 1},  //
		{fp4, 0x1p-128, 0},                // under the smallest code of the smallest scale
		{fp4, math.MaxFloat32, 0},         //
		{Part{F16, 2 * 64}, 2049, 1},      // twelve significant bits
		{Part{F16, 2 * 64}, 0x1p-25, 1},   //
		{Part{F16, 2 * 64}, 65520, 1},     //
		{Part{F32, 2 * 64}, nan, 1},       //
		{Part{F32, 2 * 64}, inf, 1},       //
		{Part{F16, 2 * 64}, nan, 1},       //
		{Part{F16, 2 * 64}, 0x1.8p-25, 1}, //
	} {
		c := codec(t, Part{F32, 3}, x.part)
		rows := make([]float32, 2*c.Values())
		at := c.Values() + 3 + x.part.Values/2 + 5
		rows[at], rows[at+1] = x.v, x.top
		err := c.Pack(make([]byte, 2*c.Bytes()), rows)
		if !errors.Is(err, ErrInexact) || !strings.Contains(err.Error(), "row 1, value ") {
			t.Errorf("%v with %v among %v: %v", c, x.v, x.top, err)
		}
	}
}

// TestErrorNamesTheValue even if another one of the block decides its scale.
func TestErrorNamesTheValue(t *testing.T) {
	c := codec(t, Part{E4M3, e4m3Block}, Part{F16, 2})
	row := make([]float32, c.Values())
	row[40], row[41] = 448, 1.0625
	err := c.Pack(make([]byte, c.Bytes()), row)
	if err == nil || !strings.Contains(err.Error(), "row 0, value 41 of e4m3*64+f16*2 is 1.0625") {
		t.Error(err)
	}
}

// TestUnpackEveryByte: every code with every exponent byte gives finite values
// or ErrCorrupt, and what it gives can be packed again.
func TestUnpackEveryByte(t *testing.T) {
	accepted := 0
	for _, p := range []Part{{E4M3, e4m3Block}, {E2M1, e2m1Block}} {
		c := codec(t, p)
		for e := range 256 {
			for code := range 256 {
				packed := make([]byte, c.Bytes())
				packed[code%(len(packed)-1)], packed[len(packed)-1] = byte(code), byte(e)
				row := make([]float32, c.Values())
				err := c.Unpack(row, packed)
				bad := e == 0 || p.Form == E4M3 && (e > maxE4M3 || code&0x7F == 0x7F) || e > maxE2M1
				if bad != errors.Is(err, ErrCorrupt) || !bad && err != nil {
					t.Fatalf("%v, code %02x, exponent %d: %v", p, code, e, err)
				}
				if err == nil {
					roundTrip(t, c, row)
					accepted++
				}
			}
		}
	}
	if accepted < 200*254*2 {
		t.Errorf("only %d combinations are accepted", accepted)
	}
	c := codec(t, Part{F32, 2})
	for _, v := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
		b := math.Float32bits(v)
		if err := c.Unpack(make([]float32, 2), []byte{0, 0, 0, 0, byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24)}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: %v", v, err)
		}
	}
}

// TestRows: several rows of several parts keep their places.
func TestRows(t *testing.T) {
	c := codec(t, Part{F32, 0}, Part{E4M3, 128}, Part{F16, 6}, Part{E2M1, 32}, Part{F32, 3})
	if c.Values() != 169 || c.Bytes() != 130+12+17+12 || c.String() != "e4m3*128+f16*6+e2m1*32+f32*3" {
		t.Fatalf("%v: %d values in %d bytes", c, c.Values(), c.Bytes())
	}
	rng := rand.New(rand.NewPCG(1, 2))
	one := func() (row []float32) {
		for range 128 {
			row = append(row, e4m3[rng.IntN(0x7F)|rng.IntN(2)<<7]*power(rng.IntN(3)-1))
		}
		for i := range row { // of 3 scales in a block, keep what the largest holds
			row[i] = float32(math.Copysign(math.Round(math.Abs(float64(row[i]))*64)/64, float64(row[i])))
			row[i] = fourBits(row[i])
		}
		for range 6 {
			row = append(row, f16(float32(rng.NormFloat64())))
		}
		for range 32 {
			row = append(row, e2m1[rng.IntN(16)]*8)
		}
		return append(row, rng.Float32(), -rng.Float32(), 1)
	}
	var rows []float32
	for range 5 {
		rows = append(rows, one()...)
	}
	packed := roundTrip(t, c, rows)
	for i := range 5 {
		if single := roundTrip(t, c, rows[i*c.Values():(i+1)*c.Values()]); !bytes.Equal(single, packed[i*c.Bytes():(i+1)*c.Bytes()]) {
			t.Errorf("row %d depends on the others", i)
		}
	}
	for _, err := range []error{
		c.Pack(packed[1:], rows), c.Pack(packed, rows[1:]), c.Unpack(rows, packed[1:]), c.Unpack(rows[1:], packed),
		new(Codec).Pack(nil, nil),
	} {
		if !errors.Is(err, ErrSize) {
			t.Errorf("wrong sizes: %v", err)
		}
	}
}

// fourBits cuts a value to four significant bits.
func fourBits(v float32) float32 {
	return math.Float32frombits(math.Float32bits(v) &^ 0xFFFFF)
}

func TestNewRefuses(t *testing.T) {
	for _, parts := range [][]Part{nil, {{F16, 0}}, {{E4M3, 65}}, {{E2M1, 16}}, {{F32, -1}}, {{F32, maxValues}, {F16, 1}}, {{Form: 4, Values: 1}}} {
		if c, err := New(parts...); !errors.Is(err, ErrSize) {
			t.Errorf("%v: %v, %v", parts, c, err)
		}
	}
}

// benchRows is rows of a small model: 128 values of FP8, 64 halves; or 128 of FP4.
func benchRows(b *testing.B, name string) (c *Codec, rows []float32, packed []byte) {
	rng := rand.New(rand.NewPCG(1, 2))
	c = codec(b, Part{E4M3, 128}, Part{F16, 64})
	if name == "index" {
		c = codec(b, Part{E2M1, 128})
	}
	rows, packed = make([]float32, 512*c.Values()), make([]byte, 512*c.Bytes())
	for i := range rows {
		switch {
		case name == "index":
			rows[i] = e2m1[rng.IntN(16)] / 4
		case i%192 < 128:
			rows[i] = e4m3[rng.IntN(0x7F)|rng.IntN(2)<<7] / 128
		default:
			rows[i] = f16(float32(rng.NormFloat64()))
		}
	}
	if err := c.Pack(packed, rows); err != nil {
		b.Fatal(err)
	}
	return c, rows, packed
}

func BenchmarkPack(b *testing.B) {
	for _, name := range []string{"kv", "index"} {
		b.Run(name, func(b *testing.B) {
			c, rows, packed := benchRows(b, name)
			b.SetBytes(int64(len(packed)))
			for b.Loop() {
				if err := c.Pack(packed, rows); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/value")
		})
	}
}

func BenchmarkUnpack(b *testing.B) {
	for _, name := range []string{"kv", "index"} {
		b.Run(name, func(b *testing.B) {
			c, rows, packed := benchRows(b, name)
			b.SetBytes(int64(len(packed)))
			for b.Loop() {
				if err := c.Unpack(rows, packed); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/value")
		})
	}
}
