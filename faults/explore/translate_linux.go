package explore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"ds4/faults/syscalls"
)

// there says what a path leads to, without following a link.
func there(name string) (info fs.FileInfo, ok bool) {
	info, err := os.Lstat(name)
	return info, err == nil
}

// translate finds out what a call will do; ok is false for nothing. Calls that are
// going to fail do nothing.
func (r *Recorder) translate(c *syscalls.Call) (op Op, ok bool, err error) {
	if c.Name == "sync" || c.Name == "syncfs" {
		return Op{Kind: SyncAll}, true, nil
	}
	name, in := r.inside(c.Path)
	info, exists := there(c.Path)
	if !in && c.Op != syscalls.OpRename {
		return op, false, nil // a link that leads out of the directory
	}
	switch c.Op {
	case syscalls.OpCreate, syscalls.OpOpen:
		return open(c, name, info, exists)
	case syscalls.OpMkdir:
		if !strings.HasPrefix(c.Name, "mkdir") && !exists {
			return op, false, errors.New("special files cannot be replayed")
		}
		return Op{Kind: Mkdir, Path: name}, !exists, nil
	case syscalls.OpWrite:
		if c.Err != nil {
			return op, false, c.Err
		}
		if int64(len(c.Data)) < c.Len && c.Len > syscalls.MaxData {
			return op, false, fmt.Errorf("%d bytes at once, the limit is %d", c.Len, syscalls.MaxData)
		}
		return Op{Kind: Write, Path: name, Offset: c.Offset, Data: c.Data}, exists && len(c.Data) > 0, nil
	case syscalls.OpTruncate:
		return Op{Kind: Truncate, Path: name, Offset: c.Offset}, exists && info.Mode().IsRegular(), nil
	case syscalls.OpAllocate:
		switch c.Flags {
		case 0:
			return Op{Kind: Grow, Path: name, Offset: c.Offset + c.Len}, exists, nil
		case unix.FALLOC_FL_KEEP_SIZE:
			return op, false, nil
		}
		return op, false, fmt.Errorf("mode %#x cannot be replayed", c.Flags)
	case syscalls.OpFsync:
		if c.Name == "sync_file_range" || !exists {
			return op, false, nil
		}
		if info.IsDir() {
			return Op{Kind: SyncDir, Path: name}, true, nil
		}
		return Op{Kind: Sync, Path: name}, true, nil
	case syscalls.OpRename, syscalls.OpLink:
		return r.named(c, name, in, exists)
	case syscalls.OpUnlink, syscalls.OpRmdir:
		return Op{Kind: Remove, Path: name}, exists && info.IsDir() == (c.Op == syscalls.OpRmdir), nil
	}
	return op, false, nil
}

// open is what opening a file does to it.
func open(c *syscalls.Call, name string, info fs.FileInfo, exists bool) (Op, bool, error) {
	switch {
	case c.Flags&unix.O_TMPFILE == unix.O_TMPFILE:
		return Op{}, false, errors.New("a file without a name cannot be replayed")
	case !exists:
		return Op{Kind: Create, Path: name}, c.Op == syscalls.OpCreate, nil
	case c.Flags&unix.O_EXCL != 0 && c.Op == syscalls.OpCreate, c.Flags&unix.O_TRUNC == 0, !info.Mode().IsRegular():
		return Op{}, false, nil
	}
	return Op{Kind: Truncate, Path: name}, info.Size() > 0, nil
}

// named is what a rename or link does.
func (r *Recorder) named(c *syscalls.Call, name string, in, exists bool) (Op, bool, error) {
	if strings.HasPrefix(c.Name, "symlink") {
		return Op{}, false, errors.New("symbolic links cannot be replayed")
	}
	from, fromIn := r.inside(c.From)
	info, fromExists := there(c.From)
	switch {
	case !fromExists, c.Op == syscalls.OpLink && (exists || info.IsDir()), exists && c.Flags&unix.RENAME_NOREPLACE != 0:
		return Op{}, false, nil // fails
	case c.Op == syscalls.OpRename && c.Flags&^unix.RENAME_NOREPLACE != 0:
		return Op{}, false, fmt.Errorf("rename with flags %#x cannot be replayed", c.Flags)
	case !fromIn:
		return Op{}, false, fmt.Errorf("%s comes from outside of the directory", c.From)
	case !in && info.IsDir():
		return Op{}, false, fmt.Errorf("folder %s leaves the directory", c.From)
	case !in:
		return Op{Kind: Remove, Path: from}, true, nil
	}
	kind := Rename
	if c.Op == syscalls.OpLink {
		kind = Link
	}
	return Op{Kind: kind, Path: name, From: from}, true, nil
}
