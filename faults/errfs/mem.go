// Package errfs has file systems that misbehave, for tests of whatever works on
// a vfs.FS.
//
// Mem is a file system in memory that can crash. Only what was synced is
// guaranteed, names in a folder included; of everything else any subset may have
// arrived, in any order, down to half of a 512-byte block. CrashClone returns one
// such disk at random, Crashes all of them one after the other, CrashAs a certain
// one again, and Unsynced says what hangs in the balance. FS wraps any file
// system and fails, damages, delays or kills its operations by rules.
//
// Promises. Mem has the semantics of a POSIX file system as far as vfs.FS shows
// them, errors included. A clone shares nothing with its origin. Given the same
// calls and the same random source, everything is repeatable.
//
// Not promised: the order in which a real journaling file system would keep
// things. Mem is stricter: a rename may lose its old name, its new name, both or
// neither, and a name may come back as any of what it stood for since its folder
// was last synced. Of a block that was appended to several times, the older
// appends may be lost only together with the newer ones.
package errfs

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"ds4/runtime/vfs"
)

// BlockBytes is the unit in which a disk writes.
const BlockBytes = 512

// Mem is a crashable file system in memory. It is safe for concurrent use.
type Mem struct {
	mu       sync.Mutex
	root     *inode
	capacity int64 // of all files; 0: no limit
	used     int64
}

// inode is a file or a folder: what it is now, and what of it is on the medium.
type inode struct {
	data, syncedData []byte            // never changed in place, so that clones may share them
	names, synced    map[string]*inode // nil for a file
	past             map[string][]*inode
	mod              time.Time
	links            int
	locked           bool
}

// NewMem returns an empty file system whose root is "/".
func NewMem() *Mem { return &Mem{root: newDir()} }

func newDir() *inode {
	return &inode{names: map[string]*inode{}, synced: map[string]*inode{}, past: map[string][]*inode{}, links: 1}
}

func (n *inode) isDir() bool { return n.names != nil }

// set makes a name stand for child, or for nothing, and remembers what it stood
// for: until the folder is synced, the medium may hold that.
func (n *inode) set(base string, child *inode) {
	if was := n.names[base]; !slices.Contains(n.past[base], was) {
		n.past[base] = append(n.past[base], was)
	}
	if child == nil {
		delete(n.names, base)
	} else {
		n.names[base] = child
	}
}

// SetCapacity limits the bytes of all files, as a full disk does; 0 lifts it.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Used returns the bytes of all files that have a name.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

func fail(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

func split(name string) []string {
	return strings.FieldsFunc(path.Clean("/"+name), func(c rune) bool { return c == '/' })
}

// find returns the inode of a name.
func (m *Mem) find(name string) (*inode, error) {
	n := m.root
	for _, p := range split(name) {
		if !n.isDir() {
			return nil, syscall.ENOTDIR
		}
		next := n.names[p]
		if next == nil {
			return nil, syscall.ENOENT
		}
		n = next
	}
	return n, nil
}

// parent returns the folder of a name and its last element.
func (m *Mem) parent(name string) (*inode, string, error) {
	dir, err := m.find(path.Dir(path.Clean("/" + name)))
	if err != nil {
		return nil, "", err
	}
	if !dir.isDir() {
		return nil, "", syscall.ENOTDIR
	}
	return dir, path.Base(name), nil
}

// Open opens a file for reading.
func (m *Mem) Open(name string) (vfs.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err != nil {
		return nil, fail("open", name, err)
	}
	if n.isDir() {
		return nil, fail("open", name, vfs.ErrNotRegular)
	}
	return &memFile{m: m, n: n, name: name, read: true}, nil
}

// Create makes a new file for writing.
func (m *Mem) Create(name string) (vfs.File, error) { return m.create("create", name, true) }

// Append opens a file for writing at its end.
func (m *Mem) Append(name string) (vfs.File, error) { return m.create("append", name, false) }

func (m *Mem) create(op, name string, exclusive bool) (vfs.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parent(name)
	if err != nil {
		return nil, fail(op, name, err)
	}
	n := dir.names[base]
	switch {
	case n == nil:
		n = &inode{mod: time.Now(), links: 1}
		dir.set(base, n)
	case exclusive:
		return nil, fail(op, name, syscall.EEXIST)
	case n.isDir():
		return nil, fail(op, name, vfs.ErrNotRegular)
	}
	return &memFile{m: m, n: n, name: name}, nil
}

// Rename gives a file or folder another name.
func (m *Mem) Rename(old, new string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, oldBase, err := m.parent(old)
	if err != nil {
		return fail("rename", old, err)
	}
	to, newBase, err := m.parent(new)
	if err != nil {
		return fail("rename", new, err)
	}
	n := from.names[oldBase]
	if n == nil {
		return fail("rename", old, syscall.ENOENT)
	}
	if n.isDir() && strings.HasPrefix(path.Clean("/"+new), path.Clean("/"+old)+"/") {
		return fail("rename", new, syscall.EINVAL) // a folder cannot move below itself
	}
	if there := to.names[newBase]; there != nil {
		switch {
		case there == n:
			return nil // two names of one file: both stay, as POSIX has it
		case there.isDir():
			return fail("rename", new, syscall.EEXIST) // as os.Rename does
		case n.isDir():
			return fail("rename", new, syscall.ENOTDIR)
		}
		m.unlink(there)
	}
	from.set(oldBase, nil)
	to.set(newBase, n)
	return nil
}

func (m *Mem) unlink(n *inode) {
	if n.links--; n.links == 0 {
		m.used -= int64(len(n.data))
	}
}

// Remove removes a file or an empty folder.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parent(name)
	if err != nil {
		return fail("remove", name, err)
	}
	n := dir.names[base]
	if n == nil {
		return fail("remove", name, syscall.ENOENT)
	}
	if len(n.names) > 0 {
		return fail("remove", name, syscall.ENOTEMPTY)
	}
	dir.set(base, nil)
	m.unlink(n)
	return nil
}

