package gguf

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"unicode/utf8"

	"ds4/metal/quant"
)

// Uint8 makes a metadata value.
func Uint8(n uint8) Value { return scalar(TypeUint8, []byte{n}) }

// Uint32 makes a metadata value.
func Uint32(n uint32) Value { return scalar(TypeUint32, binary.LittleEndian.AppendUint32(nil, n)) }

// Int32 makes a metadata value.
func Int32(n int32) Value { return scalar(TypeInt32, binary.LittleEndian.AppendUint32(nil, uint32(n))) }

// Uint64 makes a metadata value.
func Uint64(n uint64) Value { return scalar(TypeUint64, binary.LittleEndian.AppendUint64(nil, n)) }

// Float32 makes a metadata value.
func Float32(f float32) Value {
	return scalar(TypeFloat32, binary.LittleEndian.AppendUint32(nil, math.Float32bits(f)))
}

// Float64 makes a metadata value.
func Float64(f float64) Value {
	return scalar(TypeFloat64, binary.LittleEndian.AppendUint64(nil, math.Float64bits(f)))
}

// Bool makes a metadata value.
func Bool(b bool) Value {
	if b {
		return scalar(TypeBool, []byte{1})
	}
	return scalar(TypeBool, []byte{0})
}

// String makes a metadata value of a string.
func String(s string) Value { return scalar(TypeString, appendString(nil, s)) }

// Strings makes an array of strings.
func Strings(list []string) Value {
	var raw []byte
	for _, s := range list {
		raw = appendString(raw, s)
	}
	return Value{typ: TypeString, array: true, count: len(list), raw: raw}
}

// Uint32s makes an array.
func Uint32s(list []uint32) Value {
	var raw []byte
	for _, n := range list {
		raw = binary.LittleEndian.AppendUint32(raw, n)
	}
	return Value{typ: TypeUint32, array: true, count: len(list), raw: raw}
}

// Int32s makes an array.
func Int32s(list []int32) Value {
	var raw []byte
	for _, n := range list {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(n))
	}
	return Value{typ: TypeInt32, array: true, count: len(list), raw: raw}
}

// Float32s makes an array.
func Float32s(list []float32) Value {
	var raw []byte
	for _, f := range list {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
	}
	return Value{typ: TypeFloat32, array: true, count: len(list), raw: raw}
}

func scalar(t ValueType, raw []byte) Value { return Value{typ: t, count: 1, raw: raw} }

func appendString(dst []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(dst, uint64(len(s))), s...)
}

// Writer collects metadata and tensors and writes them as one file. The same
// calls give the same bytes. The limits of reading hold for writing too, so that
// whatever a Writer wrote can be parsed. The zero value is not usable: see NewWriter.
type Writer struct {
	alignment uint64
	keys      map[string]bool
	head      []byte // encoded metadata
	tensors   []tensorSource
	names     map[string]bool
}

type tensorSource struct {
	Tensor
	size uint64
	emit func(io.Writer) error
}

// NewWriter starts a file with the format's default alignment of 32 bytes.
func NewWriter() *Writer {
	return &Writer{alignment: defaultAlignment, keys: map[string]bool{}, names: map[string]bool{}}
}

// Set adds a metadata entry. Keys keep the order of their calls; each may be set
// once. The key general.alignment must be set before the first tensor.
func (w *Writer) Set(key string, v Value) error {
	switch {
	case key == "" || !utf8.ValidString(key):
		return fmt.Errorf("gguf: write metadata %q: %w", key, ErrName)
	case len(key) > MaxKeyBytes || len(w.keys) == MaxKeys:
		return fmt.Errorf("gguf: write metadata %.40q: %w", key, ErrLimit)
	case w.keys[key]:
		return fmt.Errorf("gguf: write metadata %q: %w", key, ErrDuplicate)
	}
	entry := binary.LittleEndian.AppendUint32(appendString(nil, key), uint32(v.typ))
	if v.array {
		entry = binary.LittleEndian.AppendUint32(appendString(nil, key), uint32(TypeArray))
		entry = binary.LittleEndian.AppendUint32(entry, uint32(v.typ))
		entry = binary.LittleEndian.AppendUint64(entry, uint64(v.count))
	}
	entry = append(entry, v.raw...)
	// The reader decides what is acceptable, so that the two cannot disagree.
	probe := &File{alignment: w.alignment, values: map[string]Value{}}
	if err := probe.readKey(&cursor{name: "written", data: entry}, uint64(len(w.keys))); err != nil {
		return fmt.Errorf("gguf: write metadata %q: %w", key, err)
	}
	if key == alignmentKey && len(w.tensors) > 0 {
		return fmt.Errorf("gguf: write metadata %q after a tensor: %w", key, ErrAlignment)
	}
	w.alignment = probe.alignment
	w.keys[key] = true
	w.head = append(w.head, entry...)
	return nil
}

