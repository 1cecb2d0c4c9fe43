package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"ds4/runtime/vfs"
)

const (
	queueLength = 64
	// patience is how long Remember waits for its record to be written, so that a
	// client that has its answer can count on it as a rule.
	patience = 200 * time.Millisecond
	// Pauses after an error of the disk.
	firstPause   = time.Second
	longestPause = time.Minute
	// slackBytes is what a file may grow by before its use is looked at.
	slackBytes = 64 << 10
)

// write is one record for the file; nil asks for a new file, and join for one with
// what another process has written.
type write struct {
	record []byte
	join   bool
	done   chan struct{}
}

// file is the state of the writer.
type file struct {
	f     vfs.File
	size  int64
	stale bool // the file lacks something, or holds damage: it must be replaced
	// cleared: the file may hold what was forgotten on purpose.
	cleared bool
	holding string // Options.Holding when the file was read
	pause   time.Duration
	until   time.Time
}

// write hands a record to the writer and waits for it for a moment.
func (m *Memory) write(record []byte) {
	w := write{record: record, done: make(chan struct{})}
	select {
	case m.writes <- w:
	default:
		return // the disk hangs
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-w.done:
	case <-t.C:
	case <-m.stopped:
	}
}

// Join tells that the file is ours now, and was another process's before: what that
// one remembered is remembered here, too. It does not wait.
func (m *Memory) Join() {
	if m.stopped == nil {
		return
	}
	select {
	case m.writes <- write{join: true, done: make(chan struct{})}:
	default: // the next write does it
	}
}

// join reads the file anew, behind what is remembered already. What somebody wrote
// before us was counted when the folder became ours.
func (m *Memory) join() {
	f := &m.file
	m.closeFile()
	m.merge()
	f.holding, f.stale, f.size = m.opt.Holding(), true, 0
	f.pause, f.until = 0, time.Time{}
	if fi, err := m.opt.FS.Lstat(m.opt.Name); err == nil {
		f.size = fi.Size()
	}
}

// Close writes what is queued and closes the file, within ctx.
func (m *Memory) Close(ctx context.Context) error {
	if m.stopped == nil {
		return nil
	}
	close(m.stop)
	select {
	case <-m.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("replay: tool calls not written: %w", ctx.Err())
	}
}

func (m *Memory) writeLoop() {
	defer close(m.stopped)
	defer m.closeFile()
	for {
		select {
		case w := <-m.writes:
			m.handle(w)
			continue
		default:
		}
		select {
		case w := <-m.writes:
			m.handle(w)
		case <-m.stop:
			for {
				select {
				case w := <-m.writes:
					m.handle(w)
				default:
					return
				}
			}
		}
	}
}

// handle carries out one write. The record counts as written before it is durable.
func (m *Memory) handle(w write) {
	f := &m.file
	if w.record == nil && !w.join {
		f.stale, f.cleared = true, true
	}
	if f.holding != m.opt.Holding() && m.opt.Writable() == nil {
		m.join()
	}
	if w.join {
		close(w.done)
		return
	}
	if m.opt.Now().Before(f.until) {
		f.stale = true // with this record
		close(w.done)
		return
	}
	err := m.opt.Writable()
	if err == nil {
		err = m.put(w.record)
	}
	close(w.done)
	if err == nil && f.f != nil && m.opt.Sync {
		err = f.f.Sync()
	}
	if err == nil {
		f.pause = 0
		return
	}
	m.closeFile()
	f.stale = true
	if f.pause == 0 {
		m.opt.Log("tool calls are not written: %v", err)
	}
	f.pause = min(max(2*f.pause, firstPause), longestPause)
	f.until = m.opt.Now().Add(f.pause)
}

// put appends a record, or replaces the file with all that is remembered.
func (m *Memory) put(record []byte) error {
	f := &m.file
	switch fi, err := m.opt.FS.Lstat(m.opt.Name); {
	case err != nil && f.size > 0: // the folder went away
		f.stale = true
		m.closeFile()
	case err == nil && fi.Size() != f.size: // who wrote in the folder before us
		f.stale = true
		m.closeFile()
		m.merge()
	}
	m.mu.Lock()
	inUse := m.bytes
	m.mu.Unlock()
	if f.stale || f.size+int64(len(record)) > 2*inUse+slackBytes {
		return m.replace()
	}
	if f.f == nil {
		var err error
		if f.f, err = m.opt.FS.Append(m.opt.Name); err != nil {
			f.f = nil
			return fmt.Errorf("replay: %w", err)
		}
	}
	n, err := f.f.Write(record)
	m.resized(int64(n))
	if err != nil {
		return fmt.Errorf("replay: append: %w", err)
	}
	return nil
}

// merge adds what the file has and we have not, behind everything else, the latest as far
// as there is room. What cannot be read is not missed.
func (m *Memory) merge() {
	if m.file.cleared {
		return
	}
	m.mu.Lock()
	room := m.opt.MaxBytes - m.bytes
	m.mu.Unlock()
	var found []*entry
	_, _ = Read(m.opt.FS, m.opt.Name, 3*m.opt.MaxBytes, func(r Record) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if slices.ContainsFunc(r.IDs, func(id string) bool { return m.byID[id] != nil }) {
			return
		}
		found = append(found, newEntry(r))
		for room -= found[len(found)-1].size; room < 0; found = found[1:] {
			room += found[0].size
		}
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range slices.Backward(found) {
		known := slices.ContainsFunc(e.IDs, func(id string) bool { return m.byID[id] != nil })
		if known || m.bytes+e.size > m.opt.MaxBytes || len(m.byID)+len(e.IDs) > m.opt.MaxIDs {
			continue
		}
		at := m.recent.PushBack(e)
		m.bytes += e.size
		for _, id := range e.IDs {
			m.byID[id] = at
		}
	}
}

// replace writes a new file by rename.
func (m *Memory) replace() error {
	m.closeFile()
	written := int64(0)
	err := vfs.WriteAtomic(m.opt.FS, m.opt.Name, m.opt.Sync, func(w io.Writer) error {
		return writeRecords(w, m.records(), &written)
	})
	var left *vfs.TempLeftError
	if errors.As(err, &left) {
		m.opt.Resized(written)
	}
	if fi, err := m.opt.FS.Lstat(m.opt.Name); err == nil { // old or new, if something failed
		m.resized(fi.Size() - m.file.size)
	}
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	m.file.stale, m.file.cleared = false, false
	return nil
}

// writeRecords writes records, some of them at once, and counts the bytes.
func writeRecords(w io.Writer, list []*entry, written *int64) error {
	var buf []byte
	for i, e := range list {
		if longer, err := e.Append(buf); err == nil {
			buf = longer
		}
		if len(buf) < readBytes && i < len(list)-1 {
			continue
		}
		n, err := w.Write(buf)
		*written += int64(n)
		if err != nil {
			return err
		}
		buf = buf[:0]
	}
	return nil
}

func (m *Memory) resized(delta int64) {
	m.file.size += delta
	m.opt.Resized(delta)
}

func (m *Memory) closeFile() {
	if m.file.f != nil {
		_ = m.file.f.Close() // it was synced, or need not be
		m.file.f = nil
	}
}
