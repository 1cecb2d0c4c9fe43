//go:build unix && !linux

package proc

import "syscall"

// ownGroup puts the child into a process group of its own.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func meetStrangers() {}

func adoptOrphans() {}

// endFamily kills what a process has left in its group.
func endFamily(pid int, _ string, _ bool) { killGroup(pid) }

func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }
