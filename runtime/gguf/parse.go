package gguf

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"unicode/utf8"

	"ds4/metal/quant"
)

// stringHeader is the size of a string's length.
const stringHeader = 8

// cursor walks over a file's tables and keeps what an error has to say.
type cursor struct {
	name string
	data []byte
	pos  uint64
}

// fail makes the error for the part that started at byte off.
func (c *cursor) fail(off uint64, what string, err error) error {
	return &Error{File: c.name, What: what, Offset: off, Err: err}
}

// truncated makes the error for bytes that the file does not have.
func (c *cursor) truncated(what string, from, to uint64) error {
	return &Error{File: c.name, Offset: from,
		Err: fmt.Errorf("%w: %s needs bytes %d..%d, file has %d", ErrTruncated, what, from, to, len(c.data))}
}

// take returns the next n bytes. It never copies, so n may be anything.
func (c *cursor) take(n uint64, what string) ([]byte, error) {
	if left := uint64(len(c.data)) - c.pos; n > left {
		end, carry := bits.Add64(c.pos, n, 0)
		if carry != 0 {
			return nil, c.fail(c.pos, what, fmt.Errorf("length of %d bytes: %w", n, ErrLimit))
		}
		return nil, c.truncated(what, c.pos, end)
	}
	b := c.data[c.pos : c.pos+n : c.pos+n]
	c.pos += n
	return b, nil
}

