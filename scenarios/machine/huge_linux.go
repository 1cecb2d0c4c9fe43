package machine

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// huge asks for large pages: with small ones the look-up of addresses would be
// measured too, which what is compared with this does without. Where there are none,
// small ones do.
func huge(p []byte) {
	const hugeBytes = 2 << 20
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(p)))) & (hugeBytes - 1)
	if skip < len(p) {
		_ = unix.Madvise(p[skip:], unix.MADV_HUGEPAGE)
	}
}
