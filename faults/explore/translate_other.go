//go:build !linux

package explore

import (
	"errors"

	"ds4/faults/syscalls"
)

// translate knows no calls of this system.
func (r *Recorder) translate(*syscalls.Call) (Op, bool, error) {
	return Op{}, false, errors.New("needs Linux")
}
