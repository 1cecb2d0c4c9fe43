package scenarios

import "errors"

var (
	// ErrTooLarge is returned for a file over MaxFileBytes.
	ErrTooLarge = errors.New("scenario file is over the limit of 1 MiB")
	// ErrAnchor is returned for anchors, aliases, merge keys and tags: a small
	// file must not describe a huge one, nor anything but plain values.
	ErrAnchor = errors.New("anchors, aliases, merge keys and tags are not allowed")
	// ErrNesting is returned for lines or nesting that no author writes.
	ErrNesting = errors.New("nested too deeply, or a line too long")
	// ErrInvalid is wrapped by every complaint about what a well-formed file says.
	ErrInvalid = errors.New("invalid scenario")
	// ErrUnknown is returned for a scenario name that the library does not have.
	ErrUnknown = errors.New("unknown scenario")
)
