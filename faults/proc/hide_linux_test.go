package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memoryMap is struct prctl_mm_map of linux/prctl.h: where the kernel finds the parts of
// a process.
type memoryMap struct {
	startCode, endCode, startData, endData, startBrk, brk, startStack, argStart, argEnd, envStart, envEnd uint64

	auxv              uint64
	auxvSize, exeFile uint32
}

func (m *memoryMap) set() error {
	return unix.Prctl(unix.PR_SET_MM, unix.PR_SET_MM_MAP, uintptr(unsafe.Pointer(m)), unsafe.Sizeof(*m), 0)
}

// hide makes this process look as one does that is about to become another program: it
// has neither arguments nor an environment, until show is called.
func hide() (show func(), err error) {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	m := memoryMap{exeFile: ^uint32(0)}  // stays
	for at, to := range map[int]*uint64{ // places behind the name
		23: &m.startCode, 24: &m.endCode, 25: &m.startStack, 42: &m.startData, 43: &m.endData, 44: &m.startBrk,
		45: &m.argStart, 46: &m.argEnd, 47: &m.envStart, 48: &m.envEnd,
	} {
		if at >= len(fields) {
			return nil, fmt.Errorf("%d fields", len(fields))
		}
		*to, _ = strconv.ParseUint(fields[at], 10, 64)
	}
	brk, _, _ := unix.Syscall(unix.SYS_BRK, 0, 0, 0)
	m.brk = uint64(brk)
	hidden := m
	hidden.argEnd, hidden.envEnd = m.argStart, m.envStart
	if err := hidden.set(); err != nil {
		return nil, err
	}
	return func() { _ = m.set() }, nil
}
