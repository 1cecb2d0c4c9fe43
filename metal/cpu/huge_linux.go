package cpu

import "golang.org/x/sys/unix"

// adviseHuge asks for huge pages where a mapping has room for some: a restore
// writes tens of megabytes at once, and faulting them in by 4 KiB takes longer
// than the restore. A system that has none, or none left, goes on as before.
func adviseHuge(data []byte) { _ = unix.Madvise(data, unix.MADV_HUGEPAGE) }
