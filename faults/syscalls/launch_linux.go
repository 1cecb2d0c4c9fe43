package syscalls

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers of seccomp(2) that x/sys does not name.
const (
	seccompSetModeFilter = 1
	// flagNewListener makes the filter's notifications readable from a descriptor.
	flagNewListener = 1 << 3
	// flagWaitKillable lets only a deadly signal end a call that the supervisor
	// works on: any other would have it made again, after something was done.
	flagWaitKillable = 1 << 5
)

// command is the command line of a launcher that becomes path with args.
func command(socket string, ops []string, path string, args []string) []string {
	return append([]string{launchWord, socket, opWords(ops), path}, args...)
}

// launch installs the filter in this thread, hands its listener to the supervisor
// and becomes the target. It returns only if it fails.
func launch(args []string) error {
	if len(args) == 2 && args[0] == probeWord {
		return probeWrite(args[1])
	}
	if len(args) < 3 {
		return fmt.Errorf("syscalls: %q: no such work", args)
	}
	socket, ops, path, rest := args[0], strings.Split(args[1], ","), args[2], args[3:]
	runtime.LockOSThread() // the filter is the thread's, until it becomes the process
	file, err := exec.LookPath(path)
	if err != nil {
		return fmt.Errorf("syscalls: start: %w", err)
	}
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(s, &unix.SockaddrUnix{Name: socket})
	}
	if err != nil {
		return fmt.Errorf("syscalls: reach the supervisor: %w", err)
	}
	if err := install(ops, s); err != nil {
		return err
	}
	if n, _, err := unix.Recvfrom(s, make([]byte, 1), 0); n != 1 || err != nil {
		return fmt.Errorf("syscalls: the supervisor does not answer: %d bytes, %v", n, err)
	}
	return fmt.Errorf("syscalls: start %s: %w", file, unix.Exec(file, append([]string{path}, rest...), os.Environ()))
}

// install installs the filter and sends its listener.
func install(ops []string, socket int) error {
	p, ok := processorOf(runtime.GOARCH)
	if !ok {
		return fmt.Errorf("syscalls: the system calls of %s are not known", runtime.GOARCH)
	}
	f, err := filter(p, ops)
	if err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("syscalls: no_new_privs: %w", err)
	}
	// Between the two calls nobody answers: a watched call of this thread would
	// never end. So the message is ready before, and the runtime, which would have
	// work of its own for the thread, does not hear of them.
	debug.SetGCPercent(-1)
	one := []byte{1}
	rights := unix.UnixRights(0)
	fdAt := (*int32)(unsafe.Pointer(&rights[unix.CmsgLen(0)]))
	iov := unix.Iovec{Base: &one[0]}
	iov.SetLen(len(one))
	msg := unix.Msghdr{Iov: &iov, Iovlen: 1, Control: &rights[0]}
	msg.SetControllen(len(rights))
	fd, _, e := unix.RawSyscall(unix.SYS_SECCOMP, seccompSetModeFilter, flagNewListener|flagWaitKillable, uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return fmt.Errorf("syscalls: install the filter: %w%s", e, why(e))
	}
	*fdAt = int32(fd)
	_, _, e = unix.RawSyscall(unix.SYS_SENDMSG, uintptr(socket), uintptr(unsafe.Pointer(&msg)), 0)
	runtime.KeepAlive(f)
	unix.Close(int(fd))
	if e != 0 {
		return fmt.Errorf("syscalls: send the listener: %w", e)
	}
	return nil
}

// why explains errors of seccomp(2).
func why(e unix.Errno) string {
	switch e {
	case unix.EINVAL:
		return ": the kernel is older than 5.19"
	case unix.EBUSY:
		return ": another filter with a listener is there already"
	}
	return ""
}
