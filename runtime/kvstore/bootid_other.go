//go:build !linux

package kvstore

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// bootID returns the time of the boot, which serves as its id, or "".
func bootID() string {
	tv, err := unix.SysctlTimeval("kern.boottime")
	if err != nil {
		return ""
	}
	return strconv.FormatInt(int64(tv.Sec), 10)
}
