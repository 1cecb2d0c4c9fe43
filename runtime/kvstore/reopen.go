package kvstore

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"ds4/runtime/vfs"
)

// errLost means that the folder is not the one that the lock was taken in: it
// was removed, moved away, or replaced.
var errLost = errors.New("the cache folder was removed or replaced")

// owned returns nil if the folder at our path is still ours. Somebody may have
// removed it, or put another one in its place that another process has by now:
// our lock means nothing there.
func (s *Store) owned() error {
	s.mu.Lock()
	lock, readOnly := s.lock, s.readOnly
	s.mu.Unlock()
	switch {
	case readOnly != "":
		return fmt.Errorf("%w: %s", ErrReadOnly, readOnly)
	case lock == nil:
		return errLost
	case s.opt.Unsafe.NoReopen:
		return nil
	}
	err := lock.Held()
	if errors.Is(err, vfs.ErrLockLost) {
		return errLost
	}
	return err
}

// writeOwned writes a segment into a folder that is ours. When the folder, or
// one in it, is gone, it is made again, and the segment is tried once more.
func (s *Store) writeOwned(j *job) (int64, error) {
	bytes, err := s.tryWrite(j)
	if !errors.Is(err, errLost) && !errors.Is(err, fs.ErrNotExist) || s.opt.Unsafe.NoReopen {
		return bytes, err
	}
	// The journal and everything else beside the segments is the keeper's.
	done := make(chan error, 1)
	s.notes <- func() { done <- s.reopen() }
	if err := <-done; err != nil {
		return 0, err
	}
	return s.tryWrite(j)
}

// tryWrite writes a segment, and makes room for it once if the disk is full.
func (s *Store) tryWrite(j *job) (int64, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	err := s.owned()
	switch {
	case errors.Is(err, ErrReadOnly):
		return 0, fmt.Errorf("%w: %w", errSkip, err)
	case err != nil:
		return 0, err
	}
	bytes, err := s.write(j)
	if isFull(err) && !s.abort.Load() && !s.opt.Unsafe.NoShrink {
		s.shrink(j)
		bytes, err = s.write(j)
	}
	return bytes, err
}

// lookAfter is what the keeper does before each note, and now and then without
// one: it notices that the folder is gone, and starts again in a new one.
func (s *Store) lookAfter() {
	s.mu.Lock()
	skip := s.usable() != nil || s.readOnly != "" || s.backoff.holds(s.opt.Now())
	s.mu.Unlock()
	// A write that is under way will see for itself, and may wait for the keeper.
	if skip || !errors.Is(s.owned(), errLost) || !s.writing.TryLock() {
		return
	}
	err := s.reopenHeld()
	s.writing.Unlock()
	if err != nil {
		s.mu.Lock()
		pause := s.backOff(err)
		s.mu.Unlock()
		s.opt.Log("kv cache off for now: %s; next try in %v", errnoText(err), pause)
	}
}

// reopen makes the folder again, with the lock in it, and looks at what is there:
// nothing as a rule, but it may be another cache, and another process may be its
// owner. Then this store only reads. After an error it has nothing and may try
// again. Only the keeper calls it.
func (s *Store) reopen() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.reopenHeld()
}

// reopenHeld is reopen for a caller that holds writing.
func (s *Store) reopenHeld() error {
	err := s.owned()
	switch {
	case err == nil: // a folder inside is gone, or this was done meanwhile
		return s.mend()
	case !errors.Is(err, errLost):
		return err
	}
	s.forget()
	start := time.Now()
	lock, readOnly, err := s.retake()
	s.mu.Lock()
	s.lock, s.readOnly = lock, readOnly
	s.mu.Unlock()
	if err == nil {
		s.opt.Log("kv cache folder %s was removed or replaced; starting again in a new one", s.dir)
		err = s.recoverSegments()
	}
	if err != nil {
		s.forget() // and with it the lock: a half-known folder is not ours
		err = fmt.Errorf("%w, and cannot be made again: %w", errLost, err)
	} else {
		s.mu.Lock()
		s.backoff = backoff{} // whatever failed, it failed elsewhere
		s.mu.Unlock()
	}
	s.recoveryEnds(start, err == nil)
	return err
}

// forget drops everything that was known about the folder, and the lock. Until
// recoveryEnds nothing is found and nothing is stored.
func (s *Store) forget() {
	s.mu.Lock()
	lock := s.lock
	s.lock, s.ready = nil, false
	for _, n := range s.ix.nodes {
		if n.standby != nil {
			s.tmpBytes -= n.standby.node.bytes
			n.standby = nil
		}
	}
	s.ix = newIndex()
	s.jailed, s.jailBytes, s.foreign, s.calls, s.journalBytes = nil, 0, 0, 0, 0
	clear(s.markKeys)
	clear(s.synced)
	s.verdicts = Verdicts{}
	s.mu.Unlock()
	s.isolated, s.unswept = 0, 0
	if lock != nil {
		_ = lock.Close()
	}
	if s.journal != nil {
		_ = s.journal.Close() // what was in it is gone with its folder
		s.journal = nil
	}
}

// retake makes the folder and takes its lock. Unlike at the start, what cannot be
// made now may be possible later: only another owner makes a reader of us.
func (s *Store) retake() (lock vfs.Locker, readOnly string, err error) {
	if err := s.fs.MkdirAll(string(s.dir)); err != nil {
		return nil, "", err
	}
	lock, readOnly, err = s.takeLock()
	if err != nil || readOnly != "" {
		return nil, readOnly, err
	}
	if err := s.makeFolders(); err != nil {
		_ = lock.Close()
		return nil, "", err
	}
	s.syncRoot()
	return lock, "", nil
}

// mend makes missing folders again and drops the segments that went with them.
func (s *Store) mend() error {
	if err := s.makeFolders(); err != nil {
		return err
	}
	clear(s.synced)
	s.mu.Lock()
	list := make([]*node, 0, len(s.ix.nodes))
	for _, n := range s.ix.nodes {
		list = append(list, n)
	}
	s.mu.Unlock()
	gone := 0
	for _, n := range list {
		if _, err := s.fs.Lstat(s.dir.segment(n.id)); errors.Is(err, fs.ErrNotExist) {
			s.mu.Lock()
			s.ix.remove(n)
			s.count.missing++
			s.mu.Unlock()
			s.dismiss(n)
			gone++
		}
	}
	if gone > 0 {
		s.opt.Log("kv cache lost segments=%d: their files are gone", gone)
	}
	return nil
}
