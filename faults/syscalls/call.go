package syscalls

import (
	"path"
	"strings"
)

// Call is one system call on a file, before it is made.
type Call struct {
	Name string // of the system call
	Op   string // one of Ops
	Path string // what it acts on; of a rename the new name
	From string // the old name of a rename or link, the text of a symbolic link

	Offset int64  // of a read, write or fallocate; the new length of a truncate
	Len    int64  // bytes that are asked for
	Flags  int64  // of open, rename, unlink and fallocate, as in the call
	Data   []byte // of a write, if somebody observes; shorter than Len if that exceeds MaxData
	Err    error  // why Offset, Len or Data are not known
}

// MaxData bounds what is read of a target's memory for one call. A write that is
// carried out for a target ends there, as a short one.
const MaxData = 16 << 20

// changes says whether a call changes files, or makes changes durable.
func (c *Call) changes() bool {
	switch c.Op {
	case OpRead, OpReadDir:
		return false
	}
	return true
}

// isFile says whether a name is that of a file or folder that a rule can be
// about, and not of a device, a pipe, a socket or the like.
func isFile(name string) bool {
	if !strings.HasPrefix(name, "/") {
		return false
	}
	for _, other := range []string{"/dev", "/proc", "/sys"} {
		if below(name, other) && !below(name, "/dev/shm") {
			return false
		}
	}
	return true
}

// below says whether a name is dir or lies in it.
func below(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// clean joins a name to the folder that it counts from.
func clean(dir, name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(dir, name)
}
