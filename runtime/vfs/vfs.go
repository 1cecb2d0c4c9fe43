// Package vfs is the seam between the cache and the file system.
//
// Everything that the disk cache does to a disk goes through FS, so that tests
// can put a file system below it that crashes, forgets what was not synced, or
// fails at the n-th operation. OS is the real one (Linux, macOS).
//
// Promises of OS. Open and Append never follow a symbolic link in the last
// element, never wait for the other end of a FIFO, and refuse everything that
// is not a regular file: a cache folder may hold anything. Files are created
// with mode 0600 and folders with 0700. Sync reaches the medium (F_FULLFSYNC on
// macOS). Nothing is promised about paths above the cache folder.
package vfs

import (
	"errors"
	"io"
	"io/fs"
)

var (
	// ErrNotRegular is returned by Open and Append for a name that exists but is
	// a folder, link, device, socket or FIFO.
	ErrNotRegular = errors.New("vfs: not a regular file")
	// ErrLocked is returned by Lock while another holder has the lock.
	ErrLocked = errors.New("vfs: locked by another process")
	// ErrLockLost is returned by Locker.Held when the name of the lock leads to
	// another file, or to none.
	ErrLockLost = errors.New("vfs: the locked file has lost its name")
)

// Modes of everything that is created.
const (
	DirMode  fs.FileMode = 0o700
	FileMode fs.FileMode = 0o600
)

// File is an open file. ReadAt may be called from several goroutines at once;
// the other methods may not.
type File interface {
	io.ReaderAt
	io.Writer // at the end of what was written so far
	io.Closer
	Sync() error
	Size() (int64, error)
}

// Entry is one name in a folder.
type Entry struct {
	Name string
	Type fs.FileMode // type bits only
}

// Locker holds an exclusive lock until Close.
type Locker interface {
	// SetInfo replaces the contents of the lock file, for people who look.
	SetInfo(data []byte) error
	// Held looks whether the lock still means something: a file that was removed
	// or moved away stays locked, and whoever makes a new one of its name gets a
	// lock, too. It may be called from several goroutines at once.
	Held() error
	Close() error
}

// FS is a file system. Names are slash-separated paths; errors wrap those of
// io/fs and the errno of the system call.
type FS interface {
	// Open opens a regular file for reading.
	Open(name string) (File, error)
	// Create makes a new file for writing and fails if the name exists.
	Create(name string) (File, error)
	// Append opens a regular file for writing at its end and makes it if needed.
	Append(name string) (File, error)
	// Rename gives old the name new and replaces what had it. Both names are
	// durable only after SyncDir of their folders.
	Rename(old, new string) error
	// Remove removes a file, a link or an empty folder.
	Remove(name string) error
	// Lstat describes name without following a link.
	Lstat(name string) (fs.FileInfo, error)
	// ReadDir calls visit for each name, in no order, without holding them all in
	// memory. It stops at visit's first error and returns it. What visit does to
	// the folder may or may not be seen by the rest of the listing.
	ReadDir(name string, visit func(Entry) error) error
	// MkdirAll makes a folder and its parents.
	MkdirAll(name string) error
	// SyncDir makes the names in a folder durable.
	SyncDir(name string) error
	// Lock takes an exclusive lock on name and creates the file if needed. It
	// never waits: ErrLocked if another holder has it.
	Lock(name string) (Locker, error)
}
