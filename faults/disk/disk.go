// Package disk makes a disk bad for a server under test, from outside: a file
// system of a given size that fills up and is freed again, limits on the size
// and number of a live process's files, folders that may not be written, that
// belong to somebody else, or that go away.
//
// It promises that nothing is left behind, whoever is killed: a small file
// system lives in a mount namespace that ends with the processes and descriptors
// that hold it, and is never visible to the rest of the machine. It needs no
// root. It judges nothing, and what a host does not allow it says: Probe tries,
// and does not guess from versions and settings.
//
// A program that uses Volume or Powerless must call Main first thing, because
// parts of the work are done by the program itself, started again.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

var (
	// ErrUnavailable means that this host, or this user, may not do it.
	ErrUnavailable = errors.New("disk: not possible here")
	// ErrNoMain means that the program does not call Main.
	ErrNoMain = errors.New("disk: the program does not call disk.Main")
)

// Sizes of a volume. It lives in memory.
const (
	MinVolumeBytes = 64 << 10
	MaxVolumeBytes = 8 << 30
)

// Ability is something that a host may or may not allow.
type Ability string

// The abilities.
const (
	// Volumes: a file system of a given size, for one server.
	Volumes Ability = "volumes"
	// Limits: to change the limits of a running process.
	Limits Ability = "limits"
	// Modes: a server for which file modes count, unlike for root.
	Modes Ability = "modes"
	// Strangers: folders that belong to another user.
	Strangers Ability = "strangers"
)

// Abilities lists all of them.
func Abilities() []Ability { return []Ability{Volumes, Limits, Modes, Strangers} }

// About says in a few words what an ability is.
func (a Ability) About() string {
	switch a {
	case Volumes:
		return "a file system of a given size (tmpfs in a user and mount namespace)"
	case Limits:
		return "limits of a running process (prlimit)"
	case Modes:
		return "a server without the privileges of root"
	case Strangers:
		return "a folder that belongs to another user"
	}
	return string(a)
}

// unavailable says why an ability is missing.
func unavailable(a Ability, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, a.About(), err)
}

// ChmodDirs changes the mode of a folder and of every folder in it.
func ChmodDirs(dir string, mode fs.FileMode) error {
	var list []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		list = append(list, name)
		return os.Chmod(name, 0o700) // WalkDir reads it next
	})
	slices.Reverse(list) // what is in a folder comes before it is closed
	for _, name := range list {
		err = errors.Join(err, os.Chmod(name, mode))
	}
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	return nil
}

// removeTries bounds the race of RemoveDir with a process that writes.
const removeTries = 100

// RemoveDir removes a folder and everything in it while somebody may be writing
// there.
func RemoveDir(dir string) error {
	var err error
	for range removeTries {
		if err = os.RemoveAll(dir); err == nil {
			return nil
		}
	}
	return fmt.Errorf("disk: remove: %w", err)
}

// MoveDir gives a folder another name beside it; who has files of it open keeps
// them.
func MoveDir(dir, base string) (to string, err error) {
	to = filepath.Join(filepath.Dir(dir), base)
	if err := os.Rename(dir, to); err != nil {
		return "", fmt.Errorf("disk: move: %w", err)
	}
	return to, nil
}
