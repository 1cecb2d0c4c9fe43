package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"ds4/metal/quant"
)

const tinyPath = "../model/tiny/ds4-tiny-q8_0.gguf"

// raw builds files piece by piece, without the checks of Writer.
type raw struct{ bytes.Buffer }

func (r *raw) put(parts ...any) *raw {
	for _, p := range parts {
		switch p := p.(type) {
		case string: // with its length
			_ = binary.Write(r, binary.LittleEndian, uint64(len(p)))
			r.WriteString(p)
		case []byte:
			r.Write(p)
		default:
			_ = binary.Write(r, binary.LittleEndian, p)
		}
	}
	return r
}

// header is magic, version and counts.
func header(tensors, keys uint64) *raw {
	return new(raw).put([]byte(magic), uint32(version), tensors, keys)
}

// pad fills up to the default alignment and adds n bytes of data.
func (r *raw) pad(n int) []byte {
	r.Write(make([]byte, int(alignUp(uint64(r.Len()), defaultAlignment))-r.Len()+n))
	return r.Bytes()
}

func TestMalformed(t *testing.T) {
	f32 := uint32(quant.F32)
	tensor := func(name string, dims []uint64, typ uint32, offset uint64) []byte {
		return new(raw).put(name, uint32(len(dims)), dims, typ, offset).Bytes()
	}
	for _, tc := range []struct {
		name string
		data []byte
		want error
		says string
	}{
		{"empty", nil, ErrTruncated, "file is empty"},
		{"text", []byte("root:x:0:0"), ErrMagic, `starts with "root"`},
		{"web page", []byte("\n<!DOCTYPE html>"), ErrMagic, "web page"},
		{"lfs pointer", []byte("version https://git-lfs.github.com/spec/v1\noid"), ErrMagic, "Git LFS"},
		{"older format", []byte("tjgg\x03\x00\x00\x00"), ErrMagic, "older GGML"},
		{"zip", []byte("PK\x03\x04abcd"), ErrMagic, "zip"},
		{"zeros", make([]byte, 100), ErrMagic, "zeros"},
		{"safetensors", append([]byte{9, 1, 0, 0, 0, 0, 0, 0}, `{"a":{}}`...), ErrMagic, "safetensors"},
		{"short magic", []byte("GG"), ErrTruncated, "bytes 0..4, file has 2"},
		{"version 1", new(raw).put([]byte(magic), uint32(1)).Bytes(), ErrVersion, "version 1, want 3"},
		{"version 2", new(raw).put([]byte(magic), uint32(2), uint64(0), uint64(0)).Bytes(), ErrVersion, "version 2, want 3"},
		{"version 4", new(raw).put([]byte(magic), uint32(4), uint64(0), uint64(0)).Bytes(), ErrVersion, "byte 4: version"},
		{"big endian", []byte("GGUF\x00\x00\x00\x03"), ErrBigEndian, "version 3"},
		{"too many keys", header(0, MaxKeys+1).Bytes(), ErrLimit, "byte 16: number of metadata keys: 65537"},
		{"too many tensors", header(1<<62, 0).Bytes(), ErrLimit, "byte 8: number of tensors"},
		{"keys missing", header(0, 5).Bytes(), ErrTruncated, "metadata key 0 needs bytes 24..32, file has 24"},

		{"empty key", header(0, 1).put("", uint32(TypeUint8), uint8(1)).Bytes(), ErrName, "metadata key 0"},
		{"key not UTF-8", header(0, 1).put("a\xff", uint32(TypeUint8), uint8(1)).Bytes(), ErrName, "UTF-8"},
		{"long key", header(0, 1).put(strings.Repeat("k", MaxKeyBytes+1), uint32(TypeUint8), uint8(1)).Bytes(), ErrLimit, "65536 exceeds the limit of 65535"},
		{"key length", header(0, 1).put(uint64(math.MaxUint64)).Bytes(), ErrLimit, "byte 24"},
		{"duplicate key", header(0, 2).put("a", uint32(TypeUint8), uint8(1), "a", uint32(TypeUint8), uint8(1)).Bytes(), ErrDuplicate, `byte 38: metadata "a"`},
		{"unknown type", header(0, 1).put("a", uint32(13), uint64(0)).Bytes(), ErrValueType, "type 13 does not exist"},
		{"nested array", header(0, 1).put("a", uint32(TypeArray), uint32(TypeArray), uint64(1)).Bytes(), ErrValueType, "arrays of arrays"},
		{"bad bool", header(0, 1).put("a", uint32(TypeBool), uint8(2)).Bytes(), ErrRange, "byte 37: metadata \"a\": value out of range: bool is 2"},
		{"bad bool in array", header(0, 1).put("a", uint32(TypeArray), uint32(TypeBool), uint64(2), uint8(1), uint8(9)).Bytes(), ErrRange, "bool is 9"},
		{"array length", header(0, 1).put("a", uint32(TypeArray), uint32(TypeUint64), uint64(math.MaxUint64)).Bytes(), ErrLimit, `metadata "a"`},
		{"long array", header(0, 1).put("a", uint32(TypeArray), uint32(TypeUint64), uint64(1000)).Bytes(), ErrTruncated, `metadata "a" needs bytes 49..8049, file has 49`},
		{"many strings", header(0, 1).put("a", uint32(TypeArray), uint32(TypeString), uint64(1<<31)).Bytes(), ErrTruncated, `metadata "a"`},
		{"string length", header(0, 1).put("a", uint32(TypeString), uint64(MaxStringBytes+1)).Bytes(), ErrLimit, `metadata "a"`},
		{"string cut", header(0, 1).put("a", uint32(TypeString), uint64(10), uint8(1)).Bytes(), ErrTruncated, "bytes 45..55, file has 46"},
		{"alignment 0", header(0, 1).put(alignmentKey, uint32(TypeUint32), uint32(0)).Bytes(), ErrAlignment, "power of two"},
		{"alignment 24", header(0, 1).put(alignmentKey, uint32(TypeUint32), uint32(24)).Bytes(), ErrAlignment, "24"},
		{"alignment huge", header(0, 1).put(alignmentKey, uint32(TypeUint64), uint64(1<<63)).Bytes(), ErrAlignment, "65536"},
		{"alignment string", header(0, 1).put(alignmentKey, uint32(TypeString), "32").Bytes(), ErrValueType, alignmentKey},

		{"empty tensor name", header(1, 0).put(tensor("", []uint64{1}, f32, 0)).pad(4), ErrName, "tensor 0: name"},
		{"long tensor name", header(1, 0).put(tensor(strings.Repeat("n", MaxNameBytes+1), []uint64{1}, f32, 0)).pad(4), ErrLimit, "65 exceeds the limit of 64"},
		{"duplicate tensor", header(2, 0).put(tensor("a", []uint64{1}, f32, 0), tensor("a", []uint64{1}, f32, 32)).pad(36), ErrDuplicate, `tensor "a"`},
		{"no dimensions", header(1, 0).put(tensor("a", nil, f32, 0)).pad(4), ErrLimit, "0 dimensions"},
		{"five dimensions", header(1, 0).put(tensor("a", []uint64{1, 1, 1, 1, 1}, f32, 0)).pad(4), ErrLimit, "5 dimensions"},
		{"2^32-1 dimensions", header(1, 0).put("a", uint32(math.MaxUint32)).pad(4), ErrLimit, "dimensions"},
		{"zero dimension", header(1, 0).put(tensor("a", []uint64{4, 0}, f32, 0)).pad(4), ErrShape, "dimension 1"},
		{"elements overflow", header(1, 0).put(tensor("a", []uint64{1 << 32, 1 << 32, 2}, f32, 0)).pad(4), ErrLimit, "elements"},
		{"bytes overflow", header(1, 0).put(tensor("a", []uint64{1 << 62}, f32, 0)).pad(4), ErrLimit, "elements"},
		{"unsupported type", header(1, 0).put(tensor("a", []uint64{256}, 14, 0)).pad(210), quant.ErrUnknownType, `tensor "a": Q6_K: unsupported`},
		{"unknown tensor type", header(1, 0).put(tensor("a", []uint64{256}, 1000, 0)).pad(210), quant.ErrUnknownType, "type 1000"},
		{"partial block", header(1, 0).put(tensor("a", []uint64{33, 32}, uint32(quant.Q8_0), 0)).pad(4000), quant.ErrBlock, "33"},
		{"misaligned", header(1, 0).put(tensor("a", []uint64{1}, f32, 4)).pad(8), ErrAlignment, "offset 4"},
		{"offset overflow", header(1, 0).put(tensor("a", []uint64{1}, f32, math.MaxUint64-31)).pad(4), ErrLimit, "offset"},
		{"far away", header(1, 0).put(tensor("a", []uint64{1}, f32, 1<<40)).pad(4), ErrTruncated, `tensor "a" needs bytes`},
		{"overlap", header(2, 0).put(tensor("a", []uint64{9}, f32, 0), tensor("b", []uint64{9}, f32, 32)).pad(100), ErrOverlap, `tensor "b"`},
		{"same place", header(2, 0).put(tensor("b", []uint64{1}, f32, 32), tensor("a", []uint64{1}, f32, 32)).pad(100), ErrOverlap, `tensor "b" ends`},
		{"no data", header(1, 0).put(tensor("a", []uint64{3}, f32, 0)).pad(11), ErrTruncated, `file is truncated: tensor "a" needs bytes 64..76, file has 75 of 76`},
	} {
		f, err := Parse(tc.data, "model.gguf")
		var e *Error
		if f != nil || !errors.Is(err, tc.want) || !errors.As(err, &e) || e.File != "model.gguf" {
			t.Errorf("%s: error %v, want %v", tc.name, err, tc.want)
			continue
		}
		if s := err.Error(); !strings.Contains(s, tc.says) || !strings.HasPrefix(s, "gguf: model.gguf: ") {
			t.Errorf("%s: error %q does not say %q", tc.name, s, tc.says)
		}
	}
}

