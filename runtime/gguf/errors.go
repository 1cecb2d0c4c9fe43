package gguf

import (
	"errors"
	"fmt"
)

// Every error of Open and Parse is an *Error that wraps one of these, an error
// of metal/quant (a tensor's type or row length), or the operating system's.
var (
	// ErrMagic means that the file is something else than GGUF.
	ErrMagic = errors.New("not a GGUF file")
	// ErrVersion means a version of GGUF other than 3.
	ErrVersion = errors.New("unsupported GGUF version")
	// ErrBigEndian means a big-endian GGUF file.
	ErrBigEndian = errors.New("big-endian GGUF files are not supported")
	// ErrTruncated means that the file ends before something that it declares.
	ErrTruncated = errors.New("file is truncated")
	// ErrLimit means that a count or length exceeds one of the package's limits.
	ErrLimit = errors.New("exceeds the limit")
	// ErrDuplicate means two metadata keys or two tensors of the same name.
	ErrDuplicate = errors.New("duplicate name")
	// ErrName means a key or tensor name that is empty or not UTF-8.
	ErrName = errors.New("invalid name")
	// ErrValueType means a metadata type that does not exist, an array of arrays,
	// or, from an accessor, a value of another type than the one asked for.
	ErrValueType = errors.New("wrong metadata type")
	// ErrRange means that a number does not fit the type asked for, or a bool is
	// neither 0 nor 1.
	ErrRange = errors.New("value out of range")
	// ErrShape means a tensor with a dimension of 0.
	ErrShape = errors.New("invalid shape")
	// ErrAlignment means an unusable general.alignment or a misaligned tensor.
	ErrAlignment = errors.New("bad alignment")
	// ErrOverlap means that two tensors share bytes.
	ErrOverlap = errors.New("tensors overlap")
	// ErrData means that the bytes given for a tensor to write disagree with its
	// shape in number.
	ErrData = errors.New("wrong amount of tensor data")
)

// Error is the failure to read or map a file.
type Error struct {
	File   string
	What   string // the part of the file, e.g. `tensor "output.weight"`; may be ""
	Offset uint64 // byte in the file where the part starts
	Err    error
}

// Error is one line: file, byte, part, reason. For truncated files the reason
// names the bytes that are missing.
func (e *Error) Error() string {
	if e.What == "" {
		return fmt.Sprintf("gguf: %s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("gguf: %s: byte %d: %s: %v", e.File, e.Offset, e.What, e.Err)
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }
