package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ValueType is the type of a metadata value, with the numbers of the format.
type ValueType uint32

// The metadata types of GGUF.
const (
	TypeUint8   ValueType = 0
	TypeInt8    ValueType = 1
	TypeUint16  ValueType = 2
	TypeInt16   ValueType = 3
	TypeUint32  ValueType = 4
	TypeInt32   ValueType = 5
	TypeFloat32 ValueType = 6
	TypeBool    ValueType = 7
	TypeString  ValueType = 8
	TypeArray   ValueType = 9
	TypeUint64  ValueType = 10
	TypeInt64   ValueType = 11
	TypeFloat64 ValueType = 12
)

var typeNames = [...]string{"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array",
	"uint64", "int64", "float64"}

// String is the type's name in Go's terms.
func (t ValueType) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "type " + strconv.FormatUint(uint64(t), 10)
}

// size is the number of bytes of a scalar, 0 for strings, arrays and unknown types.
func (t ValueType) size() uint64 {
	switch t {
	case TypeUint8, TypeInt8, TypeBool:
		return 1
	case TypeUint16, TypeInt16:
		return 2
	case TypeUint32, TypeInt32, TypeFloat32:
		return 4
	case TypeUint64, TypeInt64, TypeFloat64:
		return 8
	}
	return 0
}

// Value is one metadata value. It keeps the encoded bytes and decodes when
// asked, so a table of 100,000 strings costs nothing until it is read. Accessors
// accept any width of integer; float accessors accept integers too. Accessors of
// slices accept arrays only.
type Value struct {
	typ   ValueType // of the value, or of the elements
	array bool
	count int    // number of elements; 1 for a scalar
	raw   []byte // encoded elements, without type and count
}

// Type is the type of the value; for an array, of its elements.
func (v Value) Type() ValueType { return v.typ }

// IsArray reports whether the value is an array.
func (v Value) IsArray() bool { return v.array }

// Len is the number of elements of an array, 1 for a scalar.
func (v Value) Len() int { return v.count }

// scalar reports whether the value is a single one. The zero Value, which
// File.Value returns for a missing key, is none.
func (v Value) scalar() bool { return !v.array && v.raw != nil }

// kind is the type in words, for errors.
func (v Value) kind() string {
	if !v.array && v.raw == nil {
		return "missing"
	}
	if v.array {
		return fmt.Sprintf("array of %d %v", v.count, v.typ)
	}
	return v.typ.String()
}

func (v Value) mismatch(want string) error {
	return fmt.Errorf("gguf: %w: value is %s, want %s", ErrValueType, v.kind(), want)
}

// integer decodes element i as a magnitude and a sign; ok is false for other types.
func (v Value) integer(i int) (mag uint64, negative, ok bool) {
	var n int64
	switch le := binary.LittleEndian; v.typ {
	case TypeUint8:
		return uint64(v.raw[i]), false, true
	case TypeUint16:
		return uint64(le.Uint16(v.raw[2*i:])), false, true
	case TypeUint32:
		return uint64(le.Uint32(v.raw[4*i:])), false, true
	case TypeUint64:
		return le.Uint64(v.raw[8*i:]), false, true
	case TypeInt8:
		n = int64(int8(v.raw[i]))
	case TypeInt16:
		n = int64(int16(le.Uint16(v.raw[2*i:])))
	case TypeInt32:
		n = int64(int32(le.Uint32(v.raw[4*i:])))
	case TypeInt64:
		n = int64(le.Uint64(v.raw[8*i:]))
	default:
		return 0, false, false
	}
	if n < 0 {
		return -uint64(n), true, true
	}
	return uint64(n), false, true
}

func (v Value) uintAt(i int) (uint64, error) {
	mag, negative, ok := v.integer(i)
	if !ok {
		return 0, v.mismatch("an integer")
	}
	if negative {
		return 0, fmt.Errorf("gguf: %w: -%d where no negative number is allowed", ErrRange, mag)
	}
	return mag, nil
}

func (v Value) intAt(i int) (int64, error) {
	mag, negative, ok := v.integer(i)
	switch {
	case !ok:
		return 0, v.mismatch("an integer")
	case negative:
		return -int64(mag), nil
	case mag > math.MaxInt64:
		return 0, fmt.Errorf("gguf: %w: %d does not fit int64", ErrRange, mag)
	}
	return int64(mag), nil
}

