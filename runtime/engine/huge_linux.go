package engine

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of a huge page.
const hugePage = 2 << 20

// adviseFill says that bytes [from, to) of a mapping are about to be written as a
// whole. A restore into new memory would spend most of its time in page faults of
// 4 KiB; the system that has huge pages gives them for the asking, another goes
// on as before. Memory that will not be written is not asked for, but for the
// rest of the first and the last page.
func adviseFill(mapping []byte, from, to int) {
	if to-from < hugePage/2 {
		return
	}
	base := int(uintptr(unsafe.Pointer(&mapping[0])) % hugePage)
	from = max(0, (from+base)/hugePage*hugePage-base)
	to = min(len(mapping), (to+base+hugePage-1)/hugePage*hugePage-base)
	_ = unix.Madvise(mapping[from:to], unix.MADV_HUGEPAGE)
}
