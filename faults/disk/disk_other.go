//go:build !linux

package disk

import (
	"context"
	"errors"
	"syscall"
)

var errLinux = errors.New("needs Linux")

// Volume is a file system of a given size. There is none on this system.
type Volume struct{}

// NewVolume fails on this system.
func NewVolume(context.Context, string, int64) (*Volume, error) {
	return nil, unavailable(Volumes, errLinux)
}

// Dir is the volume's root folder.
func (v *Volume) Dir() string { return "" }

// Enter changes nothing on this system.
func (v *Volume) Enter(*syscall.SysProcAttr) {}

// Fill fails on this system.
func (v *Volume) Fill(int64) error { return unavailable(Volumes, errLinux) }

// Free fails on this system.
func (v *Volume) Free() error { return unavailable(Volumes, errLinux) }

// Close does nothing on this system.
func (v *Volume) Close() {}

// Powerless changes nothing on this system.
func Powerless(*syscall.SysProcAttr) {}

// LimitFileSize fails on this system.
func LimitFileSize(int, int64) error { return unavailable(Limits, errLinux) }

// LimitFiles fails on this system.
func LimitFiles(int, int) error { return unavailable(Limits, errLinux) }

// GiveAway fails on this system.
func GiveAway(string) error { return unavailable(Strangers, errLinux) }

// TakeBack fails on this system.
func TakeBack(string) error { return unavailable(Strangers, errLinux) }

// Probe says that nothing of this package works here.
func Probe(_ context.Context, a Ability) error { return unavailable(a, errLinux) }

func work(string, []string) error { return errLinux }
