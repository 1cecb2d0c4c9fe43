package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// probeTimeout bounds one probe; each takes milliseconds.
const probeTimeout = 20 * time.Second

// Probe finds out whether this host allows something, by doing it once in a
// temporary folder. An error wraps ErrUnavailable and says what went wrong.
func Probe(ctx context.Context, a Ability) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "ds4bench-probe-")
	if err != nil {
		return fmt.Errorf("disk: probe: %w", err)
	}
	defer os.RemoveAll(dir)
	switch a {
	case Volumes:
		err = probeVolume(ctx, dir)
	case Limits:
		err = probeLimits(ctx)
	case Modes:
		err = probeModes(ctx, dir)
	case Strangers:
		if err = probeModes(ctx, dir); err == nil {
			err = probeStrangers(ctx, dir)
		}
	default:
		return fmt.Errorf("disk: unknown ability %q", a)
	}
	if err != nil && !errors.Is(err, ErrUnavailable) {
		err = unavailable(a, explain(err))
	}
	return err
}

// probeVolume also starts a process in the volume: to mount is not enough where
// a security module takes the rights of a namespace away.
func probeVolume(ctx context.Context, dir string) error {
	v, err := NewVolume(ctx, dir, MinVolumeBytes)
	if err != nil {
		return err
	}
	defer v.Close()
	if err := createAs(ctx, v.Enter, filepath.Join(dir, "inside")); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(v.Dir(), "inside")); err != nil {
		return fmt.Errorf("a file of a process in the volume is not there: %w", err)
	}
	err = os.WriteFile(filepath.Join(v.Dir(), "full"), make([]byte, 2*MinVolumeBytes), 0o600)
	if !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("writing more than fits: %v, want %v", err, unix.ENOSPC)
	}
	return nil
}

func probeLimits(ctx context.Context) error {
	cmd, err := sleeper(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	pid := cmd.Process.Pid
	return errors.Join(LimitFileSize(pid, 1<<20), LimitFiles(pid, 0), LimitFiles(pid, -1), LimitFileSize(pid, -1))
}

// sleeper starts a process like a server under test that does nothing.
func sleeper(ctx context.Context) (*exec.Cmd, error) {
	cmd, err := self(ctx, "wait")
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return cmd, cmd.Start()
}

func probeModes(ctx context.Context, dir string) error {
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o500); err != nil {
		return err
	}
	if err := createAs(ctx, Powerless, filepath.Join(closed, "file")); err == nil {
		return errors.New("a process writes into a folder that is write-protected")
	} else if !strings.Contains(err.Error(), unix.EACCES.Error()) {
		return err
	}
	return createAs(ctx, Powerless, filepath.Join(dir, "open"))
}

func probeStrangers(ctx context.Context, dir string) error {
	theirs := filepath.Join(dir, "theirs")
	if err := os.Mkdir(theirs, 0o700); err != nil {
		return err
	}
	if err := GiveAway(theirs); err != nil {
		return err
	}
	defer func() { _ = TakeBack(theirs) }()
	if createAs(ctx, Powerless, filepath.Join(theirs, "file")) == nil {
		return errors.New("a process writes into another user's private folder")
	}
	return nil
}

// createAs has a process of a kind make a file.
func createAs(ctx context.Context, kind func(*syscall.SysProcAttr), name string) error {
	cmd, err := self(ctx, "create", name)
	if err != nil {
		return err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	kind(cmd.SysProcAttr)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
