package quant

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// reference decodes value i of a row with the formula of the format, one value
// at a time and without this package's tables.
func reference(t Type, row []byte, i int) float32 {
	half := func(b []byte) float32 { return slowHalf(binary.LittleEndian.Uint16(b)) }
	b := row[i/t.BlockSize()*t.BlockBytes():]
	i %= t.BlockSize()
	switch t {
	case F32:
		return math.Float32frombits(binary.LittleEndian.Uint32(b))
	case F16:
		return half(b)
	case BF16:
		return math.Float32frombits(uint32(b[1])<<24 | uint32(b[0])<<16)
	case I32:
		return float32(int32(binary.LittleEndian.Uint32(b)))
	case Q8_0:
		return half(b) * float32(int8(b[2+i]))
	case Q2_K:
		code := b[16+32*(i/128)+i%32] >> (2 * (i % 128 / 32)) & 3
		sc := b[i/16]
		x := half(b[80:]) * float32(sc&15) * float32(code)
		return x - half(b[82:])*float32(sc>>4)
	case Q4_K:
		// The twelve bytes as one number of 96 bits would be easier; as fields:
		s, j := b[4:16], i/32
		var a, m byte
		if j < 4 {
			a, m = s[j]&63, s[j+4]&63
		} else {
			a, m = s[j+4]&15|s[j-4]>>6<<4, s[j+4]>>4|s[j]>>6<<4
		}
		code := b[16+32*(i/64)+i%32] >> (4 * (i % 64 / 32)) & 15
		x := half(b) * float32(a) * float32(code)
		return x - half(b[2:])*float32(m)
	case IQ2_XXS:
		g := b[2+8*(i/32):]
		w := binary.LittleEndian.Uint32(g[4:])
		k, j := i%32/8, i%8
		seven := w >> (7 * k) & 127
		minus := seven>>j&1 == 1
		if j == 7 {
			minus = bits.OnesCount32(seven)%2 == 1
		}
		v := float32([]int{8, 25, 43}[gridCodes[g[k]]>>(2*j)&3])
		if minus {
			v = -v
		}
		return half(b) * (0.5 + float32(w>>28)) * 0.25 * v
	}
	panic("no reference for " + t.String())
}

// slowHalf computes a half from its fields.
func slowHalf(h uint16) float32 {
	sign, exp, frac := 1.0, int(h>>10&31), float64(h&1023)
	if h&0x8000 != 0 {
		sign = -1
	}
	switch {
	case exp == 31 && frac != 0:
		return float32(math.NaN())
	case exp == 31:
		return float32(sign * math.Inf(1))
	case exp == 0:
		return float32(math.Copysign(math.Ldexp(frac, -24), sign))
	}
	return float32(sign * math.Ldexp(1024+frac, exp-25))
}

