package syscalls

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// probeTimeout bounds one probe; each takes milliseconds.
const probeTimeout = 30 * time.Second

// probeWord tells a launcher to be the target of a probe itself.
const probeWord = "probe"

// Probe finds out whether this host allows something, by doing it once in a
// temporary folder. An error wraps ErrUnavailable and says what went wrong.
func Probe(ctx context.Context, a Ability) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "ds4bench-probe-")
	if err != nil {
		return fmt.Errorf("syscalls: probe: %w", err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "file")
	switch a {
	case Notify:
		if err = probe(ctx, name, "write:eio"); err == nil {
			err = errors.New("a write that was to fail succeeded")
		} else if strings.Contains(err.Error(), unix.EIO.Error()) {
			err = nil
		}
	case Files:
		if err = probe(ctx, name, "write:nth=1:short(1)"); err == nil {
			var info os.FileInfo
			if info, err = os.Stat(name); err == nil && info.Size() != int64(len(probeText)) {
				err = fmt.Errorf("a write in two parts left %d bytes, want %d", info.Size(), len(probeText))
			}
		}
	default:
		return fmt.Errorf("syscalls: unknown ability %q", a)
	}
	if err != nil && !errors.Is(err, ErrUnavailable) {
		err = unavailable(a, err)
	}
	return err
}

// probe has a process write a file under a rule.
func probe(ctx context.Context, name, rule string) error {
	r, err := ParseRule(rule)
	if err != nil {
		return err
	}
	said := make(chan string, maxSaid)
	s, err := New(Config{Rules: []Rule{r}, Dir: filepath.Dir(name), Log: func(line string) {
		select {
		case said <- line:
		default:
		}
	}})
	if err != nil {
		return err
	}
	defer s.Close()
	self, args := s.Command(selfPath, []string{launchWord, probeWord, name})
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if failed := err; failed != nil {
		err = errors.New(strings.TrimPrefix(strings.TrimSpace(string(out)), "syscalls: "))
		if len(out) == 0 {
			err = fmt.Errorf("a process under a filter: %w", failed)
		}
	} else if s.Status()[0].Fired == 0 {
		err = errors.New("no call was seen")
	}
	for len(said) > 0 { // why a call was not carried out
		if line := <-said; err != nil && strings.HasPrefix(line, "syscalls: ") {
			err = fmt.Errorf("%w; %s", err, strings.TrimPrefix(line, "syscalls: "))
		}
	}
	return err
}

const probeText = "ab"

// probeWrite is what the target of a probe does: a write that must be repeated if
// it comes back short.
func probeWrite(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.WriteString(f, probeText)
	return err
}