// TestHostileCountsAreCheap declares billions of things in a few bytes.
func TestHostileCountsAreCheap(t *testing.T) {
	for _, data := range [][]byte{
		header(MaxTensors, MaxKeys).Bytes(),
		header(0, 1).put("a", uint32(TypeArray), uint32(TypeString), uint64(MaxElements)).Bytes(),
		header(0, 1).put("a", uint32(TypeArray), uint32(TypeFloat64), uint64(MaxElements)).Bytes(),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Parse(data, "x")
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; err == nil || used > 64<<10 {
			t.Errorf("%d bytes cost %d bytes of memory, error %v", len(data), used, err)
		}
	}
}

// sample is a small file with every kind of value and several tensors.
func sample(t testing.TB) []byte {
	t.Helper()
	w := NewWriter()
	for _, kv := range []struct {
		key string
		v   Value
	}{
		{"general.architecture", String("deepseek4")}, {alignmentKey, Uint32(64)}, {"u8", Uint8(200)}, {"i32", Int32(-5)},
		{"u64", Uint64(math.MaxUint64)}, {"f32", Float32(1e-6)}, {"f64", Float64(0.1)}, {"yes", Bool(true)}, {"no", Bool(false)},
		{"strings", Strings([]string{"a", "", "ü｜"})}, {"none", Strings(nil)}, {"u32s", Uint32s([]uint32{0, 4, 128})},
		{"i32s", Int32s([]int32{0, 4, 128})}, {"mixed", Int32s([]int32{1, -1})}, {"f32s", Float32s([]float32{10, 0.5})},
	} {
		if err := w.Set(kv.key, kv.v); err != nil {
			t.Fatal(err)
		}
	}
	values := make([]float32, 512)
	for i := range values {
		values[i] = float32(i%17) - 8
	}
	for _, typ := range quant.Types() {
		if err := w.AddFloats("blk.0."+typ.String(), typ, []uint64{256, 2}, values); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if n, err := w.WriteTo(&out); err != nil || n != int64(out.Len()) {
		t.Fatalf("wrote %d of %d bytes: %v", n, out.Len(), err)
	}
	return out.Bytes()
}

func TestTruncatedEverywhere(t *testing.T) {
	data := sample(t)
	for n := range data {
		wantTruncated(t, data[:n], "sample.gguf")
	}
	if _, err := Parse(data, "sample.gguf"); err != nil {
		t.Error(err)
	}
}

// wantTruncated parses a prefix of a good file: the error must say so.
func wantTruncated(t *testing.T, data []byte, name string) {
	t.Helper()
	f, err := Parse(data, name)
	var e *Error
	if f != nil || !errors.Is(err, ErrTruncated) || !errors.As(err, &e) || !strings.Contains(err.Error(), name) {
		t.Fatalf("cut to %d bytes: %v", len(data), err)
	}
	if e.Offset > uint64(len(data)) && !strings.Contains(err.Error(), "needs bytes") {
		t.Fatalf("cut to %d bytes: %v names byte %d", len(data), err, e.Offset)
	}
}

// TestTruncatedModel cuts the embedded model around every boundary of its tables
// and of its tensors.
func TestTruncatedModel(t *testing.T) {
	data, err := os.ReadFile(tinyPath)
	if err != nil {
		t.Fatal(err)
	}
	c := &cursor{name: "tiny", data: data}
	f := &File{alignment: defaultAlignment, values: map[string]Value{}, byName: map[string]*Tensor{}}
	tensors, keys, err := c.header()
	if err != nil {
		t.Fatal(err)
	}
	cuts := []uint64{4, 8, 16, 24}
	for i := range keys {
		if err := f.readKey(c, i); err != nil {
			t.Fatal(err)
		}
		cuts = append(cuts, c.pos)
	}
	for i := range tensors {
		if err := f.readTensor(c, i); err != nil {
			t.Fatal(err)
		}
		cuts = append(cuts, c.pos)
	}
	whole, err := Parse(data, "tiny")
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range whole.Tensors() {
		if i%8 == 0 {
			cuts = append(cuts, x.Offset, x.Offset+uint64(len(x.Data)))
		}
	}
	for i, n := range cuts {
		wantTruncated(t, data[:n-1], "tiny")
		if i < 60 { // the metadata; later cuts differ in the tensor only
			wantTruncated(t, data[:n], "tiny")
			wantTruncated(t, data[:n+1], "tiny")
		}
	}
	_, err = Parse(data[:len(data)/2], "tiny")
	t.Log(err)
	if !strings.Contains(err.Error(), "file is truncated: tensor ") || !strings.Contains(err.Error(), "of 26973728") {
		t.Errorf("half a file: %v", err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.gguf")
	if err := os.WriteFile(path, sample(t), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if x, ok := f.Tensor("blk.0.Q8_0"); !ok || len(x.Data) != 2*272 || x.Offset%64 != 0 {
		t.Errorf("tensor %+v", x)
	}
	if f.Name() != path || f.Alignment() != 64 {
		t.Errorf("name %q, alignment %d", f.Name(), f.Alignment())
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]error{
		filepath.Join(dir, "missing"): os.ErrNotExist, dir: ErrMagic, os.DevNull: ErrMagic, empty: ErrTruncated,
	} {
		_, err := Open(p)
		var e *Error
		if !errors.Is(err, want) || !errors.As(err, &e) || strings.Count(err.Error(), p) != 1 {
			t.Errorf("open %s: %v", p, err)
		}
	}
	if err := os.WriteFile(path, sample(t)[:700], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, ErrTruncated) {
		t.Errorf("cut file: %v", err)
	}
}

// FuzzParse checks the promises of Parse on any bytes: no panic, and a File that
// can be used without one and written again.
func FuzzParse(f *testing.F) {
	f.Add(header(0, 0).Bytes())
	f.Add(header(1, 1).put("a", uint32(TypeArray), uint32(TypeString), uint64(1), "b",
		"w", uint32(1), uint64(8), uint32(quant.F32), uint64(0)).pad(32))
	f.Add(header(0, 1).put(alignmentKey, uint32(TypeUint32), uint32(8)).Bytes())
	f.Add([]byte("GGUF\x00\x00\x00\x03"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data, "fuzz")
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Error() == "" {
				t.Fatalf("error %v is no *Error", err)
			}
			return
		}
		w := NewWriter()
		for _, k := range file.Keys() {
			v, _ := file.Value(k)
			useValue(v)
			if err := w.Set(k, v); err != nil {
				t.Fatal(err)
			}
		}
		end := uint64(0)
		for _, x := range file.Tensors() {
			if x.Offset+uint64(len(x.Data)) > uint64(len(data)) || uint64(x.RowBytes())*x.Rows() != uint64(len(x.Data)) {
				t.Fatalf("tensor %+v of %d bytes", x, len(data))
			}
			end = max(end, x.Offset+uint64(len(x.Data)))
			if err := w.AddBytes(x.Name, x.Type, x.Dims, x.Data); err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		if _, err := w.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		again, err := Parse(out.Bytes(), "again")
		if err != nil || len(again.Keys()) != len(file.Keys()) || len(again.Tensors()) != len(file.Tensors()) {
			t.Fatalf("written again: %v", err)
		}
	})
}

// useValue calls every accessor.
func useValue(v Value) {
	_, _ = v.Uint()
	_, _ = v.Int()
	_, _ = v.Float()
	_, _ = v.Bool()
	_, _ = v.Str()
	_, _ = v.Uints()
	_, _ = v.Ints()
	_, _ = v.Floats()
	_, _ = v.Strs()
	_ = v.String()
}