func (c *cursor) uint32(what string) (uint32, error) {
	b, err := c.take(4, what)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (c *cursor) uint64(what string) (uint64, error) {
	b, err := c.take(8, what)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// count reads a 64-bit count that must not exceed limit.
func (c *cursor) count(what string, limit uint64) (uint64, error) {
	off := c.pos
	n, err := c.uint64(what)
	if err == nil && n > limit {
		err = c.fail(off, what, fmt.Errorf("%d %w of %d", n, ErrLimit, limit))
	}
	return n, err
}

// text reads a length and that many bytes.
func (c *cursor) text(what string, limit uint64) ([]byte, error) {
	n, err := c.count(what, limit)
	if err != nil {
		return nil, err
	}
	return c.take(n, what)
}

// ident reads a key or tensor name.
func (c *cursor) ident(what string, limit uint64) (string, error) {
	off := c.pos
	b, err := c.text(what, limit)
	if err != nil {
		return "", err
	}
	if len(b) == 0 || !utf8.Valid(b) {
		return "", c.fail(off, what, fmt.Errorf("%w %q: empty or not UTF-8", ErrName, b))
	}
	return string(b), nil
}

// Parse reads a GGUF file held in memory; the File's tensors are views of data,
// which must not change. name stands for the file in errors.
func Parse(data []byte, name string) (*File, error) {
	c := &cursor{name: name, data: data}
	tensors, keys, err := c.header()
	if err != nil {
		return nil, err
	}
	f := &File{name: name, data: data, alignment: defaultAlignment, values: map[string]Value{}, byName: map[string]*Tensor{}}
	for i := range keys {
		if err := f.readKey(c, i); err != nil {
			return nil, err
		}
	}
	for i := range tensors {
		if err := f.readTensor(c, i); err != nil {
			return nil, err
		}
	}
	f.dataStart = alignUp(c.pos, f.alignment)
	if err := f.place(c); err != nil {
		return nil, err
	}
	return f, nil
}

// header checks magic and version and reads the two counts.
func (c *cursor) header() (tensors, keys uint64, err error) {
	if len(c.data) == 0 {
		return 0, 0, &Error{File: c.name, Err: fmt.Errorf("%w: file is empty", ErrTruncated)}
	}
	if n := min(len(c.data), len(magic)); string(c.data[:n]) != magic[:n] {
		return 0, 0, c.fail(0, "magic", fmt.Errorf("%w: %s", ErrMagic, lookalike(c.data)))
	}
	if _, err := c.take(uint64(len(magic)), "magic"); err != nil {
		return 0, 0, err
	}
	off := c.pos
	v, err := c.uint32("version")
	if err != nil {
		return 0, 0, err
	}
	if swapped := bits.ReverseBytes32(v); v > 1<<16 && swapped < 1<<16 {
		return 0, 0, c.fail(off, "version", fmt.Errorf("%w (version %d)", ErrBigEndian, swapped))
	}
	if v != version {
		return 0, 0, c.fail(off, "version", fmt.Errorf("%w %d, want %d", ErrVersion, v, version))
	}
	if tensors, err = c.count("number of tensors", MaxTensors); err != nil {
		return 0, 0, err
	}
	keys, err = c.count("number of metadata keys", MaxKeys)
	return tensors, keys, err
}

// lookalike says what a file that is not GGUF probably is.
func lookalike(data []byte) string {
	head := data[:min(len(data), 64)]
	for _, old := range []string{"lmgg", "fmgg", "tjgg", "algg"} { // "ggml" and its successors, little endian
		if bytes.HasPrefix(head, []byte(old)) {
			return "an older GGML file; convert it to GGUF"
		}
	}
	switch trimmed := bytes.TrimSpace(head); {
	case bytes.HasPrefix(head, []byte("version https://git-lfs")):
		return "a Git LFS pointer; fetch the file itself (git lfs pull)"
	case bytes.HasPrefix(trimmed, []byte("<")):
		return "a web page; the download went wrong"
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return "a zip archive"
	case len(bytes.Trim(head, "\x00")) == 0:
		return "it starts with zeros; the download did not finish"
	case len(head) > 9 && head[8] == '{' && binary.LittleEndian.Uint64(head) < 1<<32:
		return "a safetensors file; convert it to GGUF"
	}
	return fmt.Sprintf("it starts with %q", data[:min(len(data), len(magic))])
}

// readKey reads metadata entry i.
func (f *File) readKey(c *cursor, i uint64) error {
	off := c.pos
	key, err := c.ident(fmt.Sprintf("metadata key %d", i), MaxKeyBytes)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("metadata %q", key)
	if _, ok := f.values[key]; ok {
		return c.fail(off, what, ErrDuplicate)
	}
	v, err := c.value(what)
	if err != nil {
		return err
	}
	if key == alignmentKey {
		n, err := v.Uint()
		if err == nil && (n < 8 || n > MaxAlignment || bits.OnesCount64(n) != 1) {
			err = fmt.Errorf("%w: %d is no power of two from 8 to %d", ErrAlignment, n, MaxAlignment)
		}
		if err != nil {
			return c.fail(off, what, err)
		}
		f.alignment = n
	}
	f.keys = append(f.keys, key)
	f.values[key] = v
	return nil
}

// value reads a metadata value with its type.
func (c *cursor) value(what string) (Value, error) {
	off := c.pos
	t, err := c.uint32(what)
	if err != nil {
		return Value{}, err
	}
	v := Value{typ: ValueType(t), count: 1}
	if v.typ == TypeArray {
		if t, err = c.uint32(what); err != nil {
			return Value{}, err
		}
		v.typ, v.array = ValueType(t), true
		n, err := c.count(what, MaxElements)
		if err != nil {
			return Value{}, err
		}
		v.count = int(n)
	}
	start := c.pos
	switch size := v.typ.size(); {
	case v.typ == TypeString:
		for range v.count {
			if _, err := c.text(what, MaxStringBytes); err != nil {
				return Value{}, err
			}
		}
	case size != 0:
		if _, err := c.take(size*uint64(v.count), what); err != nil {
			return Value{}, err
		}
	case v.typ == TypeArray:
		return Value{}, c.fail(off, what, fmt.Errorf("%w: arrays of arrays are not supported", ErrValueType))
	default:
		return Value{}, c.fail(off, what, fmt.Errorf("%w: %v does not exist", ErrValueType, v.typ))
	}
	v.raw = c.data[start:c.pos:c.pos]
	if v.typ == TypeBool {
		for i, b := range v.raw {
			if b > 1 {
				return Value{}, c.fail(start+uint64(i), what, fmt.Errorf("%w: bool is %d", ErrRange, b))
			}
		}
	}
	return v, nil
}

// readTensor reads entry i of the tensor table. Its Offset is still relative to
// the data, and its Data missing: place adds both.
func (f *File) readTensor(c *cursor, i uint64) error {
	off := c.pos
	name, err := c.ident(fmt.Sprintf("tensor %d: name", i), MaxNameBytes)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("tensor %q", name)
	if _, ok := f.byName[name]; ok {
		return c.fail(off, what, ErrDuplicate)
	}
	rank, err := c.uint32(what)
	if err != nil {
		return err
	}
	if rank > MaxDims { // tensorBytes refuses 0
		return c.fail(off, what, fmt.Errorf("%d dimensions, want 1 to %d: %w", rank, MaxDims, ErrLimit))
	}
	t := &Tensor{Name: name, Dims: make([]uint64, rank)}
	for j := range t.Dims {
		if t.Dims[j], err = c.uint64(what); err != nil {
			return err
		}
	}
	typ, err := c.uint32(what)
	if err != nil {
		return err
	}
	t.Type = quant.Type(typ)
	if t.Offset, err = c.uint64(what); err != nil {
		return err
	}
	if _, err := tensorBytes(t.Dims, t.Type); err != nil {
		return c.fail(off, what, err)
	}
	if t.Offset%f.alignment != 0 {
		return c.fail(off, what, fmt.Errorf("%w: data offset %d is no multiple of %d", ErrAlignment, t.Offset, f.alignment))
	}
	f.tensors = append(f.tensors, t)
	f.byName[name] = t
	return nil
}

// place turns offsets into offsets of the file and cuts the tensors' data out of
// it. It reports the tensor that a truncated file loses first.
func (f *File) place(c *cursor) error {
	order := slices.Clone(f.tensors)
	slices.SortStableFunc(order, func(a, b *Tensor) int { return cmp.Compare(a.Offset, b.Offset) })
	ends := make([]uint64, len(order))
	var whole uint64 // size of the complete file
	for i, t := range order {
		size, err := tensorBytes(t.Dims, t.Type)
		if err != nil {
			return c.fail(0, fmt.Sprintf("tensor %q", t.Name), err)
		}
		start, carry1 := bits.Add64(f.dataStart, t.Offset, 0)
		end, carry2 := bits.Add64(start, size, 0)
		if carry1|carry2 != 0 {
			return c.fail(f.dataStart, fmt.Sprintf("tensor %q", t.Name), fmt.Errorf("data offset %d: %w", t.Offset, ErrLimit))
		}
		if i > 0 && start < ends[i-1] {
			return c.fail(start, fmt.Sprintf("tensor %q", t.Name), fmt.Errorf("%w: tensor %q ends at byte %d", ErrOverlap, order[i-1].Name, ends[i-1]))
		}
		t.Offset, ends[i] = start, end
		whole = end
	}
	for i, t := range order {
		if ends[i] > uint64(len(c.data)) {
			return &Error{File: c.name, Offset: t.Offset,
				Err: fmt.Errorf("%w: tensor %q needs bytes %d..%d, file has %d of %d",
					ErrTruncated, t.Name, t.Offset, ends[i], len(c.data), whole)}
		}
		t.Data = c.data[t.Offset:ends[i]:ends[i]]
	}
	return nil
}
