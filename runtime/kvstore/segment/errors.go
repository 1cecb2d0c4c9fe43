package segment

import "errors"

var (
	// ErrTorn means that a file ends before its footer, or has none: the write of
	// it was not finished, or its end was lost.
	ErrTorn = errors.New("segment: torn file")
	// ErrCorrupt means that bytes are not what was written: a checksum, a fixed
	// value or the text's hash does not hold.
	ErrCorrupt = errors.New("segment: corrupt")
	// ErrVersion means a well-formed file of another format version.
	ErrVersion = errors.New("segment: other format version")
	// ErrIdentity means a well-formed file that belongs to another model,
	// tokenizer or numerics.
	ErrIdentity = errors.New("segment: other identity")
	// ErrLayout means that sections are not those that the model's layout and the
	// token range imply.
	ErrLayout = errors.New("segment: sections do not fit the layout")
	// ErrLimit means a declared size beyond a limit of this package.
	ErrLimit = errors.New("segment: over a limit")
	// ErrInput is returned by Encode for a Segment that its layout does not allow.
	ErrInput = errors.New("segment: bad input")
)
