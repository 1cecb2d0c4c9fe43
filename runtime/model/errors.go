package model

import "errors"

var (
	// ErrMissing is wrapped when the file lacks a metadata key or a tensor that
	// the architecture needs.
	ErrMissing = errors.New("missing from the file")
	// ErrArchitecture is wrapped when the file holds another kind of model.
	ErrArchitecture = errors.New("not a deepseek4 model")
	// ErrUnsupported is wrapped when a value is well formed but this engine
	// cannot run it.
	ErrUnsupported = errors.New("not supported")
	// ErrShape is wrapped when a tensor's dimensions contradict the metadata.
	ErrShape = errors.New("wrong shape")
)
