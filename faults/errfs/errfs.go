package errfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"syscall"

	"ds4/runtime/vfs"
)

// Op is a kind of file-system operation.
type Op string

// The operations of a vfs.FS and its files.
const (
	OpOpen    Op = "open"
	OpCreate  Op = "create"
	OpAppend  Op = "append"
	OpRead    Op = "read"
	OpWrite   Op = "write"
	OpSync    Op = "sync"
	OpClose   Op = "close" // of files that were written
	OpRename  Op = "rename"
	OpRemove  Op = "remove"
	OpLstat   Op = "lstat"
	OpReadDir Op = "readdir"
	OpMkdir   Op = "mkdir"
	OpSyncDir Op = "syncdir"
	OpLock    Op = "lock"
)

// Ops lists every operation.
func Ops() []Op {
	return []Op{OpOpen, OpCreate, OpAppend, OpRead, OpWrite, OpSync, OpClose, OpRename, OpRemove,
		OpLstat, OpReadDir, OpMkdir, OpSyncDir, OpLock}
}

// ErrCrashed is what every operation returns after a rule with Crash has fired.
var ErrCrashed = errors.New("errfs: the process is dead")

// Rule fails operations. The zero values of Op, Path and Nth match everything.
type Rule struct {
	Op   Op     // only this kind
	Path string // only names that match: path.Match on the whole name or on its base
	Nth  int    // only the n-th that matches, and with Every all from it on
	// Every keeps failing from the n-th match on.
	Every bool
	// Err is what the operation returns: syscall.ENOSPC, EIO, ...
	Err error
	// Short lets a read or write do half of its work before it fails.
	Short bool
	// Crash makes this and every later operation return ErrCrashed.
	Crash bool
	// OnFire is called once, before the first failure.
	OnFire func()
}

// String prints the rule.
func (r Rule) String() string {
	var b strings.Builder
	op := string(r.Op)
	if op == "" {
		op = "any"
	}
	fmt.Fprintf(&b, "%s", op)
	if r.Path != "" {
		fmt.Fprintf(&b, ":path=%s", r.Path)
	}
	if r.Nth > 0 {
		fmt.Fprintf(&b, ":nth=%d", r.Nth)
	}
	switch {
	case r.Crash:
		b.WriteString(":crash")
	case r.Err != nil:
		fmt.Fprintf(&b, ":%v", r.Err)
	}
	if r.Every {
		b.WriteString(":every")
	}
	if r.Short {
		b.WriteString(":short")
	}
	return b.String()
}

// FS is a file system whose operations fail by rules. It is safe for concurrent
// use.
type FS struct {
	base vfs.FS

	mu    sync.Mutex
	rules []*state
	dead  bool
	count map[Op]int
}

type state struct {
	Rule
	seen, fired int
}

// Wrap returns base with rules. Later calls of SetRules replace them.
func Wrap(base vfs.FS, rules ...Rule) *FS {
	f := &FS{base: base, count: map[Op]int{}}
	f.SetRules(rules...)
	return f
}

// SetRules replaces the rules and their counters.
func (f *FS) SetRules(rules ...Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
	for _, r := range rules {
		f.rules = append(f.rules, &state{Rule: r})
	}
}

// Crash makes every later operation return ErrCrashed, as for a process that was
// killed.
func (f *FS) Crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
}

// Fired returns how many operations the rules have failed.
func (f *FS) Fired() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, r := range f.rules {
		n += r.fired
	}
	return n
}

// Count returns how many operations of a kind there were.
func (f *FS) Count(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count[op]
}

// hit counts an operation and returns the rule that fails it, if any.
func (f *FS) hit(op Op, name string) (*state, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return nil, fail(string(op), name, ErrCrashed)
	}
	f.count[op]++
	for _, r := range f.rules {
		if !r.matches(op, name) {
			continue
		}
		r.seen++
		if r.Nth > 0 && r.seen != r.Nth && !(r.Every && r.seen > r.Nth) {
			continue
		}
		if r.fired++; r.fired == 1 && r.OnFire != nil {
			r.OnFire()
		}
		if r.Crash {
			f.dead = true
			return r, fail(string(op), name, ErrCrashed)
		}
		return r, fail(string(op), name, r.Err)
	}
	return nil, nil
}

