package run

import (
	"errors"
	"fmt"
)

var (
	// ErrOptions is returned by Run for options that cannot be executed.
	ErrOptions = errors.New("run: invalid options")

	// errInconclusive ends a repetition that proves nothing: a fault that did
	// not fire, a part of the host or of the harness that is missing.
	errInconclusive = errors.New("inconclusive")
	// errStuck ends a repetition whose deadline passed, or whose client gave up.
	errStuck = errors.New("stuck")
	// errEnough ends a repetition that has failed, for FailFast.
	errEnough = errors.New("stopped at the first failure")
)

func inconclusive(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errInconclusive, fmt.Errorf(format, args...))
}

func stuck(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errStuck, fmt.Errorf(format, args...))
}
