package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
)

// TempMark separates a name from the suffix of its temporary file. A file with
// it in its name that no live process owns is garbage.
const TempMark = ".tmp."

var tempCount atomic.Uint64

// TempName returns a name beside name that nobody else uses at the moment.
func TempName(name string) string {
	return name + TempMark + strconv.Itoa(os.Getpid()) + "." + strconv.FormatUint(tempCount.Add(1), 10)
}

// IsTemp reports whether a base name is one of TempName.
func IsTemp(base string) bool { return strings.Contains(base, TempMark) }

// WriteFileAtomic replaces name with data so that after any crash name holds
// the old or the new contents whole. When it returns nil and durable is set, the
// new contents survive a power cut. On error name is as it was, unless the last
// step, syncing the folder, failed: then it is one of the two.
func WriteFileAtomic(fsys FS, name string, data []byte, durable bool) error {
	return WriteAtomic(fsys, name, durable, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteAtomic is WriteFileAtomic for contents that write gives piece by piece.
func WriteAtomic(fsys FS, name string, durable bool, write func(io.Writer) error) error {
	tmp := TempName(name)
	f, err := fsys.Create(tmp)
	if err != nil {
		return fmt.Errorf("vfs: write %s: %w", name, err)
	}
	err = write(f)
	if err == nil && durable {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err != nil {
		err = fmt.Errorf("vfs: write %s: %w", name, err)
		if err2 := fsys.Remove(tmp); err2 != nil && !errors.Is(err2, fs.ErrNotExist) {
			err = errors.Join(err, &TempLeftError{Name: tmp, Err: err2})
		}
		return err
	}
	if durable {
		if err := fsys.SyncDir(path.Dir(name)); err != nil {
			return fmt.Errorf("vfs: write %s: sync folder: %w", name, err)
		}
	}
	return nil
}

// TempLeftError says that a write failed and that its temporary file could not be
// removed either. It is garbage now, and takes room.
type TempLeftError struct {
	Name string
	Err  error
}

func (e *TempLeftError) Error() string { return fmt.Sprintf("temporary file stays: %v", e.Err) }

// Unwrap returns why it could not be removed.
func (e *TempLeftError) Unwrap() error { return e.Err }

// ErrTooBig is returned by ReadFile for a file beyond its limit.
var ErrTooBig = errors.New("vfs: file is larger than the limit")

// ReadFile reads a whole file of at most limit bytes.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%s: %d bytes, limit %d: %w", name, size, limit, ErrTooBig)
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if int64(n) == size {
		return data, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return nil, &fs.PathError{Op: "read", Path: name, Err: err}
}