func (r *state) matches(op Op, name string) bool {
	if r.Op != "" && r.Op != op {
		return false
	}
	if r.Path == "" {
		return true
	}
	whole, _ := path.Match(r.Path, name)
	base, _ := path.Match(r.Path, path.Base(name))
	return whole || base
}

// do runs an operation unless a rule fails it.
func (f *FS) do(op Op, name string, run func() error) error {
	if _, err := f.hit(op, name); err != nil {
		return err
	}
	return run()
}

func (f *FS) open(op Op, name string, open func(string) (vfs.File, error)) (vfs.File, error) {
	if _, err := f.hit(op, name); err != nil {
		return nil, err
	}
	file, err := open(name)
	if err != nil {
		return nil, err
	}
	return &errFile{File: file, fs: f, name: name, written: op != OpOpen}, nil
}

// Open opens a file for reading.
func (f *FS) Open(name string) (vfs.File, error) { return f.open(OpOpen, name, f.base.Open) }

// Create makes a new file.
func (f *FS) Create(name string) (vfs.File, error) { return f.open(OpCreate, name, f.base.Create) }

// Append opens a file for writing at its end.
func (f *FS) Append(name string) (vfs.File, error) { return f.open(OpAppend, name, f.base.Append) }

// Rename counts under the new name.
func (f *FS) Rename(old, new string) error {
	return f.do(OpRename, new, func() error { return f.base.Rename(old, new) })
}

// Remove removes a name.
func (f *FS) Remove(name string) error {
	return f.do(OpRemove, name, func() error { return f.base.Remove(name) })
}

// Lstat describes a name.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	if _, err := f.hit(OpLstat, name); err != nil {
		return nil, err
	}
	return f.base.Lstat(name)
}

// ReadDir lists a folder.
func (f *FS) ReadDir(name string, visit func(vfs.Entry) error) error {
	return f.do(OpReadDir, name, func() error { return f.base.ReadDir(name, visit) })
}

// MkdirAll makes a folder.
func (f *FS) MkdirAll(name string) error {
	return f.do(OpMkdir, name, func() error { return f.base.MkdirAll(name) })
}

// SyncDir syncs a folder.
func (f *FS) SyncDir(name string) error {
	return f.do(OpSyncDir, name, func() error { return f.base.SyncDir(name) })
}

// Lock takes a lock. It is released by the base when its holder closes it, even
// after a crash: a dead process holds no lock.
func (f *FS) Lock(name string) (vfs.Locker, error) {
	if _, err := f.hit(OpLock, name); err != nil {
		return nil, err
	}
	return f.base.Lock(name)
}

type errFile struct {
	vfs.File
	fs      *FS
	name    string
	written bool
}

func (e *errFile) ReadAt(b []byte, off int64) (int, error) {
	if r, err := e.fs.hit(OpRead, e.name); err != nil {
		n := 0
		if r != nil && r.Short {
			n, _ = e.File.ReadAt(b[:len(b)/2], off)
		}
		return n, err
	}
	return e.File.ReadAt(b, off)
}

func (e *errFile) Write(b []byte) (int, error) {
	if r, err := e.fs.hit(OpWrite, e.name); err != nil {
		n := 0
		if r != nil && r.Short {
			n, _ = e.File.Write(b[:len(b)/2])
		}
		return n, err
	}
	return e.File.Write(b)
}

func (e *errFile) Sync() error {
	return e.fs.do(OpSync, e.name, e.File.Sync)
}

// Close always closes the file below: a failing close(2) does that too.
func (e *errFile) Close() error {
	err := e.File.Close()
	if !e.written {
		return err
	}
	if _, hit := e.fs.hit(OpClose, e.name); hit != nil {
		return hit
	}
	return err
}

// Common causes, for tables of tests.
var (
	ErrNoSpace = error(syscall.ENOSPC)
	ErrIO      = error(syscall.EIO)
	ErrDenied  = error(syscall.EACCES)
)
