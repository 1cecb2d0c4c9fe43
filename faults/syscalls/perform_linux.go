package syscalls

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"ds4/runtime/failpoint"
)

// perform makes the call for the target and returns what the target gets. Of a
// read or write only the first most bytes; damage, if not nil, changes them on
// their way.
func (t *target) perform(most int64, damage *failpoint.Action) (int64, error) {
	switch t.about.Op {
	case OpWrite:
		return t.doWrite(most, damage)
	case OpRead:
		return t.doRead(most, damage)
	case OpOpen, OpCreate:
		return 0, t.doOpen()
	case OpRename, OpLink, OpUnlink, OpRmdir, OpMkdir:
		return 0, t.doNames()
	}
	if t.call.name == "truncate" {
		at, err := t.reach(t.call.at)
		if err != nil {
			return 0, err
		}
		return 0, unix.Truncate(at, t.about.Offset)
	}
	fd, err := t.file(t.arg(t.call.at.fd))
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	switch t.call.name {
	case "fsync":
		err = unix.Fsync(fd)
	case "fdatasync":
		err = unix.Fdatasync(fd)
	case "sync_file_range":
		err = unix.SyncFileRange(fd, int64(t.args[1]), int64(t.args[2]), t.arg(3))
	case "syncfs":
		err = unix.Syncfs(fd)
	case "ftruncate":
		err = unix.Ftruncate(fd, t.about.Offset)
	case "fallocate":
		err = unix.Fallocate(fd, uint32(t.about.Flags), t.about.Offset, t.about.Len)
	default:
		err = fmt.Errorf("%s is not done for others", t.call.name)
	}
	return 0, err
}

func (t *target) doWrite(most int64, damage *failpoint.Action) (int64, error) {
	if err := t.measure(); err != nil {
		return 0, err
	}
	b, err := t.gather(most)
	if err != nil {
		return 0, err
	}
	if damage != nil && damage.Touches(t.about.Offset, len(b)) {
		damage.Damage(t.about.Offset, b)
	}
	fd, err := t.file(t.arg(t.call.at.fd))
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var n int
	switch t.call.name {
	case "pwrite64", "pwritev":
		n, err = unix.Pwrite(fd, b, int64(t.args[argOffset]))
	case "pwritev2":
		n, err = unix.Pwritev2(fd, [][]byte{b}, int64(t.args[argOffset]), t.arg(argFlags))
	case "copy_file_range", "splice":
		if at := t.args[argOutOffset]; at != 0 {
			if n, err = unix.Pwrite(fd, b, t.about.Offset); err == nil {
				err = t.setInt64(at, t.about.Offset+int64(n))
			}
			break
		}
		n, err = unix.Write(fd, b)
	default:
		n, err = unix.Write(fd, b)
	}
	if err == nil && t.call.copies() {
		err = t.consume(int64(n))
	}
	return int64(n), err
}

func (t *target) doRead(most int64, damage *failpoint.Action) (int64, error) {
	if err := t.measure(); err != nil {
		return 0, err
	}
	fd, err := t.file(t.arg(t.call.at.fd))
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	b := make([]byte, min(most, t.about.Len, MaxData))
	var n int
	switch t.call.name {
	case "pread64", "preadv":
		n, err = unix.Pread(fd, b, int64(t.args[argOffset]))
	case "preadv2":
		n, err = unix.Preadv2(fd, [][]byte{b}, int64(t.args[argOffset]), t.arg(argFlags))
	default:
		n, err = unix.Read(fd, b)
	}
	if err != nil {
		return 0, err
	}
	b = b[:n]
	if damage != nil && damage.Touches(t.about.Offset, n) {
		damage.Damage(t.about.Offset, b)
	}
	return int64(n), t.scatter(b)
}

// doOpen opens a file and closes it again, which leaves what an open leaves. It
// never waits for the other end of a FIFO.
func (t *target) doOpen() error {
	at, err := t.reach(t.call.at)
	if err != nil {
		return err
	}
	var mode uint64
	switch t.call.name {
	case "open":
		mode = t.args[2]
	case "openat":
		mode = t.args[3]
	case "creat":
		mode = t.args[1]
	case "openat2":
		var how [16]byte // flags and mode of struct open_how
		if err := t.read(t.args[2], how[:]); err != nil {
			return err
		}
		mode = binary.LittleEndian.Uint64(how[8:])
	}
	fd, err := unix.Open(at, int(t.about.Flags)|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, uint32(mode))
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// doNames makes a call that changes names.
func (t *target) doNames() error {
	at, err := t.reach(t.call.at)
	if err != nil {
		return err
	}
	var from string
	if t.call.from != nowhere {
		if from, err = t.reach(t.call.from); err != nil {
			return err
		}
	}
	const here = unix.AT_FDCWD
	name := t.call.name
	switch {
	case strings.HasPrefix(name, "rename"):
		return unix.Renameat2(here, from, here, at, uint(t.about.Flags))
	case name == "link":
		return unix.Link(from, at)
	case name == "linkat":
		flags := t.arg(4)
		if flags&unix.AT_EMPTY_PATH != 0 { // the path that was reached is a link in /proc
			flags = flags&^unix.AT_EMPTY_PATH | unix.AT_SYMLINK_FOLLOW
		}
		return unix.Linkat(here, from, here, at, flags)
	case strings.HasPrefix(name, "symlink"):
		return unix.Symlink(t.about.From, at)
	case t.about.Op == OpRmdir:
		return unix.Rmdir(at)
	case t.about.Op == OpUnlink:
		return unix.Unlink(at)
	case name == "mkdir":
		return unix.Mkdir(at, uint32(t.args[1]))
	case name == "mkdirat":
		return unix.Mkdir(at, uint32(t.args[2]))
	case name == "mknod":
		return unix.Mknod(at, uint32(t.args[1]), int(t.args[2]))
	}
	return unix.Mknod(at, uint32(t.args[2]), int(t.args[3]))
}
