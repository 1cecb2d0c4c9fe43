package reports

import "errors"

var (
	// ErrFormat means that a line is no record of this format: bad JSON, an
	// unknown field, a value outside its range, or another format version.
	ErrFormat = errors.New("not a results file of format " + Format)
	// ErrTooLarge means that a file or a record is beyond the limits of this
	// package; it is never read or written in part.
	ErrTooLarge = errors.New("beyond the limits of a results file")
)
