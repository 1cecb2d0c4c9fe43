package failpoint

import (
	"errors"
	"fmt"
)

var (
	// ErrSyntax is wrapped by every error of Parse: the text is not a rule.
	ErrSyntax = errors.New("failpoint: bad rule")
	// ErrNotHere is returned by Arm for a point of the catalogue that this
	// program does not contain, or that another layer executes.
	ErrNotHere = errors.New("failpoint: point cannot be armed here")
)

// Error is what a point returns when a rule of it fires. Its text is exactly
// the rule's text for err(TEXT), so that a log line of the original failure can
// be reproduced word for word; for the others it names point and cause.
type Error struct {
	Point string // name of the point
	Rule  string // the rule, printed
	Text  string // TEXT of err(TEXT), else empty
	Cause error  // syscall.ENOSPC, EIO, EACCES, io.ErrUnexpectedEOF; nil for err
}

// Error returns the text that a log shows.
func (e *Error) Error() string {
	if e.Cause == nil {
		return e.Text
	}
	return fmt.Sprintf("%s: %v", e.Point, e.Cause)
}

// Unwrap returns the cause, so that errors.Is(err, syscall.ENOSPC) holds.
func (e *Error) Unwrap() error { return e.Cause }
