package gguf

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	parser "github.com/gpustack/gguf-parser-go"

	"ds4/metal/quant"
)

func value(t *testing.T, f *File, key string) Value {
	t.Helper()
	v, ok := f.Value(key)
	if !ok {
		t.Fatalf("no key %q", key)
	}
	return v
}

// check compares the results of an accessor.
func check[T any](t *testing.T, what string, got T, err error, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%s: %v, error %v\n%s", what, got, err, diff)
	}
}

func TestAccessors(t *testing.T) {
	f, err := Parse(sample(t), "sample")
	if err != nil {
		t.Fatal(err)
	}
	get := func(key string) Value { return value(t, f, key) }
	s, err := get("general.architecture").Str()
	check(t, "string", s, err, "deepseek4")
	for key, want := range map[string]uint64{"u8": 200, "u64": math.MaxUint64, alignmentKey: 64} {
		n, err := get(key).Uint()
		check(t, key, n, err, want)
	}
	n, err := get("i32").Int()
	check(t, "i32", n, err, -5)
	for key, want := range map[string]float64{"f32": float64(float32(1e-6)), "f64": 0.1, "u8": 200, "i32": -5} {
		x, err := get(key).Float()
		check(t, key, x, err, want)
	}
	for key, want := range map[string]bool{"yes": true, "no": false} {
		b, err := get(key).Bool()
		check(t, key, b, err, want)
	}
	list, err := get("strings").Strs()
	check(t, "strings", list, err, []string{"a", "", "ü｜"})
	list, err = get("none").Strs()
	check(t, "none", list, err, []string{})
	for _, key := range []string{"u32s", "i32s"} {
		ns, err := get(key).Uints()
		check(t, key, ns, err, []uint64{0, 4, 128})
		fs, err := get(key).Floats()
		check(t, key, fs, err, []float64{0, 4, 128})
	}
	is, err := get("mixed").Ints()
	check(t, "mixed", is, err, []int64{1, -1})
	fs, err := get("f32s").Floats()
	check(t, "f32s", fs, err, []float64{10, 0.5})
}

func TestAccessorErrors(t *testing.T) {
	f, err := Parse(sample(t), "sample")
	if err != nil {
		t.Fatal(err)
	}
	fails := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", what, err, want)
		}
	}
	_, err = value(t, f, "i32").Uint()
	fails("negative as Uint", err, ErrRange)
	_, err = value(t, f, "u64").Int()
	fails("2^64-1 as Int", err, ErrRange)
	_, err = value(t, f, "mixed").Uints()
	fails("negative in Uints", err, ErrRange)
	if !strings.Contains(err.Error(), "element 1") {
		t.Errorf("error %v names no element", err)
	}
	_, err = value(t, f, "f32").Uint()
	fails("float as Uint", err, ErrValueType)
	_, err = value(t, f, "f32s").Uints()
	fails("floats as Uints", err, ErrValueType)
	_, err = value(t, f, "u32s").Uint()
	fails("array as Uint", err, ErrValueType)
	_, err = value(t, f, "u8").Uints()
	fails("scalar as Uints", err, ErrValueType)
	_, err = value(t, f, "u8").Bool()
	fails("number as Bool", err, ErrValueType)
	_, err = value(t, f, "strings").Str()
	fails("array as Str", err, ErrValueType)
	_, err = value(t, f, "strings").Floats()
	fails("strings as Floats", err, ErrValueType)
	if want := "array of 3 string"; !strings.Contains(err.Error(), want) {
		t.Errorf("error %q does not say %q", err, want)
	}
	missing, ok := f.Value("missing")
	_, err = missing.Uint()
	fails("missing key", err, ErrValueType)
	useValue(missing)
	if ok || missing.String() != "(missing)" {
		t.Errorf("missing key gives %v", missing)
	}
}

