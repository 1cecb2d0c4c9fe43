package root

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// probeTimeout bounds one probe.
const probeTimeout = time.Minute

// Probe finds out whether this host allows something, by doing it once in a
// temporary folder. An error wraps ErrUnavailable and says what went wrong.
func Probe(ctx context.Context, a Ability) error {
	if os.Geteuid() != 0 {
		return unavailable(a, errors.New("needs root"))
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var err error
	switch a {
	case PowerExt4:
		err = probePower(ctx, Ext4)
	case PowerXFS:
		err = probePower(ctx, XFS)
	case Memory:
		err = probeMemory(ctx)
	default:
		return fmt.Errorf("root: unknown ability %q", a)
	}
	if err != nil && !errors.Is(err, ErrUnavailable) {
		err = unavailable(a, err)
	}
	return err
}

// probePower cuts the power after a file was made durable and another was not:
// the first must be there afterwards.
func probePower(ctx context.Context, kind FS) error {
	dir, err := os.MkdirTemp("", "ds4bench-probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	at := filepath.Join(dir, "disk")
	if err := os.Mkdir(at, 0o700); err != nil {
		return err
	}
	d, err := NewDisk(ctx, at, kind, kind.MinBytes())
	if err != nil {
		return err
	}
	defer d.Close()
	if err := durable(d.Dir(), "durable"); err != nil {
		return err
	}
	if err := d.Cut(); err != nil {
		return err
	}
	if os.WriteFile(filepath.Join(d.Dir(), "after"), nil, 0o600) == nil {
		return errors.New("a file was made after the power cut")
	}
	if err := d.Restore(); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(d.Dir(), "durable")); err != nil {
		return fmt.Errorf("a durable file is lost: %w", err)
	}
	return nil
}

// durable makes a file and its name durable.
func durable(dir, name string) error {
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	parent, err := os.Open(dir)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close(), parent.Sync(), parent.Close())
}

// probeMemory puts a process that waits into a group.
func probeMemory(ctx context.Context) error {
	g, err := NewGroup()
	if err != nil {
		return err
	}
	defer g.Close()
	const enough = 64 << 20
	if err := g.Limit(enough); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if err := g.Add(cmd.Process.Pid); err != nil {
		return err
	}
	_, err = g.Kills()
	return err
}
