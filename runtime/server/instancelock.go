package server

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	instanceLockName = "ds4.lock"
	instanceLockEnv  = "DS4_LOCK_FILE"
	maxPIDBytes      = 32 // of the lock file that are read to find the owner
)

// InstanceLock says that this process is the one that holds the machine's memory for
// a model. The kernel drops it when the process ends, however it ends.
type InstanceLock struct {
	file *os.File
}

// InstanceRunningError is returned by AcquireInstanceLock when another process holds
// the lock.
type InstanceRunningError struct {
	Path string
	PID  int // of the holder, 0 if the file does not tell
}

func (e *InstanceRunningError) Error() string {
	pid := "unknown"
	if e.PID > 0 {
		pid = strconv.Itoa(e.PID)
	}
	return fmt.Sprintf("another ds4 process is already running (pid %s); refusing to start", pid)
}

// InstanceLockPath returns the file that processes agree on: DS4_LOCK_FILE if getenv
// has it, else ds4.lock in the system's temporary folder.
func InstanceLockPath(getenv func(string) string) string {
	if path := getenv(instanceLockEnv); path != "" {
		return path
	}
	return filepath.Join(os.TempDir(), instanceLockName)
}

// AcquireInstanceLock takes the lock without waiting. The file stays behind on
// release: removing it would let two processes lock two files of one name.
func AcquireInstanceLock(path string) (*InstanceLock, error) {
	file, err := openInstanceLock(path)
	if err != nil {
		return nil, fmt.Errorf("server: lock file (%s chooses another): %w", instanceLockEnv, err)
	}
	if err := flockNow(file); err != nil {
		owner := readPID(file)
		_ = file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &InstanceRunningError{Path: path, PID: owner}
		}
		return nil, fmt.Errorf("server: lock %s: %w", path, err)
	}
	// The pid is only a courtesy to whom we refuse; a file that another user made
	// cannot be written and locks all the same.
	if err := file.Truncate(0); err == nil {
		_, _ = file.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0)
	}
	return &InstanceLock{file: file}, nil
}

// Release gives the lock up. It is safe to call twice.
func (l *InstanceLock) Release() error {
	if l == nil || l.file == nil {
		return nil
	}
	file := l.file
	l.file = nil
	_ = file.Truncate(0) // else the pid of a dead process stays, which the next owner replaces
	if err := file.Close(); err != nil {
		return fmt.Errorf("server: close lock file: %w", err)
	}
	return nil
}

// openInstanceLock opens the file that is there, else makes it. Opening comes first
// because a kernel may refuse O_CREAT on another user's file in a sticky directory.
func openInstanceLock(path string) (*os.File, error) {
	const mode = 0o644
	for range 2 {
		for _, access := range []int{os.O_RDWR, os.O_RDONLY} {
			file, err := os.OpenFile(path, access|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
			if err == nil {
				return regular(file)
			}
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if access == os.O_RDONLY || !errors.Is(err, fs.ErrPermission) {
				return nil, err
			}
		}
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, mode)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("open %s: %w", path, fs.ErrNotExist)
}

func regular(file *os.File) (*os.File, error) {
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", file.Name())
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

func flockNow(file *os.File) error {
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func readPID(file *os.File) int {
	buf := make([]byte, maxPIDBytes)
	n, _ := file.ReadAt(buf, 0)
	pid, err := strconv.Atoi(string(bytes.TrimSpace(buf[:n])))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
