// Package gguf reads and writes GGUF version 3 files: a table of metadata, a
// table of tensors, and the tensors' bytes.
//
// Reading promises: any bytes give either a File or an error that names the
// file, the place and the reason; nothing panics, and memory grows with what the
// file holds, never with what it declares. Everything in a File was checked:
// tensors lie inside the file, are aligned, do not overlap and have a type that
// metal/quant decodes. It is not checked that a tensor's values make sense, nor
// that a key has the type that a model expects; the accessors of Value say so.
//
// Open maps the file instead of reading it, so models larger than memory work.
// A file that another process shortens while it is mapped makes the kernel kill
// this one with SIGBUS; replace model files by rename.
package gguf

import (
	"fmt"
	"math/bits"
	"slices"

	"ds4/metal/quant"
)

// Limits of a file that this package reads or writes. They are far above what
// models use and keep a hostile file from costing more than its size.
const (
	MaxKeys        = 1 << 16
	MaxTensors     = 1 << 20
	MaxDims        = 4
	MaxKeyBytes    = 1<<16 - 1
	MaxNameBytes   = 64       // of a tensor
	MaxStringBytes = 64 << 20 // of a metadata string or an element of a string array
	MaxElements    = 1 << 32  // of a metadata array
	MaxAlignment   = 1 << 16
)

const (
	magic            = "GGUF"
	version          = 3
	defaultAlignment = 32
	alignmentKey     = "general.alignment"
)

// File is a parsed GGUF file. It is safe for concurrent use until Close.
type File struct {
	name      string
	data      []byte
	unmap     func() error
	alignment uint64
	dataStart uint64 // offset of the tensor data in the file
	keys      []string
	values    map[string]Value
	tensors   []*Tensor
	byName    map[string]*Tensor
}

// Tensor is an entry of the tensor table.
type Tensor struct {
	Name   string
	Dims   []uint64   // extents, the fastest dimension first, none of them 0
	Type   quant.Type // always one that metal/quant supports
	Offset uint64     // of the first byte, from the start of the file
	Data   []byte     // the tensor's bytes; read-only, valid until Close
}

// Elements is the number of values in the tensor.
func (t *Tensor) Elements() uint64 {
	n := uint64(1)
	for _, d := range t.Dims {
		n *= d // cannot overflow: Parse checked the product
	}
	return n
}

// Rows is the number of runs of Dims[0] values.
func (t *Tensor) Rows() uint64 { return t.Elements() / t.Dims[0] }

// RowBytes is the size of one run of Dims[0] values.
func (t *Tensor) RowBytes() int {
	return int(t.Dims[0]/uint64(t.Type.BlockSize())) * t.Type.BlockBytes()
}

// Name is the path given to Open or the name given to Parse.
func (f *File) Name() string { return f.name }

// Size is the file's length in bytes.
func (f *File) Size() int64 { return int64(len(f.data)) }

// Alignment is the alignment of tensor data in bytes.
func (f *File) Alignment() int { return int(f.alignment) }

// Keys lists the metadata keys in the file's order.
func (f *File) Keys() []string { return slices.Clone(f.keys) }

// Value returns the metadata value of key.
func (f *File) Value(key string) (Value, bool) {
	v, ok := f.values[key]
	return v, ok
}

// Tensors lists the tensors in the order of the file's table.
func (f *File) Tensors() []*Tensor { return slices.Clone(f.tensors) }

// Tensor returns the tensor with the given name.
func (f *File) Tensor(name string) (*Tensor, bool) {
	t, ok := f.byName[name]
	return t, ok
}

// Close unmaps the file. Values and tensors' Data must not be used afterwards;
// strings and slices that accessors of Value returned stay valid.
func (f *File) Close() error {
	unmap := f.unmap
	f.unmap, f.data = nil, nil
	if unmap == nil {
		return nil
	}
	if err := unmap(); err != nil {
		return fmt.Errorf("gguf: unmap %s: %w", f.name, err)
	}
	return nil
}

// tensorBytes is the size of a tensor's data.
func tensorBytes(dims []uint64, t quant.Type) (uint64, error) {
	if len(dims) == 0 || len(dims) > MaxDims {
		return 0, fmt.Errorf("%d dimensions, want 1 to %d: %w", len(dims), MaxDims, ErrLimit)
	}
	if !t.Supported() {
		return 0, fmt.Errorf("%v: %w", t, quant.ErrUnknownType)
	}
	elements := uint64(1)
	for i, d := range dims {
		if d == 0 {
			return 0, fmt.Errorf("dimension %d of %v is 0: %w", i, dims, ErrShape)
		}
		hi, lo := bits.Mul64(elements, d)
		if hi != 0 || lo > maxElements {
			return 0, fmt.Errorf("shape %v has more than %d elements: %w", dims, uint64(maxElements), ErrLimit)
		}
		elements = lo
	}
	if bs := uint64(t.BlockSize()); dims[0]%bs != 0 {
		return 0, fmt.Errorf("rows of %d values, %v has blocks of %d: %w", dims[0], t, bs, quant.ErrBlock)
	}
	return elements / uint64(t.BlockSize()) * uint64(t.BlockBytes()), nil
}

// maxElements keeps the size of any tensor in bytes below 2^63.
const maxElements = 1 << 60

// alignUp rounds n up to a multiple of the power of two align.
func alignUp(n, align uint64) uint64 { return (n + align - 1) &^ (align - 1) }
