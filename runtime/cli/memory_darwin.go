package cli

import (
	"math"

	"golang.org/x/sys/unix"
)

// availableMemory is three quarters of the machine's memory: the system has no
// figure for what it would give without swapping, and compresses before it does.
func availableMemory() (uint64, string) {
	total, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return math.MaxUint64, "unknown"
	}
	return total / 4 * 3, "3/4 of hw.memsize"
}
