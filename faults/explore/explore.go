// Package explore finds out what a program makes of every directory that a power
// cut may leave behind.
//
// The operations of one run on a directory are recorded (Recorder), put on a file
// system in memory that knows what is durable, and from each moment of that
// history the directories are built that a legal disk may hold (States). A check
// of the caller then runs on each of them (Check).
//
// The model is that of package errfs, and strict. What a file contains is durable
// after fsync or fdatasync of it, what a name stands for after fsync of its
// folder; sync and syncfs do both for all. Of everything else any subset may have
// arrived, in any order, down to half of a block of 512 bytes; nothing that was
// never written appears. sync_file_range guarantees nothing. Most file systems
// promise more: a program that survives this survives them.
//
// It promises: every directory that is built is legal in this model, and none is
// built twice; a history that does not lead to the directory that the run left is
// an error and not a result. All legal directories are far too many: which ones
// are tried, and whether that was all, is said.
package explore

import (
	"errors"
	"fmt"
	"path"

	"ds4/faults/errfs"
)

var (
	// ErrRecording means that the history is not what happened: something was not
	// seen, or cannot be replayed.
	ErrRecording = errors.New("explore: the recording is not what happened")
	// ErrLimit means that a run did more than a limit allows.
	ErrLimit = errors.New("explore: more than the limit")
)

// Limits of a recording.
const (
	MaxOps   = 100_000
	MaxBytes = 256 << 20 // of written data
)

// Kind is a kind of operation.
type Kind string

// The kinds.
const (
	Create   Kind = "create"
	Mkdir    Kind = "mkdir"
	Write    Kind = "write"
	Truncate Kind = "truncate"
	Grow     Kind = "grow" // to at least a length, as fallocate does
	Rename   Kind = "rename"
	Link     Kind = "link"
	Remove   Kind = "remove"
	Sync     Kind = "fsync"        // of a file
	SyncDir  Kind = "fsync folder" // of a folder
	SyncAll  Kind = "sync"
)

// Op is one operation on the directory. Names begin with a slash, which stands for
// the directory itself.
type Op struct {
	Kind   Kind
	Path   string
	From   string // of rename and link: the old name
	Offset int64  // of write; the length of truncate and grow
	Data   []byte // of write
}

// String says what the operation does, in one line.
func (o Op) String() string {
	switch o.Kind {
	case Write:
		return fmt.Sprintf("write %s [%d, %d)", o.Path, o.Offset, o.Offset+int64(len(o.Data)))
	case Truncate, Grow:
		return fmt.Sprintf("%s %s to %d", o.Kind, o.Path, o.Offset)
	case Rename, Link:
		return fmt.Sprintf("%s %s to %s", o.Kind, o.From, o.Path)
	case SyncAll:
		return string(o.Kind)
	}
	return fmt.Sprintf("%s %s", o.Kind, o.Path)
}

// syncs says whether the operation makes something durable.
func (o Op) syncs() bool { return o.Kind == Sync || o.Kind == SyncDir || o.Kind == SyncAll }

// apply carries the operation out.
func (o Op) apply(m *errfs.Mem) error {
	switch o.Kind {
	case Create:
		f, err := m.Create(o.Path)
		if err != nil {
			return err
		}
		return f.Close()
	case Mkdir:
		if _, err := m.Lstat(path.Dir(o.Path)); err != nil {
			return err
		}
		return m.MkdirAll(o.Path)
	case Write:
		return m.WriteAt(o.Path, o.Offset, o.Data)
	case Truncate:
		return m.Truncate(o.Path, o.Offset)
	case Grow:
		info, err := m.Lstat(o.Path)
		if err != nil || info.Size() >= o.Offset {
			return err
		}
		return m.Truncate(o.Path, o.Offset)
	case Rename:
		return m.Rename(o.From, o.Path)
	case Link:
		return m.Link(o.From, o.Path)
	case Remove:
		return m.Remove(o.Path)
	case Sync:
		return m.SyncFile(o.Path)
	case SyncDir:
		return m.SyncDir(o.Path)
	case SyncAll:
		m.SyncAll()
		return nil
	}
	return fmt.Errorf("operation %q is not known", o.Kind)
}
