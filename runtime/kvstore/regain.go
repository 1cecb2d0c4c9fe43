package kvstore

import (
	"encoding/hex"
	"errors"
	"time"

	"ds4/runtime/failpoint"
	"ds4/runtime/vfs"
)

// A folder that could not be used at the start, or that another process had, or that
// was write-protected, may be usable later: a mount comes up, a server ends, somebody
// mends the rights. The keeper looks now and then, and starts the store anew when the
// reason is gone.

// maxRetry is the longest pause between two looks.
const maxRetry = 15 * time.Second

// retries is the keeper's timer for regain.
type retries struct {
	*time.Timer
	first, pause time.Duration
}

// newRetries starts the timer; first < 0 makes one that never fires.
func newRetries(first time.Duration) *retries {
	r := &retries{first: first, pause: first, Timer: time.NewTimer(max(first, 0))}
	if first < 0 {
		r.Stop()
	}
	return r
}

// next sets the timer again: to longer and longer pauses while something is missing.
func (r *retries) next(missing bool) {
	r.pause = min(2*r.pause, maxRetry)
	if !missing {
		r.pause = max(r.first, maxRetry)
	}
	r.Reset(r.pause)
}

// regain looks whether the store can be more than it is, and makes it so. It reports
// whether something is still missing. Only the keeper calls it.
func (s *Store) regain() (missing bool) {
	s.mu.Lock()
	off, readOnly, closed := s.disabled, s.readOnly, s.closed
	s.mu.Unlock()
	if closed || off == "" && readOnly == "" {
		return false
	}
	// A write that is under way may wait for the keeper.
	if !s.writing.TryLock() {
		return true
	}
	defer s.writing.Unlock()
	if off != "" {
		s.forget() // the lock, too, if the scan failed
		if err := s.openFolder(); err != nil {
			s.lacks(&s.disabled, errnoText(err))
			return true
		}
	}
	lock, why := s.grab()
	if lock == nil && off == "" {
		s.lacks(&s.readOnly, why)
		return true
	}
	return !s.startAnew(lock, why, off)
}

// lacks brings a reason up to date: it may have become another one.
func (s *Store) lacks(reason *string, why string) {
	s.mu.Lock()
	*reason = why
	s.mu.Unlock()
}

// grab takes the lock of the folder, without waiting, and finds out whether files can
// be made; else it says why not, and has no lock. A folder that was removed is made
// again.
func (s *Store) grab() (lock vfs.Locker, why string) {
	if err := s.fs.MkdirAll(string(s.dir)); err != nil {
		return nil, errnoText(err)
	}
	lock, err := s.fs.Lock(s.dir.lock())
	if errors.Is(err, vfs.ErrLocked) {
		return nil, "in use by " + readHolder(s.fs, s.dir).String()
	}
	if err == nil {
		err = s.makeFolders()
	}
	if err == nil {
		err = s.checkWritable()
	}
	if err == nil {
		return lock, ""
	}
	if lock != nil {
		_ = lock.Close()
	}
	return nil, errnoText(err)
}

// startAnew recovers what is in the folder as the start would have done, as its writer
// if there is a lock, and reports whether nothing is missing any more. The caller holds
// writing.
func (s *Store) startAnew(lock vfs.Locker, readOnly, off string) (whole bool) {
	began := time.Now()
	s.forget()
	s.mu.Lock()
	before := s.readOnly
	s.lock, s.readOnly, s.disabled = lock, readOnly, ""
	s.mu.Unlock()
	if off != "" {
		before = "off: " + off
	} else {
		before = "read-only: " + before
	}
	if lock != nil {
		s.hold(lock)
		s.syncRoot()
	}
	if err := s.recoverSegments(); err != nil {
		s.forget()
		s.mu.Lock()
		s.readOnly, s.disabled = "", errnoText(err)
		s.mu.Unlock()
		return false
	}
	s.mu.Lock()
	s.backoff = backoff{}
	s.count.regained++
	s.mu.Unlock()
	s.opt.Log("kv cache is used again; it was %s", before)
	s.recoveryEnds(began, true)
	s.describe()
	s.mu.Lock()
	tell := s.tellRegained
	s.mu.Unlock()
	if tell != nil && lock != nil {
		tell()
	}
	return lock != nil
}

// hold describes this process in the lock file.
func (s *Store) hold(lock vfs.Locker) {
	h := Holder{PID: s.pid, Start: s.opt.Now().UTC(), BootID: s.opt.BootID,
		Identity: hex.EncodeToString(s.opt.Identity[:]), BudgetBytes: s.opt.BudgetBytes, Key: newKey()}
	s.mu.Lock()
	h.URL = s.holder.URL
	s.holder = h
	s.mu.Unlock()
	setHolder(lock, h)
}

// openFolder makes the folder. An error means that not even reading is possible.
func (s *Store) openFolder() error {
	if err := ptOpen.Hit(failpoint.Scope{Source: "disk"}); err != nil {
		return err
	}
	dir := string(s.dir)
	mkErr := s.fs.MkdirAll(dir)
	fi, err := s.fs.Lstat(dir)
	if err != nil {
		return errors.Join(mkErr, err)
	}
	if mkErr != nil && !fi.IsDir() {
		return mkErr
	}
	return nil
}
