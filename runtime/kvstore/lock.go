package kvstore

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ds4/runtime/vfs"
)

const (
	maxLockBytes = 4096 // of somebody else's lock file that are read
	// A tool that looks whether the folder is in use holds the lock for a moment,
	// one that changes files for longer. A server that starts just then waits: it
	// would be read-only for a while.
	lockPoll = 10 * time.Millisecond
)

// Holder is who works in a folder, or did last: the contents of the lock file,
// for people and for the tools beside a server.
type Holder struct {
	PID         int       `json:"pid"`
	Start       time.Time `json:"start"`
	BootID      string    `json:"boot_id,omitempty"`
	Identity    string    `json:"identity,omitempty"`     // hex, of the segments that it writes
	BudgetBytes int64     `json:"budget_bytes,omitempty"` // of everything under the folder
	Key         string    `json:"key,omitempty"`          // of this holding: a request that names it means this folder
	URL         string    `json:"url,omitempty"`          // of the server's API; empty if it has none
	Tool        string    `json:"tool,omitempty"`         // a command that will soon give the folder back
}

// String says who it is in a few words.
func (h Holder) String() string {
	if h.PID == 0 {
		return "another process"
	}
	text := fmt.Sprintf("pid %d since %s", h.PID, h.Start.Local().Format(time.DateTime))
	if h.Tool != "" {
		text = h.Tool + ", " + text
	}
	return text
}

// IdentityBytes is Identity; nil if nothing is said about it.
func (h Holder) IdentityBytes() *[32]byte {
	id, err := hex.DecodeString(h.Identity)
	if err != nil || len(id) != 32 {
		return nil
	}
	return (*[32]byte)(id)
}

// takeLock makes this process the writer of the folder. It is not if another
// process is (inUse says which), or if there can be no lock.
func (s *Store) takeLock() (lock vfs.Locker, inUse string, err error) {
	lock, err = s.fs.Lock(s.dir.lock())
	for waited := time.Duration(0); errors.Is(err, vfs.ErrLocked); waited += lockPoll {
		h := readHolder(s.fs, s.dir)
		limit := s.opt.LockGrace
		if h.Tool != "" {
			limit = s.opt.RecoverTimeout
		}
		if waited >= limit || !s.pause(min(lockPoll, limit)) {
			return nil, "in use by " + h.String(), nil
		}
		lock, err = s.fs.Lock(s.dir.lock())
	}
	if err != nil {
		return nil, "", err
	}
	s.hold(lock)
	return lock, "", nil
}

// pause waits, and returns false if the store is closed meanwhile.
func (s *Store) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.quit:
		return false
	}
}

// Announce writes into the lock file where this process's API listens, so that
// tools find it. A process that does not hold the folder announces nothing.
func (s *Store) Announce(url string) {
	s.mu.Lock()
	s.holder.URL = url
	ready := s.ready
	s.mu.Unlock()
	if ready { // else the keeper does it when recovery has ended
		s.keep(true, s.describe)
	}
}

// describe brings the lock file up to date. Only the keeper calls it.
func (s *Store) describe() {
	s.mu.Lock()
	h := s.holder
	s.mu.Unlock()
	if s.lock != nil && h.URL != "" {
		setHolder(s.lock, h)
	}
}

// HoldingKey is the key in the lock file while this process holds it, else "".
func (s *Store) HoldingKey() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holder.Key
}

func newKey() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// setHolder describes the holder of a lock. Nothing depends on it but the tools,
// which then say less.
func setHolder(lock vfs.Locker, h Holder) {
	info, _ := json.Marshal(h)
	_ = lock.SetInfo(append(info, '\n'))
}

// readHolder returns what the lock file says; zero if it says nothing.
func readHolder(fsys vfs.FS, dir folder) Holder {
	var h Holder
	data, err := vfs.ReadFile(fsys, dir.lock(), maxLockBytes)
	if err != nil || json.Unmarshal(data, &h) != nil {
		return Holder{}
	}
	return h
}

// toolLock takes the folder for a command that changes files in it. The result
// gives it back, with the description of the last server. ErrLocked if somebody
// has it.
func toolLock(fsys vfs.FS, dir folder, tool string, now time.Time, pid int) (release func(), err error) {
	lock, err := fsys.Lock(dir.lock())
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("%w by %s", ErrLocked, readHolder(fsys, dir))
	}
	if err != nil {
		return nil, err
	}
	last := readHolder(fsys, dir)
	setHolder(lock, Holder{PID: pid, Start: now.UTC(), Tool: tool, Identity: last.Identity, BudgetBytes: last.BudgetBytes})
	return func() {
		last.URL, last.Key = "", "" // that server is gone
		setHolder(lock, last)
		_ = lock.Close()
	}, nil
}

// inUse returns who holds the folder; false if nobody does.
func inUse(fsys vfs.FS, dir folder) (Holder, bool) {
	if _, err := fsys.Lstat(dir.lock()); err != nil {
		return Holder{}, false // Lock would create the file
	}
	l, err := fsys.Lock(dir.lock())
	if err == nil {
		_ = l.Close()
	}
	return readHolder(fsys, dir), errors.Is(err, vfs.ErrLocked)
}