func TestPreview(t *testing.T) {
	long := make([]uint32, 20)
	for v, want := range map[*Value]string{
		ptr(Uint32s(long)):                     "[20]uint32{0, 0, 0, 0, 0, 0, 0, 0, ...}",
		ptr(Strings([]string{"a", "b\n"})):     `[2]string{"a", "b\n"}`,
		ptr(Int32(-7)):                         "-7",
		ptr(Float32(1e-6)):                     "1e-06",
		ptr(Bool(true)):                        "true",
		ptr(String(strings.Repeat("x", 5000))): `"` + strings.Repeat("x", previewBytes) + `"... (5000 bytes)`,
	} {
		if got := v.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func ptr(v Value) *Value { return &v }

// TestOracle compares the embedded model's tables with those that an independent
// reader finds.
func TestOracle(t *testing.T) {
	want, err := parser.ParseGGUFFile(tinyPath)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(tinyPath)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(f.Keys()) != len(want.Header.MetadataKV) || len(f.Tensors()) != len(want.TensorInfos) {
		t.Fatalf("%d keys, %d tensors; want %d, %d", len(f.Keys()), len(f.Tensors()), len(want.Header.MetadataKV), len(want.TensorInfos))
	}
	for i, kv := range want.Header.MetadataKV {
		if f.Keys()[i] != kv.Key {
			t.Fatalf("key %d is %q, want %q", i, f.Keys()[i], kv.Key)
		}
		v := value(t, f, kv.Key)
		if got, want := v.oracle(), kvOracle(kv); !cmp.Equal(got, want) {
			t.Errorf("%s is %v, want %v", kv.Key, got, want)
		}
	}
	for i, info := range want.TensorInfos {
		x := f.Tensors()[i]
		if x.Name != info.Name || !slices.Equal(x.Dims, info.Dimensions) || uint32(x.Type) != uint32(info.Type) ||
			x.Offset != uint64(want.TensorDataStartOffset)+info.Offset || uint64(len(x.Data)) != info.Bytes() || x.Elements() != info.Elements() {
			t.Errorf("tensor %d is %+v with %d bytes, want %+v", i, x.Name, len(x.Data), info)
		}
	}
}

// oracle turns a value into what the other reader returns for it.
func (v Value) oracle() any {
	switch {
	case v.array && v.typ == TypeString:
		s, _ := v.Strs()
		return s
	case v.array:
		x, _ := v.Floats()
		return x
	case v.typ == TypeString:
		s, _ := v.Str()
		return s
	case v.typ == TypeBool:
		b, _ := v.Bool()
		return b
	}
	x, _ := v.Float()
	return x
}

func kvOracle(kv parser.GGUFMetadataKV) any {
	switch kv.ValueType {
	case parser.GGUFMetadataValueTypeString:
		return kv.ValueString()
	case parser.GGUFMetadataValueTypeBool:
		return kv.ValueBool()
	case parser.GGUFMetadataValueTypeArray:
		a := kv.ValueArray()
		if a.Type == parser.GGUFMetadataValueTypeString {
			return a.ValuesString()
		}
		var list []float64
		for _, x := range a.Array {
			list = append(list, toFloat(x))
		}
		return list
	}
	return toFloat(kv.Value)
}

func toFloat(x any) float64 {
	switch x := x.(type) {
	case uint32:
		return float64(x)
	case int32:
		return float64(x)
	case uint64:
		return float64(x)
	case float32:
		return float64(x)
	}
	return math.NaN()
}

func TestWriterIsDeterministic(t *testing.T) {
	if !bytes.Equal(sample(t), sample(t)) {
		t.Error("two files of the same calls differ")
	}
}

func TestWriterKeepsTensors(t *testing.T) {
	f, err := Parse(sample(t), "sample")
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range f.Tensors() {
		if x.Type != quant.Types()[i] || !slices.Equal(x.Dims, []uint64{256, 2}) || x.Rows() != 2 || x.Elements() != 512 {
			t.Errorf("tensor %+v", x)
		}
		got := make([]float32, 256)
		if err := quant.DecodeRow(x.Type, got, x.Data[x.RowBytes():]); err != nil {
			t.Fatal(err)
		}
		if x.Type != quant.Q2_K && x.Type != quant.IQ2_XXS && math.Abs(float64(got[8]-(264%17-8))) > 0.6 {
			t.Errorf("%v: value 264 is %v", x.Type, got[8])
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	w := NewWriter()
	fails := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", what, err, want)
		}
	}
	if err := w.Set("a", Uint8(1)); err != nil {
		t.Fatal(err)
	}
	fails("duplicate key", w.Set("a", Uint8(1)), ErrDuplicate)
	fails("empty key", w.Set("", Uint8(1)), ErrName)
	fails("long key", w.Set(strings.Repeat("k", MaxKeyBytes+1), Uint8(1)), ErrLimit)
	fails("zero value", w.Set("b", Value{}), ErrTruncated)
	fails("bad alignment", w.Set(alignmentKey, Uint32(3)), ErrAlignment)
	fails("unknown type", w.AddBytes("a", quant.Type(14), []uint64{256}, make([]byte, 210)), quant.ErrUnknownType)
	fails("partial block", w.AddBytes("a", quant.Q8_0, []uint64{31}, nil), quant.ErrBlock)
	fails("no dimensions", w.AddBytes("a", quant.F32, nil, nil), ErrLimit)
	fails("zero dimension", w.AddBytes("a", quant.F32, []uint64{0}, nil), ErrShape)
	fails("wrong length", w.AddBytes("a", quant.F32, []uint64{2}, make([]byte, 9)), ErrData)
	fails("wrong count", w.AddFloats("a", quant.F32, []uint64{2}, make([]float32, 3)), ErrData)
	fails("not finite", w.AddFloats("a", quant.Q8_0, []uint64{32}, append(make([]float32, 31), float32(math.NaN()))), quant.ErrRange)
	fails("no name", w.AddBytes("", quant.F32, []uint64{1}, make([]byte, 4)), ErrName)
	fails("long name", w.AddBytes(strings.Repeat("n", MaxNameBytes+1), quant.F32, []uint64{1}, make([]byte, 4)), ErrLimit)
	if err := w.AddBytes("a", quant.F32, []uint64{1}, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	fails("duplicate tensor", w.AddBytes("a", quant.F32, []uint64{1}, make([]byte, 4)), ErrDuplicate)
	fails("late alignment", w.Set(alignmentKey, Uint32(64)), ErrAlignment)
	huge := func(io.Writer) error { return nil }
	for i := range 4 {
		err := w.Add(strings.Repeat("h", i+1), quant.F32, []uint64{1 << 60}, huge)
		if i < 1 && err != nil || i == 3 && !errors.Is(err, ErrLimit) {
			t.Errorf("tensor %d of 2^62 bytes: %v", i, err)
		}
	}
}

func TestWriterReportsShortTensors(t *testing.T) {
	boom := errors.New("boom")
	for name, emit := range map[string]func(io.Writer) error{
		"short": func(w io.Writer) error { _, err := w.Write([]byte{1}); return err },
		"fails": func(io.Writer) error { return boom },
	} {
		w := NewWriter()
		if err := w.Add("a", quant.F32, []uint64{1}, emit); err != nil {
			t.Fatal(err)
		}
		_, err := w.WriteTo(io.Discard)
		if !errors.Is(err, ErrData) && !errors.Is(err, boom) || !strings.Contains(err.Error(), `tensor "a"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		f, err := Open(tinyPath)
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
