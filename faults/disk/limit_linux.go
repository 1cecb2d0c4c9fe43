package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxDescriptors bounds the search for a limit; no process has more.
const maxDescriptors = 1 << 20

// LimitFileSize makes every write beyond so many bytes of a file fail in a
// running process (EFBIG, after a SIGXFSZ). Less than zero lifts the limit.
func LimitFileSize(pid int, bytes int64) error {
	return setLimit(pid, unix.RLIMIT_FSIZE, bytes)
}

// LimitFiles lets a running process open so many files more than it has now;
// what it closes it may open again. Less than zero lifts the limit. Connections
// do not count as open: they end when their peers like, and each would leave room
// for one more file or not, depending on when one looks.
func LimitFiles(pid, more int) error {
	if more < 0 {
		return setLimit(pid, unix.RLIMIT_NOFILE, -1)
	}
	used, err := Descriptors(pid)
	if err != nil {
		return err
	}
	passing, err := connections(pid, used)
	if err != nil {
		return err
	}
	used = slices.DeleteFunc(used, func(fd int) bool { return passing[fd] })
	// Descriptors are numbers below the limit, and new ones take the lowest.
	limit := 0
	for free := 0; free <= more && limit < maxDescriptors; limit++ {
		if _, taken := slices.BinarySearch(used, limit); !taken {
			free++
		}
	}
	return setLimit(pid, unix.RLIMIT_NOFILE, int64(limit-1))
}

// Descriptors lists the numbers of the files that a process has open, in order.
func Descriptors(pid int) ([]int, error) {
	list, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		return nil, fmt.Errorf("disk: descriptors of process %d: %w", pid, err)
	}
	var used []int
	for _, e := range list {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			used = append(used, n)
		}
	}
	slices.Sort(used)
	return used, nil
}

// maxSocketTable bounds what is read of a table of sockets.
const maxSocketTable = 16 << 20

// connections returns those of a process's descriptors that are sockets and do
// not listen, and those that have just been closed. A socket that was reset is in
// no table any more, and still open.
func connections(pid int, fds []int) (map[int]bool, error) {
	listen := map[string]bool{}
	for _, table := range []struct {
		name          string
		column, inode int
		value         string
	}{
		// sl local rem st queues timer retransmits uid timeout inode, see proc(5).
		{"tcp", 3, 9, "0A"}, {"tcp6", 3, 9, "0A"},
		// num refs protocol flags type st inode: __SO_ACCEPTCON
		{"unix", 3, 6, "00010000"},
	} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table.name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // no such protocol
		}
		if err != nil {
			return nil, fmt.Errorf("disk: connections of process %d: %w", pid, err)
		}
		text, err := io.ReadAll(io.LimitReader(f, maxSocketTable))
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("disk: connections of process %d: %w", pid, err)
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > table.inode && f[table.column] == table.value {
				listen["socket:["+f[table.inode]+"]"] = true
			}
		}
	}
	found := map[int]bool{}
	for _, fd := range fds {
		name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
		gone := errors.Is(err, fs.ErrNotExist)
		if gone || strings.HasPrefix(name, "socket:") && !listen[name] {
			found[fd] = true
		}
	}
	return found, nil
}

// setLimit changes the limit that counts. The other one, up to which a process
// may raise it, stays: only root could bring it back.
func setLimit(pid, which int, n int64) error {
	var lim unix.Rlimit
	err := unix.Prlimit(pid, which, nil, &lim)
	if err == nil {
		lim.Cur = lim.Max
		if n >= 0 {
			lim.Cur = min(uint64(n), lim.Max)
		}
		err = unix.Prlimit(pid, which, &lim, nil)
	}
	if err != nil {
		return fmt.Errorf("disk: limit of process %d: %w", pid, err)
	}
	return nil
}

// stranger is a user that nobody logs in as.
const stranger = 65534

// GiveAway makes a folder somebody else's, and private.
func GiveAway(dir string) error {
	user := stranger
	if os.Geteuid() == user {
		user--
	}
	return own(dir, user, 0o700)
}

// TakeBack undoes GiveAway.
func TakeBack(dir string) error { return own(dir, os.Geteuid(), 0o700) }

func own(dir string, user int, mode fs.FileMode) error {
	if err := errors.Join(os.Chown(dir, user, -1), os.Chmod(dir, mode)); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	return nil
}
