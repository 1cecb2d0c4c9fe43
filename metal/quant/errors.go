package quant

import "errors"

var (
	// ErrUnknownType means that a type has a number or name that this package
	// does not implement.
	ErrUnknownType = errors.New("unsupported tensor type")
	// ErrBlock means that a row does not consist of whole blocks.
	ErrBlock = errors.New("row is no multiple of the block")
	// ErrTooLarge means that a row's size in bytes overflows.
	ErrTooLarge = errors.New("row is too large")
	// ErrLength means that the bytes and the values of a row disagree in number.
	ErrLength = errors.New("byte count does not match the values")
	// ErrRange means that a value is not finite, or too large for the scale of a
	// block to hold it.
	ErrRange = errors.New("value cannot be represented")
)
