package syscalls

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits on what a target may make us read.
const (
	maxPathBytes = 4096 // PATH_MAX
	maxVectors   = 1024 // IOV_MAX
	pageBytes    = 4096
)

// target is a thread that waits in a call.
type target struct {
	tid  int
	args [6]uint64
	call *call

	valid func() bool // it still waits
	pidfd int         // of its process, once open; 0 before
	about *Call
}

func (t *target) close() {
	if t.pidfd > 0 {
		unix.Close(t.pidfd)
		t.pidfd = 0
	}
}

func (t *target) proc(name string) string { return fmt.Sprintf("/proc/%d/%s", t.tid, name) }

// arg is an argument that is a descriptor, or a C int.
func (t *target) arg(i int) int { return int(int32(t.args[i])) }

// decode finds out what a call is about.
func (t *target) decode() (*Call, error) {
	c := &Call{Name: t.call.name, Op: t.call.op}
	t.about = c
	var err error
	if c.Path, err = t.name(t.call.at); err != nil {
		return nil, err
	}
	switch {
	case strings.HasPrefix(c.Name, "symlink"):
		c.From, err = t.text(t.args[0])
	case t.call.from != nowhere && c.Op != OpWrite:
		c.From, err = t.name(t.call.from)
	}
	if err != nil {
		return nil, err
	}
	switch c.Name {
	case "open":
		c.Flags = int64(t.args[1])
	case "openat":
		c.Flags = int64(t.args[2])
	case "openat2":
		var how [8]byte // the flags come first in struct open_how
		err = t.read(t.args[2], how[:])
		c.Flags = int64(binary.LittleEndian.Uint64(how[:]))
	case "creat":
		c.Flags = unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC
	case "renameat2":
		c.Flags = int64(t.args[4])
	case "unlinkat":
		if c.Flags = int64(t.args[2]); c.Flags&unix.AT_REMOVEDIR != 0 {
			c.Op = OpRmdir
		}
	case "fallocate":
		c.Flags, c.Offset, c.Len = int64(t.args[1]), int64(t.args[2]), int64(t.args[3])
	case "truncate", "ftruncate":
		c.Offset = int64(t.args[1])
	}
	if c.Op == OpOpen && c.Flags&unix.O_CREAT != 0 {
		c.Op = OpCreate
	}
	return c, err
}

// name is the absolute path of what some arguments name.
func (t *target) name(p place) (string, error) {
	switch {
	case p == nowhere:
		return "", nil
	case p.path == none:
		return os.Readlink(t.proc("fd/" + strconv.Itoa(t.arg(p.fd))))
	}
	name, err := t.text(t.args[p.path])
	if err != nil {
		return "", err
	}
	dir := "/"
	if !path.IsAbs(name) {
		if dir, err = os.Readlink(t.folder(p)); err != nil {
			return "", err
		}
	}
	return resolve(clean(dir, name)), nil
}

// resolve follows the links of all but the last element, as the kernel does when
// it tells the path of a descriptor.
func resolve(name string) string {
	if dir, err := filepath.EvalSymlinks(path.Dir(name)); err == nil {
		return path.Join(dir, path.Base(name))
	}
	return name
}

// folder is the link in /proc to where a path counts from.
func (t *target) folder(p place) string {
	if p.fd == none || t.arg(p.fd) == unix.AT_FDCWD {
		return t.proc("cwd")
	}
	return t.proc("fd/" + strconv.Itoa(t.arg(p.fd)))
}

// reach is a path by which this process gets to what the target names, whatever
// its working directory and root.
func (t *target) reach(p place) (string, error) {
	if p.path == none {
		return t.proc("fd/" + strconv.Itoa(t.arg(p.fd))), nil
	}
	name, err := t.text(t.args[p.path])
	switch {
	case err != nil:
		return "", err
	case path.IsAbs(name):
		return t.proc("root") + name, nil
	case name == "":
		return t.folder(p), nil
	}
	return t.folder(p) + "/" + name, nil
}