// Lstat describes a name.
func (m *Mem) Lstat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err != nil {
		return nil, fail("lstat", name, err)
	}
	return memInfo{name: path.Base(name), dir: n.isDir(), size: int64(len(n.data)), mod: n.mod}, nil
}

// ReadDir lists a folder in the order of the names.
func (m *Mem) ReadDir(name string, visit func(vfs.Entry) error) error {
	m.mu.Lock()
	n, err := m.find(name)
	if err == nil && !n.isDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		m.mu.Unlock()
		return fail("readdir", name, err)
	}
	var list []vfs.Entry
	for base, c := range n.names {
		e := vfs.Entry{Name: base}
		if c.isDir() {
			e.Type = fs.ModeDir
		}
		list = append(list, e)
	}
	m.mu.Unlock()
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	for _, e := range list {
		if err := visit(e); err != nil {
			return err
		}
	}
	return nil
}

// MkdirAll makes a folder and its parents.
func (m *Mem) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.root
	for _, p := range split(name) {
		next := n.names[p]
		if next == nil {
			next = newDir()
			n.set(p, next)
		}
		if !next.isDir() {
			return fail("mkdir", name, syscall.ENOTDIR)
		}
		n = next
	}
	return nil
}

// SyncDir makes the names in a folder durable.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err == nil && !n.isDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return fail("syncdir", name, err)
	}
	n.synced = map[string]*inode{}
	for base, c := range n.names {
		n.synced[base] = c
	}
	clear(n.past)
	return nil
}

// Lock takes the lock of a file.
func (m *Mem) Lock(name string) (vfs.Locker, error) {
	f, err := m.create("lock", name, false)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := f.(*memFile).n
	if n.locked {
		return nil, fail("lock", name, vfs.ErrLocked)
	}
	n.locked = true
	return &memLock{m, n, name}, nil
}

type memLock struct {
	m    *Mem
	n    *inode
	name string
}

func (l *memLock) Held() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if n, err := l.m.find(l.name); err != nil || n != l.n {
		return fail("lock", l.name, vfs.ErrLockLost)
	}
	return nil
}

func (l *memLock) SetInfo(data []byte) error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.m.used += int64(len(data) - len(l.n.data))
	l.n.data = slices.Clone(data)
	return nil
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.n.locked = false
	return nil
}

// memFile is an open file.
type memFile struct {
	m      *Mem
	n      *inode
	name   string
	read   bool
	closed bool
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return 0, fail("read", f.name, fs.ErrClosed)
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.n.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Write appends. A full disk takes what fits.
func (f *memFile) Write(b []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed || f.read {
		return 0, fail("write", f.name, fs.ErrClosed)
	}
	n := len(b)
	if f.m.capacity > 0 {
		n = int(max(min(int64(n), f.m.capacity-f.m.used), 0))
	}
	// A new slice each time: a clone may still share the old one.
	f.n.data = append(f.n.data[:len(f.n.data):len(f.n.data)], b[:n]...)
	f.n.mod = time.Now()
	f.m.used += int64(n)
	if n < len(b) {
		return n, fail("write", f.name, syscall.ENOSPC)
	}
	return n, nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return fail("sync", f.name, fs.ErrClosed)
	}
	f.n.syncedData = f.n.data
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return int64(len(f.n.data)), nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return fail("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	return nil
}

type memInfo struct {
	name string
	dir  bool
	size int64
	mod  time.Time
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return i.mod }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) Sys() any           { return nil }
func (i memInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | vfs.DirMode
	}
	return vfs.FileMode
}
