package syscalls

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Classic BPF, as seccomp takes it.
const (
	bpfLoad  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	bpfEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	bpfAnd   = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	bpfSet   = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	bpfRet   = unix.BPF_RET | unix.BPF_K
)

// Answers of a filter.
const (
	retAllow  = 0x7fff0000
	retNotify = 0x7fc00000
	retErrno  = 0x00050000
)

// Offsets in struct seccomp_data. Both processors are little-endian: the lower
// half of an argument comes first.
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16
	argBytes   = 8
)

// x32Bit marks calls of amd64's other ABI.
const x32Bit = 0x40000000

// filter builds the program that hands the watched calls to the supervisor. Calls
// of another ABI fail with ENOSYS: they would go unseen.
func filter(p processor, ops []string) ([]unix.SockFilter, error) {
	list := p.watched(ops)
	f := []unix.SockFilter{
		{Code: bpfLoad, K: dataArch},
		{Code: bpfEqual, K: p.audit, Jt: 1},
		{Code: bpfRet, K: retErrno | uint32(unix.ENOSYS)},
		{Code: bpfLoad, K: dataNumber},
		{Code: bpfSet, K: x32Bit, Jf: 1},
		{Code: bpfRet, K: retErrno | uint32(unix.ENOSYS)},
	}
	for _, c := range list {
		f = append(f, unix.SockFilter{Code: bpfEqual, K: uint32(p.number(c)), Jf: uint8(len(notify(c)))})
		f = append(f, notify(c)...)
	}
	f = append(f, unix.SockFilter{Code: bpfRet, K: retAllow})
	if len(f) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("syscalls: filter of %d instructions, the limit is %d", len(f), unix.BPF_MAXINSNS)
	}
	return f, nil
}

// notify is what follows when the number is that of the call. A mapping is of
// interest only if it shares a file and may be written to.
func notify(c *call) []unix.SockFilter {
	tell := unix.SockFilter{Code: bpfRet, K: retNotify}
	if c.op != opMap {
		return []unix.SockFilter{tell}
	}
	const protection, flags = 2, 3
	allow := unix.SockFilter{Code: bpfRet, K: retAllow}
	return []unix.SockFilter{
		{Code: bpfLoad, K: dataArgs + protection*argBytes},
		{Code: bpfSet, K: unix.PROT_WRITE, Jt: 1},
		allow,
		{Code: bpfLoad, K: dataArgs + flags*argBytes},
		{Code: bpfSet, K: unix.MAP_ANONYMOUS, Jf: 1},
		allow,
		{Code: bpfAnd, K: unix.MAP_SHARED | unix.MAP_PRIVATE}, // SHARED_VALIDATE is both
		{Code: bpfEqual, K: unix.MAP_PRIVATE, Jf: 1},
		allow,
		tell,
	}
}
