package disk

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// readyWord is what the mounting process says when its work is done.
const readyWord = "mounted"

// work is what this program does when it was started by itself.
func work(what string, args []string) error {
	switch {
	case what == "mount" && len(args) == 2:
		return mount(args[0], args[1])
	case what == "create" && len(args) == 1:
		return create(args[0])
	case what == "wait" && len(args) == 0:
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	return fmt.Errorf("disk: %s %q: no such work", what, args)
}

// mount mounts a file system in the process's own namespaces and stays until
// somebody else holds them.
func mount(at, bytes string) error {
	// Nothing that is mounted here may reach the rest of the machine.
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700,size="+bytes); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", at, err)
	}
	fmt.Println(readyWord)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// create makes a file: a question about what a process may do.
func create(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}
