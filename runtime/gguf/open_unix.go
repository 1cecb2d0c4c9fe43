//go:build unix

package gguf

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// Open maps the file at path, read-only, and parses it. Only regular files can be
// opened. Close the File to unmap it.
func Open(path string) (*File, error) {
	// The check comes before the open, which would block on a pipe.
	info, err := os.Stat(path)
	if err != nil {
		return nil, &Error{File: path, Err: reason(err)}
	}
	if info.IsDir() {
		return nil, &Error{File: path, Err: fmt.Errorf("%w: a directory", ErrMagic)}
	}
	if !info.Mode().IsRegular() {
		return nil, &Error{File: path, Err: fmt.Errorf("%w: not a regular file", ErrMagic)}
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, &Error{File: path, Err: reason(err)}
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, &Error{File: path, Err: reason(err)}
	}
	size := info.Size()
	if size == 0 { // mmap refuses a length of 0
		return Parse(nil, path)
	}
	if size > math.MaxInt {
		return nil, &Error{File: path, Err: fmt.Errorf("%d bytes: %w", size, ErrLimit)}
	}
	data, err := unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &Error{File: path, Err: fmt.Errorf("map %d bytes: %w", size, err)}
	}
	f, err := Parse(data, path)
	if err != nil {
		_ = unix.Munmap(data) // nothing refers to it; the reason matters more
		return nil, err
	}
	f.unmap = func() error { return unix.Munmap(data) }
	return f, nil
}

// reason strips the operation and path from an error of package os: Error names
// the file already.
func reason(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
