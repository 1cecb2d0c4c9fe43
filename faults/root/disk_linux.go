package root

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// answerTimeout bounds one thing that the helper process is asked to do.
const answerTimeout = time.Minute

// What the helper process is asked, and answers.
const (
	askCut   = "cut"   // no more I/O, and no flush
	askAgain = "again" // unmount, mount
	sayOK    = "ok"
)

// Disk is a file system in an image, which only processes that Enter see.
type Disk struct {
	at    string
	image string
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	err   strings.Builder
}

// NewDisk makes an image of a size beside the folder at, and mounts it there, for
// the processes that are started with Enter. The caller must Close.
func NewDisk(ctx context.Context, at string, kind FS, bytes int64) (*Disk, error) {
	if bytes < kind.MinBytes() || bytes > MaxBytes {
		return nil, fmt.Errorf("root: a disk of %d bytes with %s, want %d to %d", bytes, kind, kind.MinBytes(), int64(MaxBytes))
	}
	at, err := filepath.Abs(at)
	if err == nil {
		at, err = filepath.EvalSymlinks(at)
	}
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	d := &Disk{at: at, image: at + ".img"}
	if err := makeImage(ctx, d.image, kind, bytes); err != nil {
		return nil, unavailable(PowerOf(kind), err)
	}
	if err := d.start(kind); err != nil {
		d.Close()
		return nil, unavailable(PowerOf(kind), err)
	}
	return d, nil
}

// makeImage writes an empty file system into a new file.
func makeImage(ctx context.Context, image string, kind FS, bytes int64) error {
	tool, err := find("mkfs." + string(kind))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(image, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(bytes), f.Close()); err != nil {
		return err
	}
	force := "-F"
	if kind == XFS {
		force = "-f"
	}
	if out, err := exec.CommandContext(ctx, tool, "-q", force, image).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", tool, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// find looks for a tool where administrators have them, whatever PATH says.
func find(tool string) (string, error) {
	if path, err := exec.LookPath(tool); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, tool)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", tool)
}

// start starts the helper process, which mounts the image.
func (d *Disk) start(kind FS) error {
	if !hasMain.Load() {
		return ErrNoMain
	}
	path, err := os.Executable()
	if err != nil {
		return err
	}
	d.cmd = exec.Command(path, mainWord, d.image, d.at, string(kind))
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWNS}
	d.cmd.Stderr = &d.err
	if d.in, err = d.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	d.out = bufio.NewReader(out)
	if err := d.cmd.Start(); err != nil {
		d.cmd = nil
		if errors.Is(err, syscall.EPERM) {
			err = fmt.Errorf("mount namespaces are not allowed to this process: %w", err)
		}
		return err
	}
	return d.answer()
}

// answer waits for the helper's word.
func (d *Disk) answer() error {
	stuck := time.AfterFunc(answerTimeout, func() { _ = d.cmd.Process.Kill() })
	defer stuck.Stop()
	word, err := d.out.ReadString('\n')
	word = strings.TrimSpace(word)
	switch {
	case err != nil:
		_ = d.cmd.Wait()
		err = fmt.Errorf("the process that mounts it ended: %s", strings.TrimSpace(d.err.String()))
		d.cmd = nil
		return err
	case word != sayOK:
		return errors.New(word)
	}
	return nil
}

func (d *Disk) ask(what string) error {
	if d.cmd == nil {
		return errors.New("root: the disk is gone")
	}
	if _, err := fmt.Fprintln(d.in, what); err != nil {
		return fmt.Errorf("root: %s: %w", what, err)
	}
	if err := d.answer(); err != nil {
		return fmt.Errorf("root: %s: %w", what, err)
	}
	return nil
}

func (d *Disk) namespace() string { return "/proc/" + strconv.Itoa(d.cmd.Process.Pid) + "/root" }

// Dir is the disk's root folder, as this process reaches it.
func (d *Disk) Dir() string {
	if d.cmd == nil {
		return filepath.Join(d.at, "gone")
	}
	return d.namespace() + d.at
}

// Enter makes a process that is about to be started see the disk at its place.
func (d *Disk) Enter(a *syscall.SysProcAttr) {
	if d.cmd != nil {
		a.Chroot = d.namespace()
	}
}

// Cut cuts the power: from now on every access fails, and what was not made
// durable is lost. The processes that use the disk have to end before Restore.
func (d *Disk) Cut() error { return d.ask(askCut) }

// Restore mounts the disk again, as a machine does that has its power back.
func (d *Disk) Restore() error { return d.ask(askAgain) }

// Close gives the disk up, and removes its image.
func (d *Disk) Close() {
	if d.cmd != nil {
		_ = d.in.Close()
		stuck := time.AfterFunc(answerTimeout, func() { _ = d.cmd.Process.Kill() })
		_ = d.cmd.Wait()
		stuck.Stop()
		d.cmd = nil
	}
	_ = os.Remove(d.image)
}
