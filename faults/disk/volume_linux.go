package disk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	fillerName  = "filler"
	fillerPiece = 1 << 20
	// plainUser is the user number that a server sees itself as: not 0, so that
	// it holds no capability after its start.
	plainUser = 1000
)

// Volume is a file system of a given size that one user's processes can be
// started in. It exists in a mount namespace of its own, which this process
// holds open: processes come and go, and what they wrote stays until Close, or
// the end of this process.
type Volume struct {
	at    string
	ns    *os.File // keeps the mount namespace
	root  *os.File // the root folder as seen in it
	mount *os.File // the file system's own root folder
}

// NewVolume mounts a file system on an existing folder, for the processes that
// are started with Enter. Everybody else sees the folder as it was.
func NewVolume(ctx context.Context, at string, bytes int64) (*Volume, error) {
	if bytes < MinVolumeBytes || bytes > MaxVolumeBytes {
		return nil, fmt.Errorf("disk: a volume of %d bytes, want %d to %d", bytes, MinVolumeBytes, int64(MaxVolumeBytes))
	}
	at, err := filepath.Abs(at)
	if err == nil {
		// A link would lead us around the namespace, into our own tree.
		at, err = filepath.EvalSymlinks(at)
	}
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	cmd, err := self(ctx, "mount", at, strconv.FormatInt(bytes, 10))
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ownNamespace(cmd.SysProcAttr, 0)
	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNS
	var stderr strings.Builder
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, unavailable(Volumes, explain(err))
	}
	word, _ := bufio.NewReader(io.LimitReader(out, int64(len(readyWord)+1))).ReadString('\n')
	v := &Volume{at: at}
	mounted := word == readyWord+"\n"
	if mounted {
		err = v.hold(cmd.Process.Pid)
	}
	_ = in.Close() // it ends; the namespace does not
	if waitErr := cmd.Wait(); waitErr != nil || !mounted {
		err = fmt.Errorf("%v: %s", waitErr, strings.TrimSpace(stderr.String()))
	}
	if err != nil {
		v.Close()
		return nil, unavailable(Volumes, err)
	}
	return v, nil
}

// hold opens what keeps the namespace of a process alive and makes it reachable.
func (v *Volume) hold(pid int) (err error) {
	proc := "/proc/" + strconv.Itoa(pid)
	for _, f := range []struct {
		to   **os.File
		name string
		flag int
	}{
		{&v.ns, proc + "/ns/mnt", unix.O_RDONLY},
		{&v.root, proc + "/root", unix.O_PATH | unix.O_DIRECTORY},
		{&v.mount, proc + "/root" + v.at, unix.O_RDONLY | unix.O_DIRECTORY},
	} {
		if *f.to, err = os.OpenFile(f.name, f.flag, 0); err != nil {
			return err
		}
	}
	return nil
}

// Dir is the volume's root folder, as this process reaches it. It is a link of
// /proc, so look below it and not at it.
func (v *Volume) Dir() string { return "/proc/self/fd/" + strconv.Itoa(int(v.mount.Fd())) }

// Enter makes a process that is about to be started see the volume at its place.
// It runs as the present user, without capabilities.
func (v *Volume) Enter(a *syscall.SysProcAttr) {
	ownNamespace(a, plainUser)
	a.Chroot = "/proc/self/fd/" + strconv.Itoa(int(v.root.Fd()))
}

// Powerless makes a process that is about to be started an ordinary one: it has
// no capabilities, so that file modes count for it although its user is root.
func Powerless(a *syscall.SysProcAttr) {
	if os.Geteuid() == 0 {
		ownNamespace(a, plainUser)
	}
}

// ownNamespace gives a process a user namespace in which the present user has
// the number inside, and no other user exists.
func ownNamespace(a *syscall.SysProcAttr, inside int) {
	a.Cloneflags |= syscall.CLONE_NEWUSER
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: inside, HostID: os.Geteuid(), Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{ContainerID: inside, HostID: os.Getegid(), Size: 1}}
}

// explain says what the kernel means when it refuses to start a process in
// namespaces of its own.
func explain(err error) error {
	var start *fs.PathError
	switch {
	case !errors.As(err, &start) || start.Op != "fork/exec":
		return err
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EUSERS):
		return fmt.Errorf("no more user namespaces, see /proc/sys/user/max_user_namespaces: %w", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("user namespaces are not allowed to this process: %w", err)
	}
	return err
}

// Available returns how many bytes can still be written.
func (v *Volume) Available() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(v.mount.Fd()), &st); err != nil {
		return 0, fmt.Errorf("disk: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Fill takes the volume's space until at most leave bytes are free, the way
// another program's files would. Later calls take more.
func (v *Volume) Fill(leave int64) (err error) {
	f, err := os.OpenFile(filepath.Join(v.Dir(), fillerName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("disk: fill: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	zeros := make([]byte, fillerPiece)
	for {
		free, err := v.Available()
		if err != nil || free <= leave {
			return err
		}
		if _, err := f.Write(zeros[:min(free-leave, fillerPiece)]); err != nil && !errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("disk: fill: %w", err)
		}
	}
}

// Free gives back what Fill took.
func (v *Volume) Free() error {
	if err := os.Remove(filepath.Join(v.Dir(), fillerName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("disk: free: %w", err)
	}
	return nil
}

// Close gives the volume up. It is gone when the last process in it is.
func (v *Volume) Close() {
	for _, f := range []*os.File{v.mount, v.root, v.ns} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// self is the program started again, to do a part of the work.
func self(ctx context.Context, args ...string) (*exec.Cmd, error) {
	if !hasMain.Load() {
		return nil, ErrNoMain
	}
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	return exec.CommandContext(ctx, path, append([]string{mainWord}, args...)...), nil
}
