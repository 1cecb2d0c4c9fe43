//go:build unix

package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// OS is the operating system's file system.
var OS FS = osFS{}

// dirBatch bounds how many names of a folder are in memory at once.
const dirBatch = 512

type osFS struct{}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// open opens a name that must be a regular file. O_NONBLOCK keeps a FIFO or a
// device from holding us; it has no effect on regular files.
func open(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK, FileMode)
	if err != nil {
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EISDIR) {
			return nil, &fs.PathError{Op: "open", Path: name, Err: ErrNotRegular}
		}
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: ErrNotRegular}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Open(name string) (File, error) { return open(name, os.O_RDONLY) }

func (osFS) Create(name string) (File, error) {
	return open(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
}

func (osFS) Append(name string) (File, error) {
	return open(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND)
}

func (osFS) Rename(old, new string) error           { return os.Rename(old, new) }
func (osFS) Remove(name string) error               { return os.Remove(name) }
func (osFS) Lstat(name string) (fs.FileInfo, error) { return os.Lstat(name) }
func (osFS) MkdirAll(name string) error             { return os.MkdirAll(name, DirMode) }

func (osFS) ReadDir(name string, visit func(Entry) error) error {
	d, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		list, err := d.ReadDir(dirBatch)
		for _, e := range list {
			if err := visit(Entry{Name: e.Name(), Type: e.Type()}); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// SyncDir ignores file systems that cannot sync a folder: there is nothing left
// to do about it.
func (osFS) SyncDir(name string) error {
	d, err := os.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

// osLock is a flock(2). The kernel drops it with the process, kill -9 included.
type osLock struct {
	f    *os.File
	name string
}

func (osFS) Lock(name string) (Locker, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, FileMode)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EINTR {
			break
		}
	}
	if err == nil {
		return &osLock{f, name}, nil
	}
	f.Close()
	if err == unix.EWOULDBLOCK {
		err = ErrLocked
	}
	return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
}

func (l *osLock) SetInfo(data []byte) error {
	if err := l.f.Truncate(0); err != nil {
		return err
	}
	_, err := l.f.WriteAt(data, 0)
	return err
}

func (l *osLock) Held() error {
	ours, err := l.f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Lstat(l.name)
	if err == nil && !os.SameFile(ours, named) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return &fs.PathError{Op: "lock", Path: l.name, Err: ErrLockLost}
	}
	return err
}

func (l *osLock) Close() error { return l.f.Close() }
