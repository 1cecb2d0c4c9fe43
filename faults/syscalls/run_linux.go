package syscalls

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Run runs a command under the supervisor until its end. It has a process group
// of its own, gets the terminal if standard input is one, and the signals that
// come in; whoever is left in the group at its end is killed, and the kernel
// kills the command if this process dies. The error is about the start only; how
// the command ended is in its state.
func (s *Supervisor) Run(cmd *exec.Cmd, signals <-chan os.Signal) (*os.ProcessState, error) {
	cmd.Path, cmd.Args = launcher(s, cmd)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if tty, err := unix.IoctlGetInt(unix.Stdin, unix.TIOCGPGRP); err == nil && cmd.Stdin == os.Stdin {
		cmd.SysProcAttr.Foreground = true
		cmd.SysProcAttr.Ctty = unix.Stdin
		defer takeBack(tty)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("syscalls: start: %w", err)
	}
	done := make(chan struct{})
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		for {
			select {
			case sig := <-signals:
				if n, ok := sig.(syscall.Signal); ok {
					_ = syscall.Kill(-cmd.Process.Pid, n)
				}
			case <-done:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(done)
	<-forwarded
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return cmd.ProcessState, fmt.Errorf("syscalls: %w", err)
	}
	return cmd.ProcessState, nil
}

// launcher puts the launcher before a command.
func launcher(s *Supervisor, cmd *exec.Cmd) (path string, args []string) {
	self, args := s.Command(cmd.Path, cmd.Args[1:])
	return self, append([]string{self}, args...)
}

// takeBack makes a process group the terminal's again. Who is not it gets a signal
// for that, which stops him unless he ignores it.
func takeBack(group int) {
	signal.Ignore(syscall.SIGTTOU)
	defer signal.Reset(syscall.SIGTTOU)
	_ = unix.IoctlSetPointerInt(unix.Stdin, unix.TIOCSPGRP, group)
}