func (v Value) floatAt(i int) (float64, error) {
	switch v.typ {
	case TypeFloat32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(v.raw[4*i:]))), nil
	case TypeFloat64:
		return math.Float64frombits(binary.LittleEndian.Uint64(v.raw[8*i:])), nil
	}
	mag, negative, ok := v.integer(i)
	if !ok {
		return 0, v.mismatch("a number")
	}
	if negative {
		return -float64(mag), nil
	}
	return float64(mag), nil
}

// Uint returns an integer that is not negative (ErrRange, ErrValueType).
func (v Value) Uint() (uint64, error) {
	if !v.scalar() {
		return 0, v.mismatch("an integer")
	}
	return v.uintAt(0)
}

// Int returns an integer.
func (v Value) Int() (int64, error) {
	if !v.scalar() {
		return 0, v.mismatch("an integer")
	}
	return v.intAt(0)
}

// Float returns a float or an integer as a float.
func (v Value) Float() (float64, error) {
	if !v.scalar() {
		return 0, v.mismatch("a number")
	}
	return v.floatAt(0)
}

// Bool returns a bool.
func (v Value) Bool() (bool, error) {
	if !v.scalar() || v.typ != TypeBool {
		return false, v.mismatch("a bool")
	}
	return v.raw[0] != 0, nil
}

// Str returns a copy of a string.
func (v Value) Str() (string, error) {
	if !v.scalar() || v.typ != TypeString {
		return "", v.mismatch("a string")
	}
	return string(v.raw[stringHeader:]), nil
}

// Uints returns an array of integers, none negative.
func (v Value) Uints() ([]uint64, error) { return elements(v, "an array of integers", Value.uintAt) }

// Ints returns an array of integers.
func (v Value) Ints() ([]int64, error) { return elements(v, "an array of integers", Value.intAt) }

// Floats returns an array of numbers.
func (v Value) Floats() ([]float64, error) { return elements(v, "an array of numbers", Value.floatAt) }

func elements[T any](v Value, want string, at func(Value, int) (T, error)) ([]T, error) {
	if !v.array || v.typ == TypeString || v.typ == TypeBool {
		return nil, v.mismatch(want)
	}
	out := make([]T, v.count)
	for i := range out {
		var err error
		if out[i], err = at(v, i); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return out, nil
}

// Strs returns copies of an array's strings.
func (v Value) Strs() ([]string, error) {
	if !v.array || v.typ != TypeString {
		return nil, v.mismatch("an array of strings")
	}
	out := make([]string, v.count)
	rest := v.raw
	for i := range out {
		n := binary.LittleEndian.Uint64(rest)
		out[i] = string(rest[stringHeader : stringHeader+n])
		rest = rest[stringHeader+n:]
	}
	return out, nil
}

// Bounds of String's preview.
const (
	previewElements = 8
	previewBytes    = 200
)

// String is a short form for people: long strings and arrays are cut.
func (v Value) String() string {
	if v.scalar() {
		return v.element(0, v.raw)
	}
	if !v.array {
		return "(missing)"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[%d]%v{", v.count, v.typ)
	rest := v.raw
	for i := range min(v.count, previewElements) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(v.element(i, rest))
		if v.typ == TypeString {
			rest = rest[stringHeader+binary.LittleEndian.Uint64(rest):]
		}
	}
	if v.count > previewElements {
		b.WriteString(", ...")
	}
	b.WriteByte('}')
	return b.String()
}

// element prints element i; for strings it is the one at the start of raw.
func (v Value) element(i int, raw []byte) string {
	switch v.typ {
	case TypeString:
		s := raw[stringHeader : stringHeader+binary.LittleEndian.Uint64(raw)]
		if len(s) > previewBytes {
			return fmt.Sprintf("%q... (%d bytes)", s[:previewBytes], len(s))
		}
		return strconv.Quote(string(s))
	case TypeBool:
		return strconv.FormatBool(v.raw[i] != 0)
	case TypeFloat32, TypeFloat64:
		f, _ := v.floatAt(i)
		width := 64
		if v.typ == TypeFloat32 {
			width = 32
		}
		return strconv.FormatFloat(f, 'g', -1, width)
	}
	mag, negative, _ := v.integer(i)
	if negative {
		return "-" + strconv.FormatUint(mag, 10)
	}
	return strconv.FormatUint(mag, 10)
}
