//go:build !linux

package root

import (
	"context"
	"errors"
	"syscall"
)

var errLinux = errors.New("needs Linux")

// Disk is a file system whose power can be cut. There is none on this system.
type Disk struct{}

// NewDisk fails on this system.
func NewDisk(_ context.Context, _ string, kind FS, _ int64) (*Disk, error) {
	return nil, unavailable(PowerOf(kind), errLinux)
}

// Dir is the disk's root folder.
func (d *Disk) Dir() string { return "" }

// Enter changes nothing on this system.
func (d *Disk) Enter(*syscall.SysProcAttr) {}

// Cut fails on this system.
func (d *Disk) Cut() error { return unavailable(PowerExt4, errLinux) }

// Restore fails on this system.
func (d *Disk) Restore() error { return unavailable(PowerExt4, errLinux) }

// Close does nothing on this system.
func (d *Disk) Close() {}

// Group is a control group. There is none on this system.
type Group struct{}

// NewGroup fails on this system.
func NewGroup() (*Group, error) { return nil, unavailable(Memory, errLinux) }

// Add fails on this system.
func (g *Group) Add(int) error { return unavailable(Memory, errLinux) }

// Usage fails on this system.
func (g *Group) Usage() (int64, error) { return 0, unavailable(Memory, errLinux) }

// Limit fails on this system.
func (g *Group) Limit(int64) error { return unavailable(Memory, errLinux) }

// Kills fails on this system.
func (g *Group) Kills() (int64, error) { return 0, unavailable(Memory, errLinux) }

// Close does nothing on this system.
func (g *Group) Close() {}

// Probe says that nothing of this package works here.
func Probe(_ context.Context, a Ability) error { return unavailable(a, errLinux) }

func work([]string) error { return errLinux }
