//go:build !linux

package syscalls

import (
	"context"
	"errors"
	"os"
	"os/exec"
)

var errLinux = errors.New("needs Linux")

// Config says what a supervisor does.
type Config struct {
	Rules   []Rule
	Dir     string
	Log     func(line string)
	Observe func(*Call)
}

// Supervisor watches the system calls of programs. There is none on this system.
type Supervisor struct{}

// Status reports on one rule.
type Status struct {
	Rule  Rule
	Seen  int
	Fired int
}

// New fails on this system.
func New(Config) (*Supervisor, error) { return nil, unavailable(Notify, errLinux) }

// Command changes nothing on this system.
func (s *Supervisor) Command(path string, args []string) (string, []string) { return path, args }

// Run fails on this system.
func (s *Supervisor) Run(*exec.Cmd, <-chan os.Signal) (*os.ProcessState, error) {
	return nil, unavailable(Notify, errLinux)
}

// Status has nothing to report on this system.
func (s *Supervisor) Status() []Status { return nil }

// Unseen has nothing to report on this system.
func (s *Supervisor) Unseen() []string { return nil }

// Close does nothing on this system.
func (s *Supervisor) Close() {}

// Probe says that nothing of this package works here.
func Probe(_ context.Context, a Ability) error { return unavailable(a, errLinux) }

func launch([]string) error { return errLinux }
