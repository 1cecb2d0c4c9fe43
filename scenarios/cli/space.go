package cli

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// minWorkBytes is what servers under test need for their caches at least. With
// less, what goes wrong says nothing about them.
const minWorkBytes = 64 << 20

// freeBytes is the room that is left where dir is.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// roomToWork refuses to begin where repetitions could not work.
func roomToWork(want int64) error {
	dir := os.TempDir()
	free, err := freeBytes(dir)
	if err != nil {
		return infrastructure(fmt.Errorf("room to work: %s: %w", dir, err))
	}
	if free < want {
		return infrastructure(fmt.Errorf("%s has %d MiB free, want %d MiB for what the servers write; TMPDIR names another place",
			dir, free>>20, want>>20))
	}
	return nil
}
