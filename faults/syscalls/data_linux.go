package syscalls

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// What a call does with bytes: which ones, where in the file.

// Numbers of arguments of the calls with data.
const (
	argData   = 1 // of read, write and their kind: the bytes, or the vectors
	argCount  = 2 // how many bytes, or vectors
	argOffset = 3 // of pread64 and its kind
	argFlags  = 5 // of preadv2, pwritev2

	argInOffset  = 1 // of copy_file_range and splice: where the offset is
	argOutOffset = 3
	argCopyLen   = 4
	argSendFrom  = 2 // of sendfile
	argSendLen   = 3
)

// copies says whether the data comes from another file, and not from memory.
func (c *call) copies() bool { return c.op == OpWrite && c.from != nowhere }

// measure fills Offset and Len of a read or write.
func (t *target) measure() error {
	c := t.about
	if c.Op != OpRead && c.Op != OpWrite {
		return nil
	}
	var err error
	if c.Len, err = t.length(); err != nil {
		return err
	}
	c.Offset, err = t.offset()
	return err
}

// length is how many bytes a call asks for.
func (t *target) length() (int64, error) {
	switch t.call.name {
	case "read", "write", "pread64", "pwrite64":
		return bounded(t.args[argCount])
	case "sendfile":
		return t.copied(t.args[argSendLen])
	case "copy_file_range", "splice":
		return t.copied(t.args[argCopyLen])
	}
	list, err := t.vectors(t.args[argData], t.arg(argCount))
	var sum int64
	for _, v := range list {
		sum += int64(v.Len)
	}
	if sum < 0 {
		return 0, fmt.Errorf("vectors of more bytes than there are numbers")
	}
	return sum, err
}

// copied is how many bytes a copying call can copy: programs ask for as many as
// there are numbers, and get what their file has left.
func (t *target) copied(asked uint64) (int64, error) {
	fd, at := t.source()
	in, err := t.file(fd)
	if err != nil {
		return 0, err
	}
	defer unix.Close(in)
	var st unix.Stat_t
	if err := unix.Fstat(in, &st); err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return bounded(asked)
	}
	from, err := t.position(in, at)
	if err != nil {
		return 0, err
	}
	return int64(min(asked, uint64(max(st.Size-from, 0)))), nil
}

func bounded(n uint64) (int64, error) {
	if n > 1<<62 {
		return 0, fmt.Errorf("call for %d bytes", n)
	}
	return int64(n), nil
}

// offset is where in the file the call begins.
func (t *target) offset() (int64, error) {
	fd := t.arg(t.call.at.fd)
	pos, err := t.status("fdinfo/"+strconv.Itoa(fd), "pos", 10)
	if err != nil {
		return 0, err
	}
	flags, err := t.status("fdinfo/"+strconv.Itoa(fd), "flags", 8)
	if err != nil {
		return 0, err
	}
	if t.call.op == OpWrite && flags&unix.O_APPEND != 0 {
		info, err := os.Stat(t.proc("fd/" + strconv.Itoa(fd)))
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	}
	switch t.call.name {
	case "pread64", "pwrite64", "preadv", "pwritev":
		return int64(t.args[argOffset]), nil
	case "preadv2", "pwritev2":
		if off := int64(t.args[argOffset]); off >= 0 {
			return off, nil
		}
	case "copy_file_range", "splice":
		if at := t.args[argOutOffset]; at != 0 {
			return t.int64(at)
		}
	}
	return pos, nil
}

func (t *target) int64(at uint64) (int64, error) {
	var b [8]byte
	err := t.read(at, b[:])
	return int64(binary.LittleEndian.Uint64(b[:])), err
}

func (t *target) setInt64(at uint64, v int64) error {
	return t.write(at, binary.LittleEndian.AppendUint64(nil, uint64(v)))
}

// pieces are where the data of a call lies in memory, its first most bytes.
func (t *target) pieces(most int64) ([]unix.RemoteIovec, error) {
	var list []unix.RemoteIovec
	switch t.call.name {
	case "read", "write", "pread64", "pwrite64":
		list = []unix.RemoteIovec{{Base: uintptr(t.args[argData]), Len: int(min(t.about.Len, most))}}
	default:
		var err error
		if list, err = t.vectors(t.args[argData], t.arg(argCount)); err != nil {
			return nil, err
		}
	}
	for i := range list {
		list[i].Len = int(min(int64(list[i].Len), most))
		most -= int64(list[i].Len)
	}
	return list, nil
}

// gather reads the first bytes, at most so many, that a write is about to write.
// They stay in their file or in memory.
func (t *target) gather(most int64) ([]byte, error) {
	most = min(most, t.about.Len, MaxData)
	if t.call.copies() {
		return t.peek(most)
	}
	list, err := t.pieces(most)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, most)
	for _, v := range list {
		at := len(b)
		b = b[:at+v.Len]
		if err := t.read(uint64(v.Base), b[at:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// scatter puts what was read where a read wants it.
func (t *target) scatter(b []byte) error {
	list, err := t.pieces(int64(len(b)))
	for _, v := range list {
		if err == nil {
			err = t.write(uint64(v.Base), b[:v.Len])
			b = b[v.Len:]
		}
	}
	return err
}

// source says where a copying call reads: its descriptor, and where the offset is
// kept, or 0 if that is the file's position.
func (t *target) source() (fd int, offsetAt uint64) {
	if t.call.name == "sendfile" {
		return t.arg(t.call.from.fd), t.args[argSendFrom]
	}
	return t.arg(t.call.from.fd), t.args[argInOffset]
}

// peek reads what a copying call would copy, and moves nothing.
func (t *target) peek(most int64) ([]byte, error) {
	fd, at := t.source()
	in, err := t.file(fd)
	if err != nil {
		return nil, err
	}
	defer unix.Close(in)
	from, err := t.position(in, at)
	if err != nil {
		return nil, fmt.Errorf("data from what is no file: %w", err)
	}
	b := make([]byte, most)
	n, err := unix.Pread(in, b, from)
	return b[:max(n, 0)], err
}

// position is where a copying call reads in its source.
func (t *target) position(in int, offsetAt uint64) (int64, error) {
	if offsetAt != 0 {
		return t.int64(offsetAt)
	}
	return unix.Seek(in, 0, unix.SEEK_CUR)
}

// pass moves the file that is written to the end of the call's bytes, wherever the
// call keeps its position.
func (t *target) pass() error {
	end := t.about.Offset + t.about.Len
	switch t.call.name {
	case "pwrite64", "pwritev":
		return nil
	case "pwritev2":
		if int64(t.args[argOffset]) >= 0 {
			return nil
		}
	case "copy_file_range", "splice":
		if at := t.args[argOutOffset]; at != 0 {
			return t.setInt64(at, end)
		}
	}
	out, err := t.file(t.arg(t.call.at.fd))
	if err != nil {
		return err
	}
	defer unix.Close(out)
	_, err = unix.Seek(out, end, unix.SEEK_SET)
	return err
}

// consume moves the source of a copying call on by n bytes.
func (t *target) consume(n int64) error {
	fd, at := t.source()
	if at != 0 {
		from, err := t.int64(at)
		if err != nil {
			return err
		}
		return t.setInt64(at, from+n)
	}
	in, err := t.file(fd)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	_, err = unix.Seek(in, n, unix.SEEK_CUR)
	return err
}
