package proc

import "errors"

var (
	// ErrExited is returned when the process ended while something was expected
	// of it. The error text has its last log lines.
	ErrExited = errors.New("proc: process has ended")
	// ErrNotReady is returned when the deadline passed before the server answered.
	ErrNotReady = errors.New("proc: server is not ready")
)
