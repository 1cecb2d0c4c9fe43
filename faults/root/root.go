// Package root does to a server's machine what only its administrator can do: it
// cuts the power of a disk, and takes memory away until the kernel kills.
//
// The power cut is the file system's own: an image on a loop device is shut down
// by ioctl without a flush of its log, so that what was not made durable is lost
// as it is when a machine loses power, and then mounted again, which replays the
// log. Memory is taken by a control group of the server's own.
//
// It promises that nothing is left behind, whoever is killed: the image is mounted
// in a mount namespace of a helper process, never visible to the rest of the
// machine, and that process ends with this one; its loop device is freed by the
// kernel. It judges nothing. What a host does not allow, it says: Probe tries.
//
// A program that uses Disk must call Main first thing, because the helper process
// is the program itself, started again.
package root

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

var (
	// ErrUnavailable means that this host, or this user, may not do it.
	ErrUnavailable = errors.New("root: not possible here")
	// ErrNoMain means that the program does not call Main.
	ErrNoMain = errors.New("root: the program does not call root.Main")
)

// FS is a kind of file system.
type FS string

// The kinds whose power can be cut.
const (
	Ext4 FS = "ext4"
	XFS  FS = "xfs"
)

// FileSystems lists them.
func FileSystems() []FS { return []FS{Ext4, XFS} }

// MinBytes is the size of the smallest file system that its tool makes.
func (f FS) MinBytes() int64 {
	if f == XFS {
		return 300 << 20
	}
	return 16 << 20
}

// MaxBytes bounds an image. It is sparse: it takes what is written to it.
const MaxBytes = 8 << 30

// Ability is something that a host may or may not allow.
type Ability string

// The abilities.
const (
	PowerExt4 Ability = "power-ext4"
	PowerXFS  Ability = "power-xfs"
	Memory    Ability = "memory"
)

// Abilities lists all of them.
func Abilities() []Ability { return []Ability{PowerExt4, PowerXFS, Memory} }

// PowerOf is the ability to cut the power of a kind of file system.
func PowerOf(kind FS) Ability {
	if kind == XFS {
		return PowerXFS
	}
	return PowerExt4
}

// About says in a few words what an ability is.
func (a Ability) About() string {
	switch a {
	case PowerExt4:
		return "a power cut of ext4 (loop device, shutdown ioctl)"
	case PowerXFS:
		return "a power cut of XFS (loop device, shutdown ioctl)"
	case Memory:
		return "a limit on a server's memory, and a kill beyond it (cgroup)"
	}
	return string(a)
}

func unavailable(a Ability, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, a.About(), err)
}

// mainWord is the first argument of the helper process. No person types it.
const mainWord = "__root"

// hasMain says that a program started again would do what it is told.
var hasMain atomic.Bool

// Main does a part of this package's work and ends the process, if the arguments
// (without the program's name) say that it was started for that. Otherwise it
// returns. A program calls it before anything else.
func Main(args []string) {
	hasMain.Store(true)
	if len(args) == 0 || args[0] != mainWord {
		return
	}
	if err := work(args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
