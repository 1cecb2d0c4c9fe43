package root

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The shutdown ioctl of ext4 and XFS: _IOR('X', 125, u32).
const (
	shutdownIoctl = 0x8004587d
	noLogFlush    = 2
)

const (
	loopTries   = 20 // others take loop devices, too
	unmountTime = 20 * time.Second
)

// work is what this program does when it was started by itself: it mounts IMAGE
// on AT, does what standard input says, and ends with it.
func work(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("root: %q: no such work", args)
	}
	image, at, kind := args[0], args[1], args[2]
	// Nothing that is mounted here may reach the rest of the machine.
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	loop, err := attach(image)
	if err != nil {
		return err
	}
	defer loop.Close()
	mount := func() error {
		if err := unix.Mount(loop.Name(), at, kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mount %s: %w", kind, err)
		}
		return nil
	}
	if err := mount(); err != nil {
		return err
	}
	fmt.Println(sayOK)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch in.Text() {
		case askCut:
			err = shutDown(at)
		case askAgain:
			if err = unmount(at); err == nil {
				err = mount()
			}
		default:
			err = fmt.Errorf("%q: no such work", in.Text())
		}
		if err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		fmt.Println(sayOK)
	}
	_ = unmount(at)
	return nil
}

// attach connects a file to a free loop device, which the kernel takes back when
// nobody uses it any more.
func attach(image string) (*os.File, error) {
	file, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for range loopTries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("a free loop device: %w", err)
		}
		loop, err := os.OpenFile("/dev/loop"+strconv.Itoa(n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &unix.LoopConfig{
			Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR},
		})
		if err == nil {
			return loop, nil
		}
		_ = loop.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("loop device %d: %w", n, err)
		}
	}
	return nil, errors.New("no loop device is free")
}

// shutDown stops all I/O of a file system without a flush of its log.
func shutDown(at string) error {
	dir, err := os.Open(at)
	if err != nil {
		return err
	}
	defer dir.Close()
	flags := uint32(noLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), shutdownIoctl, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		return fmt.Errorf("shut down %s: %w", at, errno)
	}
	return nil
}

// unmount waits for processes that have just been killed.
func unmount(at string) error {
	deadline := time.Now().Add(unmountTime)
	for {
		err := unix.Unmount(at, 0)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			if err != nil {
				return fmt.Errorf("unmount %s: %w", at, err)
			}
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}