// text reads a string of the target, page by page: what comes behind it may not
// be readable.
func (t *target) text(at uint64) (string, error) {
	var b []byte
	for len(b) < maxPathBytes {
		piece := make([]byte, pageBytes-at%pageBytes)
		if err := t.read(at, piece); err != nil {
			return "", err
		}
		if end := bytes.IndexByte(piece, 0); end >= 0 {
			if b = append(b, piece[:end]...); len(b) < maxPathBytes {
				return string(b), nil
			}
			break
		}
		b = append(b, piece...)
		at += uint64(len(piece))
	}
	return "", fmt.Errorf("path of more than %d bytes", maxPathBytes)
}

// read reads the target's memory.
func (t *target) read(at uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(len(b))
	n, err := unix.ProcessVMReadv(t.tid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(b)}}, 0)
	if err == nil && n == len(b) {
		return nil
	}
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		return t.memory(os.O_RDONLY, func(f *os.File) (int, error) { return f.ReadAt(b, int64(at)) })
	}
	return fmt.Errorf("read %d bytes of memory: got %d: %w", len(b), n, err)
}

// write writes to the target's memory.
func (t *target) write(at uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return t.memory(os.O_WRONLY, func(f *os.File) (int, error) { return f.WriteAt(b, int64(at)) })
}

// memory is the other way to a target's memory, for hosts that forbid the first
// one.
func (t *target) memory(flag int, use func(*os.File) (int, error)) error {
	f, err := os.OpenFile(t.proc("mem"), flag, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = use(f)
	return err
}

// vectors reads an array of struct iovec. More than the kernel takes are an error.
func (t *target) vectors(at uint64, count int) ([]unix.RemoteIovec, error) {
	if count < 0 || count > maxVectors {
		return nil, fmt.Errorf("%d vectors, the limit is %d", count, maxVectors)
	}
	const bytesEach = 16
	b := make([]byte, count*bytesEach)
	if err := t.read(at, b); err != nil {
		return nil, err
	}
	list := make([]unix.RemoteIovec, count)
	for i := range list {
		one := b[i*bytesEach:]
		n := binary.LittleEndian.Uint64(one[8:])
		if n > 1<<62 {
			return nil, fmt.Errorf("vector of %d bytes", n)
		}
		list[i] = unix.RemoteIovec{Base: uintptr(binary.LittleEndian.Uint64(one)), Len: int(n)}
	}
	return list, nil
}

// status reads a number from one of the files of /proc that consist of lines such
// as "Tgid:	42".
func (t *target) status(file, key string, base int) (int64, error) {
	text, err := os.ReadFile(t.proc(file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			return strconv.ParseInt(strings.TrimSpace(rest), base, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", t.proc(file), key)
}

// process opens the target's process.
func (t *target) process() (pidfd int, err error) {
	if t.pidfd > 0 {
		return t.pidfd, nil
	}
	tgid, err := t.status("status", "Tgid", 10)
	if err != nil {
		return -1, err
	}
	if t.pidfd, err = unix.PidfdOpen(int(tgid), 0); err != nil {
		t.pidfd = 0
		return -1, fmt.Errorf("pidfd_open: %w", err)
	}
	// Now it is known that the descriptor is not of another process, which got the
	// number of one that has ended.
	if !t.valid() {
		t.close()
		return -1, unix.ESRCH
	}
	return t.pidfd, nil
}

// file gets one of the target's open files: the same one, with its position.
func (t *target) file(fd int) (ours int, err error) {
	p, err := t.process()
	if err != nil {
		return -1, err
	}
	if ours, err = unix.PidfdGetfd(p, fd, 0); err != nil {
		return -1, fmt.Errorf("pidfd_getfd: %w", err)
	}
	return ours, nil
}

// kill kills the target's process.
func (t *target) kill() error {
	p, err := t.process()
	if err != nil {
		return err
	}
	return unix.PidfdSendSignal(p, unix.SIGKILL, nil, 0)
}
