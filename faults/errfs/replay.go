package errfs

import (
	"syscall"

	"ds4/runtime/vfs"
)

// What follows replays operations that a vfs.FS does not have, so that the
// history of any program can be put on a Mem.

// regular returns the file of a name.
func (m *Mem) regular(op, name string) (*inode, error) {
	n, err := m.find(name)
	if err == nil && n.isDir() {
		err = vfs.ErrNotRegular
	}
	if err != nil {
		return nil, fail(op, name, err)
	}
	return n, nil
}

// WriteAt writes into a file that is there. A gap before it reads as zeros.
func (m *Mem) WriteAt(name string, off int64, b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.regular("write", name)
	if err != nil {
		return err
	}
	if off < 0 {
		return fail("write", name, syscall.EINVAL)
	}
	// A new slice each time: a clone may still share the old one.
	data := make([]byte, max(int64(len(n.data)), off+int64(len(b))))
	copy(data, n.data)
	copy(data[off:], b)
	m.used += int64(len(data) - len(n.data))
	n.data = data
	return nil
}

// Truncate gives a file a length.
func (m *Mem) Truncate(name string, size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.regular("truncate", name)
	if err != nil {
		return err
	}
	if size < 0 {
		return fail("truncate", name, syscall.EINVAL)
	}
	data := make([]byte, size)
	copy(data, n.data)
	m.used += size - int64(len(n.data))
	n.data = data
	return nil
}

// Link gives a file another name.
func (m *Mem) Link(old, new string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.regular("link", old)
	if err != nil {
		return err
	}
	dir, base, err := m.parent(new)
	if err == nil && dir.names[base] != nil {
		err = syscall.EEXIST
	}
	if err != nil {
		return fail("link", new, err)
	}
	dir.set(base, n)
	n.links++
	return nil
}

// SyncFile makes the contents of a file durable, and no name.
func (m *Mem) SyncFile(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.regular("sync", name)
	if err != nil {
		return err
	}
	n.syncedData = n.data
	return nil
}

// SyncAll makes everything durable, as sync(2) does.
func (m *Mem) SyncAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	var visit func(n *inode)
	visit = func(n *inode) {
		if !n.isDir() {
			n.syncedData = n.data
			return
		}
		n.synced = map[string]*inode{}
		for base, c := range n.names {
			n.synced[base] = c
			visit(c)
		}
		clear(n.past)
	}
	visit(m.root)
}

// Contents calls visit for every file and folder below the root, in the order of
// their names; data is nil for a folder and must not be changed.
func (m *Mem) Contents(visit func(name string, data []byte) error) error {
	m.mu.Lock()
	root := m.root
	m.mu.Unlock()
	return visitAll("", root, visit)
}

func visitAll(at string, dir *inode, visit func(string, []byte) error) error {
	for _, base := range dir.everyName() {
		n, name := dir.names[base], at+"/"+base
		switch {
		case n == nil:
			continue
		case n.isDir():
			if err := visit(name, nil); err != nil {
				return err
			}
			if err := visitAll(name, n, visit); err != nil {
				return err
			}
			continue
		}
		data := n.data
		if data == nil {
			data = []byte{}
		}
		if err := visit(name, data); err != nil {
			return err
		}
	}
	return nil
}

// CrashBy returns what the disk may hold if the machine stops now: pick is asked
// for each loose thing that can be reached with its other answers, in the order
// of the names, and returns the number of a value.
func (m *Mem) CrashBy(pick func(Loose) int) *Mem {
	return m.clone(&cloner{cut: half, pick: func(l Loose) int { return min(max(pick(l), 0), l.Values-1) }})
}

// Arrived is the value of a loose thing that is on the medium as it is now.
func (l Loose) Arrived() int {
	if l.Block < 0 {
		return l.Values - 1
	}
	return blockNew
}

// Hole is the value of a block that the file has grown over, and which was never
// written: zeros. Only the last block of a file asks for it; of the others the old
// value reads as zeros. If the block cannot be one, it is lost.
func (l Loose) Hole() int {
	if l.Block >= 0 && l.Values == blockHole+1 {
		return blockHole
	}
	return blockOld
}

// Torn is the value of a block of which the first half arrived.
func (l Loose) Torn() int {
	if l.Block < 0 {
		return l.Arrived()
	}
	return blockTorn
}
