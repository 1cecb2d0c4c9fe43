// Package replay remembers the tool calls that a model sampled: by the id that the
// client got for a call, the bytes that were sampled. When the next request brings the
// call back as JSON, the prompt can repeat these bytes, and all state that stands on
// them is good again; argument order, spacing and escapes that the JSON lost come back.
//
// Promises. Memory and file are bounded, the calls unused for longest go first. A lookup
// reads no file: the file is read once, at start. It is append-only with a checksum for
// each record and replaced by rename when it has grown to twice what is in use: a crash
// costs the record that was being written, damage costs the record that it hit. A disk
// that fails costs nothing but what is forgotten at the next start; no caller waits for
// it longer than a moment.
//
// Not promised: that anything is remembered. Whoever renders a prompt must compare a
// block with the call that it stands for, since ids come from clients and blocks may
// come from a file that anybody wrote.
package replay

import (
	"container/list"
	"sync"
	"time"

	"ds4/runtime/vfs"
)

// Bounds of what is remembered.
const (
	DefaultIDs   = 100_000
	DefaultBytes = 64 << 20 // of ids and blocks
	// MostBytes is what Options may ask for. All of it is in memory, and read at start.
	MostBytes = 512 << 20
)

// Options of Open. The zero value remembers in memory alone, within the default bounds.
type Options struct {
	FS   vfs.FS
	Name string // of the file; "" for none
	// MaxIDs and MaxBytes bound what is remembered; the file takes twice MaxBytes at
	// most, and three times while it is replaced.
	MaxIDs   int
	MaxBytes int64
	// Writable says whether the file is ours to write at the moment; nil: always.
	Writable func() error
	// Holding changes with each time that the file became ours: somebody else may have
	// written it before. nil: it always was.
	Holding func() string
	// Sync makes records durable soon after they are written.
	Sync bool
	// Resized is told by how many bytes the file grew.
	Resized func(delta int64)
	Log     func(format string, args ...any)
	Now     func() time.Time
}

// Memory is the calls that are remembered. Its methods may be called from any goroutine.
type Memory struct {
	opt Options

	mu     sync.Mutex
	byID   map[string]*list.Element
	recent list.List // of *entry, the one used last in front
	bytes  int64

	writes  chan write
	stop    chan struct{}
	stopped chan struct{} // nil without a file
	file    file          // of the writer alone
}

// entry is one block with the ids of its calls.
type entry struct {
	Record
	size int64
}

// entryBytes is what an entry takes besides its texts.
const entryBytes = 200

func newEntry(r Record) *entry {
	size := int64(len(r.Block)) + entryBytes
	for _, id := range r.IDs {
		size += 2 * int64(len(id))
	}
	return &entry{Record: r, size: size}
}

// Open reads what an earlier process remembered. A file that cannot be read is like one
// that is empty.
func Open(opt Options) *Memory {
	if opt.MaxIDs <= 0 {
		opt.MaxIDs = DefaultIDs
	}
	if opt.MaxBytes <= 0 {
		opt.MaxBytes = DefaultBytes
	}
	opt.MaxBytes = min(opt.MaxBytes, MostBytes)
	if opt.Log == nil {
		opt.Log = func(string, ...any) {}
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Resized == nil {
		opt.Resized = func(int64) {}
	}
	if opt.Writable == nil {
		opt.Writable = func() error { return nil }
	}
	if opt.Holding == nil {
		opt.Holding = func() string { return "" }
	}
	m := &Memory{opt: opt, byID: map[string]*list.Element{}}
	if opt.Name == "" {
		return m
	}
	m.load()
	m.writes, m.stop, m.stopped = make(chan write, queueLength), make(chan struct{}), make(chan struct{})
	go m.writeLoop()
	return m
}

func (m *Memory) load() {
	m.file.holding = m.opt.Holding()
	bad, err := Read(m.opt.FS, m.opt.Name, 3*m.opt.MaxBytes, m.add)
	if err != nil {
		m.opt.Log("tool calls not read: %v", err)
	} else if bad > 0 {
		m.opt.Log("tool calls: %d bytes of %s are damaged and skipped", bad, m.opt.Name)
	}
	if fi, err := m.opt.FS.Lstat(m.opt.Name); err == nil {
		m.file.size = fi.Size()
	}
	m.file.stale = bad > 0 || err != nil || m.file.size == 0 // a new file is one by rename, so that its name is durable
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.byID); n > 0 {
		m.opt.Log("tool calls remembered: %d, %.2f MiB", n, float64(m.bytes)/(1<<20))
	}
}

// Lookup returns the block that was sampled when the call with this id was made. It must
// not be changed.
func (m *Memory) Lookup(id string) (block []byte, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.byID[id]
	if !ok {
		return nil, false
	}
	m.recent.MoveToFront(e)
	return e.Value.(*entry).Block, true
}

// Remember keeps a block under the ids of its calls. What is beyond the limits of a
// record is not kept.
func (m *Memory) Remember(ids []string, block []byte) {
	r := Record{IDs: ids, Block: block}
	encoded, err := r.Append(nil)
	if err != nil {
		return
	}
	m.add(r)
	if m.stopped != nil {
		m.write(encoded)
	}
}

// add puts a record in front and drops what is then too much.
func (m *Memory) add(r Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range r.IDs {
		if e, ok := m.byID[id]; ok {
			m.drop(e)
		}
	}
	e := newEntry(r)
	at := m.recent.PushFront(e)
	m.bytes += e.size
	for _, id := range r.IDs {
		m.byID[id] = at
	}
	for m.bytes > m.opt.MaxBytes || len(m.byID) > m.opt.MaxIDs {
		m.drop(m.recent.Back())
	}
}

// drop forgets a block and all of its ids. The caller holds mu.
func (m *Memory) drop(at *list.Element) {
	e := m.recent.Remove(at).(*entry)
	m.bytes -= e.size
	for _, id := range e.IDs {
		if m.byID[id] == at {
			delete(m.byID, id)
		}
	}
}

// Clear forgets everything, in the file, too.
func (m *Memory) Clear() {
	m.mu.Lock()
	clear(m.byID)
	m.recent.Init()
	m.bytes = 0
	m.mu.Unlock()
	if m.stopped != nil {
		m.write(nil)
	}
}

// Stats tells what is remembered.
type Stats struct {
	IDs   int
	Bytes int64
}

// Stats returns what is remembered at the moment.
func (m *Memory) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{IDs: len(m.byID), Bytes: m.bytes}
}

// records returns all records, the one used last at the end, as a file begins with them.
// They do not change any more.
func (m *Memory) records() []*entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*entry, 0, m.recent.Len())
	for e := m.recent.Back(); e != nil; e = e.Prev() {
		list = append(list, e.Value.(*entry))
	}
	return list
}
