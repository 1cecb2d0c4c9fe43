package syscalls

import (
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of a listener.
const (
	ioctlRecv     = 0xc0502100
	ioctlSend     = 0xc0182101
	ioctlValid    = 0x40082102
	ioctlSetFlags = 0x40082104
	// flagSyncWakeUp keeps target and supervisor on one processor: it makes an
	// answer twice as fast. Linux 6.6; without it nothing changes but speed.
	flagSyncWakeUp = 1
	// flagContinue has the kernel make the call.
	flagContinue = 1
)

// notification is struct seccomp_notif.
type notification struct {
	id    uint64
	pid   uint32 // of the thread
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// listener is where the calls of one target and its children arrive.
type listener struct {
	s  *Supervisor
	fd int

	numbers map[int32]*call
	waiting sync.WaitGroup // calls that are kept waiting
}

// serve handles calls until no process is left that makes any, or the supervisor
// is closed.
func (l *listener) serve() {
	defer l.waiting.Wait()
	p, _ := processorOf(runtime.GOARCH)
	l.numbers = map[int32]*call{}
	for _, c := range p.watched(Ops()) {
		l.numbers[int32(p.number(c))] = c
	}
	_ = l.ioctl(ioctlSetFlags, flagSyncWakeUp)
	fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}, {Fd: int32(l.s.wake[0]), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil {
			if err == unix.EINTR {
				continue
			}
			return
		}
		if fds[1].Revents != 0 || fds[0].Revents&unix.POLLIN == 0 {
			return // closed, or the last process has ended
		}
		var nf notification
		if err := l.ioctl(ioctlRecv, uintptr(unsafe.Pointer(&nf))); err != nil {
			continue // it has been interrupted since
		}
		l.handle(&nf)
	}
}

func (l *listener) ioctl(request, arg uintptr) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), request, arg); e != 0 {
		return e
	}
	return nil
}

// valid says that the thread still waits in the call: until then its number was
// not given to another process, and what /proc says of it is about it.
func (l *listener) valid(id uint64) bool {
	return l.ioctl(ioctlValid, uintptr(unsafe.Pointer(&id))) == nil
}

// goOn has the kernel make the call. A thread that is gone is no error.
func (l *listener) goOn(id uint64) {
	r := response{id: id, flags: flagContinue}
	_ = l.ioctl(ioctlSend, uintptr(unsafe.Pointer(&r)))
}

// answer makes the call return a value, or fail.
func (l *listener) answer(id uint64, val int64, errno unix.Errno) {
	r := response{id: id, val: val, err: -int32(errno)}
	if errno != 0 {
		r.val = 0
	}
	_ = l.ioctl(ioctlSend, uintptr(unsafe.Pointer(&r)))
}

// handle decides about one call.
func (l *listener) handle(nf *notification) {
	c := l.numbers[nf.nr]
	if c == nil {
		l.goOn(nf.id)
		return
	}
	t := &target{tid: int(nf.pid), args: nf.args, call: c, valid: func() bool { return l.valid(nf.id) }}
	defer t.close()
	if c.op == opRing {
		l.s.unseen("io_uring is refused: what it writes would go unseen")
		l.answer(nf.id, 0, unix.ENOSYS)
		return
	}
	about, err := t.decode()
	if !l.valid(nf.id) {
		return
	}
	if err != nil || !l.s.concerns(about) {
		l.goOn(nf.id)
		return
	}
	if c.op == opMap {
		l.s.unseen(about.Path + " is mapped for writing: stores to it go unseen")
		l.goOn(nf.id)
		return
	}
	l.s.observe(t, about)
	r := l.s.choose(t, about)
	if r == nil {
		l.goOn(nf.id)
		return
	}
	l.act(nf.id, t, about, r)
}