func same(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

func TestGridChecksums(t *testing.T) {
	var packed, expanded []byte
	for i, c := range gridCodes {
		packed = binary.LittleEndian.AppendUint16(packed, c)
		for _, v := range GridPoint(uint8(i)) {
			expanded = append(expanded, byte(v))
		}
	}
	for _, tc := range []struct {
		data []byte
		want string
	}{
		{packed, "915952ebc4af8ddba8113583ca1316fc818843f7b825bbf1a25ae1c39bf0e16d"},
		{expanded, "05826b5d3e472a3a78f196be62ac78acf81df0f909626e12ab9fa2a5d490dd54"},
	} {
		sum := sha256.Sum256(tc.data)
		if got := hex.EncodeToString(sum[:]); got != tc.want {
			t.Errorf("sha256 of %d bytes is %s, want %s", len(tc.data), got, tc.want)
		}
	}
}

func TestSignBitsAreEven(t *testing.T) {
	for s := range 256 {
		got := SignBits(uint8(s))
		if bits.OnesCount8(got)%2 != 0 || got&127 != uint8(s)&127 {
			t.Errorf("SignBits(%#x) = %#x", s, got)
		}
	}
}

func TestRandomBlocksMatchReference(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, typ := range Types() {
		for range 50 {
			n := typ.BlockSize() * (1 + r.IntN(19))
			size, err := RowBytes(typ, n)
			if err != nil {
				t.Fatal(err)
			}
			row := make([]byte, size)
			for i := range row {
				row[i] = byte(r.Uint32())
			}
			dst := make([]float32, n)
			if err := DecodeRow(typ, dst, row); err != nil {
				t.Fatal(err)
			}
			for i, got := range dst {
				if want := reference(typ, row, i); !same(got, want) {
					t.Fatalf("%v value %d is %v, want %v (row %x)", typ, i, got, want, row)
				}
			}
		}
	}
}

func TestGoldenBlocks(t *testing.T) {
	f, err := os.Open("testdata/blocks.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	tested := 0
	for sc.Scan() {
		name, block, ok := strings.Cut(sc.Text(), " ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		i := slices.IndexFunc(Types(), func(typ Type) bool { return typ.String() == name })
		if i < 0 {
			t.Fatalf("bad test data: type %q", name)
		}
		typ := Types()[i]
		row, err := hex.DecodeString(block)
		if err != nil || !sc.Scan() {
			t.Fatalf("bad test data for %v: %v", typ, err)
		}
		want := strings.Fields(sc.Text())
		dst := make([]float32, len(want))
		if err := DecodeRow(typ, dst, row); err != nil {
			t.Fatal(err)
		}
		for i, w := range want {
			b, err := strconv.ParseUint(w, 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			if v := math.Float32frombits(uint32(b)); v != dst[i] {
				t.Errorf("%v value %d is %v, want %v", typ, i, dst[i], v)
			}
		}
		tested++
	}
	if tested != 4 {
		t.Errorf("tested %d blocks, want 4", tested)
	}
}

// TestHandMadeBlocks decodes blocks whose values can be checked in the head.
func TestHandMadeBlocks(t *testing.T) {
	one := []byte{0x00, 0x3C} // 1.0 as F16
	q8 := append(append([]byte{}, one...), make([]byte, 32)...)
	q8[2], q8[3] = 127, 0x80

	q2 := make([]byte, bytesQ2_K)
	copy(q2[80:], one)
	copy(q2[82:], one)
	q2[0] = 5 | 2<<4     // sub-block 0: scale 5, minimum 2
	q2[16] = 3 | 1<<2    // value 0 has code 3, value 32 has code 1
	q2[2] = 7            // sub-block 2: scale 7, no minimum
	q2[16+32+5] = 2 << 6 // value 128+96+5 has code 2
	q2[14] = 9 << 4      // its sub-block: scale 0, minimum 9

	q4 := make([]byte, bytesQ4_K)
	copy(q4, one)
	copy(q4[2:], one)
	q4[4] = 10 | 2<<6  // scale 0 is 10; upper bits of scale 4
	q4[8] = 3 | 1<<6   // minimum 0 is 3; upper bits of minimum 4
	q4[12] = 4 | 5<<4  // lower bits of scale 4 and minimum 4
	q4[16] = 15        // value 0 has code 15
	q4[16+64] = 1 | 15 // value 128 has code 15

	iq := make([]byte, bytesIQ2_XXS)
	copy(iq, one)
	iq[2] = 1 // grid 0002: coordinate 0 is 43, others 8
	binary.LittleEndian.PutUint32(iq[6:], 3<<28|0b1)

	for _, tc := range []struct {
		typ   Type
		block []byte
		want  map[int]float32
	}{
		{Q8_0, q8, map[int]float32{0: 127, 1: -128, 2: 0}},
		{Q2_K, q2, map[int]float32{0: 5*3 - 2, 1: -2, 32: 7, 33: 0, 229: -9, 100: 0}},
		{Q4_K, q4, map[int]float32{0: 10*15 - 3, 1: -3, 128: (4+32)*15 - (5 + 16), 129: -21}},
		// scale 3.5/4; bit 0 is minus, so coordinate 7 is minus too
		{IQ2_XXS, iq, map[int]float32{0: -43 * 0.875, 1: 8 * 0.875, 7: -8 * 0.875, 8: 8 * 0.875, 32: 8 * 0.125}},
	} {
		dst := make([]float32, tc.typ.BlockSize())
		if err := DecodeRow(tc.typ, dst, tc.block); err != nil {
			t.Fatal(err)
		}
		for i, want := range tc.want {
			if dst[i] != want {
				t.Errorf("%v value %d is %v, want %v", tc.typ, i, dst[i], want)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for _, tc := range []struct {
		typ      Type
		n, bytes int
		err      error
	}{
		{F32, 3, 12, nil}, {F16, 3, 6, nil}, {BF16, 3, 6, nil}, {I32, 3, 12, nil},
		{Q8_0, 64, 68, nil}, {Q2_K, 512, 168, nil}, {Q4_K, 256, 144, nil}, {IQ2_XXS, 256, 66, nil},
		{F32, 0, 0, nil}, {Q4_K, 0, 0, nil},
		{Q8_0, 33, 0, ErrBlock}, {Q4_K, 128, 0, ErrBlock}, {F32, -1, 0, ErrBlock}, {Q4_K, -256, 0, ErrBlock},
		{F32, math.MaxInt, 0, ErrTooLarge}, {F16, math.MaxInt/2 + 1, 0, ErrTooLarge},
		{Type(14), 256, 0, ErrUnknownType}, {Type(1 << 31), 1, 0, ErrUnknownType},
	} {
		got, err := RowBytes(tc.typ, tc.n)
		if got != tc.bytes || !errors.Is(err, tc.err) {
			t.Errorf("RowBytes(%v, %d) = %d, %v; want %d, %v", tc.typ, tc.n, got, err, tc.bytes, tc.err)
		}
	}
}

func TestDecodeRefusesWrongLengths(t *testing.T) {
	for _, typ := range Types() {
		n := typ.BlockSize() * 2
		size, _ := RowBytes(typ, n)
		for _, bytes := range []int{0, size - 1, size + 1, size * 2} {
			dst := make([]float32, n)
			if err := DecodeRow(typ, dst, make([]byte, bytes)); !errors.Is(err, ErrLength) {
				t.Errorf("decode %d values of %v from %d bytes: %v", n, typ, bytes, err)
			}
			if err := EncodeRow(typ, make([]byte, bytes), dst); !errors.Is(err, ErrLength) {
				t.Errorf("encode %d values of %v to %d bytes: %v", n, typ, bytes, err)
			}
		}
	}
	if err := DecodeRow(Type(14), make([]float32, 256), make([]byte, 210)); !errors.Is(err, ErrUnknownType) || !strings.Contains(err.Error(), "Q6_K") {
		t.Errorf("unsupported type: %v", err)
	}
	if err := DecodeInt32(make([]int32, 2), make([]byte, 7)); !errors.Is(err, ErrLength) {
		t.Errorf("short I32 row: %v", err)
	}
}

func TestDecodeInt32(t *testing.T) {
	got := make([]int32, 3)
	if err := DecodeInt32(got, []byte{1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0x80}); err != nil {
		t.Fatal(err)
	}
	if got[0] != 1 || got[1] != -1 || got[2] != math.MinInt32 {
		t.Errorf("got %v", got)
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	for _, typ := range Types() {
		size, _ := RowBytes(typ, 512)
		src, dst := make([]byte, size), make([]float32, 512)
		if n := testing.AllocsPerRun(10, func() { _ = DecodeRow(typ, dst, src) }); n != 0 {
			t.Errorf("decoding %v allocates %v times", typ, n)
		}
	}
}

func TestTypeNames(t *testing.T) {
	if got := Type(77).String(); got != "type 77" {
		t.Errorf("unknown number prints %q", got)
	}
	for _, typ := range Types() {
		if !typ.Supported() || typ.BlockBytes() == 0 {
			t.Errorf("%v is listed but not supported", typ)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	const n = 4096
	for _, typ := range Types() {
		b.Run(typ.String(), func(b *testing.B) {
			size, _ := RowBytes(typ, n)
			src, dst := make([]byte, size), make([]float32, n)
			b.SetBytes(n * 4)
			for b.Loop() {
				_ = DecodeRow(typ, dst, src)
			}
		})
	}
}
