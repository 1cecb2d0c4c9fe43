package kvstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ds4/runtime/vfs"
)

// maxLockBytes bounds what is read of somebody else's lock file.
const maxLockBytes = 4096

// holder is the contents of the lock file, for people.
type holder struct {
	PID    int       `json:"pid"`
	Start  time.Time `json:"start"`
	BootID string    `json:"boot_id"`
}

// takeLock makes this process the writer of the folder. It is not if another
// process is (inUse says which), or if there can be no lock.
func (s *Store) takeLock() (lock vfs.Locker, inUse string, err error) {
	lock, err = s.fs.Lock(s.dir.lock())
	if errors.Is(err, vfs.ErrLocked) {
		return nil, "in use by " + lockHolder(s.fs, s.dir), nil
	}
	if err != nil {
		return nil, "", err
	}
	info, _ := json.Marshal(holder{PID: s.pid, Start: s.opt.Now().UTC(), BootID: s.opt.BootID})
	_ = lock.SetInfo(append(info, '\n')) // for people only
	return lock, "", nil
}

// lockHolder describes who has the lock.
func lockHolder(fsys vfs.FS, dir folder) string {
	data, err := vfs.ReadFile(fsys, dir.lock(), maxLockBytes)
	var h holder
	if err != nil || json.Unmarshal(data, &h) != nil || h.PID == 0 {
		return "another process"
	}
	return fmt.Sprintf("pid %d since %s", h.PID, h.Start.Local().Format(time.DateTime))
}