// Add adds a tensor; dims has the fastest dimension first. emit writes exactly
// the tensor's bytes when the file is written. Data is laid out in the order of
// the calls.
func (w *Writer) Add(name string, t quant.Type, dims []uint64, emit func(io.Writer) error) error {
	size, err := tensorBytes(dims, t)
	switch {
	case name == "" || !utf8.ValidString(name):
		err = ErrName
	case len(name) > MaxNameBytes || len(w.tensors) == MaxTensors:
		err = ErrLimit
	case w.names[name]:
		err = ErrDuplicate
	}
	if err != nil {
		return fmt.Errorf("gguf: write tensor %.80q: %w", name, err)
	}
	var offset uint64
	if n := len(w.tensors); n > 0 {
		last := w.tensors[n-1]
		offset = alignUp(last.Offset+last.size, w.alignment)
	}
	if offset+size > math.MaxInt64-MaxAlignment {
		return fmt.Errorf("gguf: write tensor %q: size of the file: %w", name, ErrLimit)
	}
	w.names[name] = true
	w.tensors = append(w.tensors, tensorSource{
		Tensor: Tensor{Name: name, Dims: append([]uint64(nil), dims...), Type: t, Offset: offset},
		size:   size, emit: emit,
	})
	return nil
}

// AddBytes adds a tensor whose bytes are at hand; data is not copied.
func (w *Writer) AddBytes(name string, t quant.Type, dims []uint64, data []byte) error {
	size, err := tensorBytes(dims, t)
	if err == nil && size != uint64(len(data)) {
		err = fmt.Errorf("%w: %d bytes, want %d", ErrData, len(data), size)
	}
	if err != nil {
		return fmt.Errorf("gguf: write tensor %q: %w", name, err)
	}
	return w.Add(name, t, dims, func(out io.Writer) error {
		_, err := out.Write(data)
		return err
	})
}

// AddFloats adds a tensor of encoded values (quant.EncodeRow on each row).
func (w *Writer) AddFloats(name string, t quant.Type, dims []uint64, values []float32) error {
	size, err := tensorBytes(dims, t)
	if err != nil {
		return fmt.Errorf("gguf: write tensor %q: %w", name, err)
	}
	probe := Tensor{Dims: dims}
	if probe.Elements() != uint64(len(values)) {
		return fmt.Errorf("gguf: write tensor %q: %w: %d values, shape %v", name, ErrData, len(values), dims)
	}
	data := make([]byte, size)
	// Rows consist of whole blocks, so all rows together encode as one.
	if err := quant.EncodeRow(t, data, values); err != nil {
		return fmt.Errorf("gguf: write tensor %q: %w", name, err)
	}
	return w.AddBytes(name, t, dims, data)
}

// WriteTo writes the file and returns its length in bytes.
func (w *Writer) WriteTo(out io.Writer) (int64, error) {
	buffered := bufio.NewWriterSize(out, 1<<20)
	n, err := w.write(buffered)
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		return n, fmt.Errorf("gguf: write: %w", err)
	}
	return n, nil
}

func (w *Writer) write(out io.Writer) (int64, error) {
	c := &counter{out: out}
	head := binary.LittleEndian.AppendUint32([]byte(magic), version)
	head = binary.LittleEndian.AppendUint64(head, uint64(len(w.tensors)))
	head = binary.LittleEndian.AppendUint64(head, uint64(len(w.keys)))
	head = append(head, w.head...)
	for _, t := range w.tensors {
		head = appendString(head, t.Name)
		head = binary.LittleEndian.AppendUint32(head, uint32(len(t.Dims)))
		for _, d := range t.Dims {
			head = binary.LittleEndian.AppendUint64(head, d)
		}
		head = binary.LittleEndian.AppendUint32(head, uint32(t.Type))
		head = binary.LittleEndian.AppendUint64(head, t.Offset)
	}
	if _, err := c.Write(head); err != nil {
		return c.n, err
	}
	for _, t := range w.tensors {
		if err := c.pad(w.alignment); err != nil {
			return c.n, err
		}
		before := c.n
		if err := t.emit(c); err != nil {
			return c.n, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if got := uint64(c.n - before); got != t.size {
			return c.n, fmt.Errorf("tensor %q: %w: %d bytes, want %d", t.Name, ErrData, got, t.size)
		}
	}
	return c.n, nil
}

// counter counts the bytes that reach out.
type counter struct {
	out io.Writer
	n   int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.out.Write(b)
	c.n += int64(n)
	return n, err
}

// pad writes zeros up to the next multiple of align.
func (c *counter) pad(align uint64) error {
	_, err := c.Write(make([]byte, alignUp(uint64(c.n), align)-uint64(c.n)))
	return err
}
