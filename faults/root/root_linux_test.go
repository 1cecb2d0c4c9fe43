package root

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const helperVar = "DS4_ROOT_TEST_HELPER"

func TestMain(m *testing.M) {
	Main(os.Args[1:])
	switch os.Getenv(helperVar) {
	case "harness": // mounts a disk and waits to be killed
		d, err := NewDisk(context.Background(), os.Args[1], Ext4, Ext4.MinBytes())
		os.Stdout.WriteString(map[bool]string{true: "mounted\n", false: "failed\n"}[err == nil])
		time.Sleep(time.Minute)
		d.Close()
		return
	case "eater": // takes memory until somebody stops it
		_, _ = os.Stdin.Read(make([]byte, 1))
		var kept [][]byte
		for range 1000 {
			kept = append(kept, bytes.Repeat([]byte{1}, 1<<20))
		}
		os.Exit(len(kept) % 2)
	}
	goleak.VerifyTestMain(m)
}

// need skips a test where the host does not allow it.
func need(t *testing.T, a Ability) {
	t.Helper()
	if err := Probe(t.Context(), a); err != nil {
		if !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

func newDisk(t *testing.T, kind FS) *Disk {
	t.Helper()
	at := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := NewDisk(t.Context(), at, kind, kind.MinBytes())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// What was synced is there after a cut; a file that was renamed into place
// without a sync has lost its content or its name. Nothing of it is visible
// outside.
func TestPowerCut(t *testing.T) {
	for _, kind := range FileSystems() {
		t.Run(string(kind), func(t *testing.T) {
			need(t, PowerOf(kind))
			d := newDisk(t, kind)
			text := bytes.Repeat([]byte("row"), 10_000)
			if err := os.WriteFile(filepath.Join(d.Dir(), "lost.tmp"), text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(d.Dir(), "lost.tmp"), filepath.Join(d.Dir(), "lost")); err != nil {
				t.Fatal(err)
			}
			if err := d.Cut(); err != nil {
				t.Fatal(err)
			}
			if err := d.Restore(); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(d.Dir(), "lost")); err == nil && bytes.Equal(got, text) {
				t.Error("what nobody synced has survived: nothing was cut")
			}
			if err := os.WriteFile(filepath.Join(d.Dir(), "kept"), text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := durable(d.Dir(), "durable"); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(d.Cut(), d.Restore()); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(d.Dir(), "durable")); err != nil {
				t.Errorf("what was synced is lost: %v", err)
			}
			if list, err := os.ReadDir(d.at); err != nil || len(list) != 0 {
				t.Errorf("outside the folder has %v, %v", list, err)
			}
		})
	}
}

// A process in the disk sees it at its place; one that still uses it keeps it from
// being mounted again, and its death is enough.
func TestEnter(t *testing.T) {
	need(t, PowerExt4)
	d := newDisk(t, Ext4)
	cmd := exec.Command("sh", "-c", "exec >"+filepath.Join(d.at, "inside")+"; echo ready; exec sleep 60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	d.Enter(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if text, _ := os.ReadFile(filepath.Join(d.Dir(), "inside")); string(text) == "ready\n" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the process writes nothing")
		}
	}
	if err := d.Cut(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := d.Restore(); err != nil {
		t.Fatal(err)
	}
}

// When the harness is killed, mount, loop device and helper go with it.
func TestNothingIsLeft(t *testing.T) {
	need(t, PowerExt4)
	dir := t.TempDir()
	at := filepath.Join(dir, "disk")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], at)
	cmd.Env = append(os.Environ(), helperVar+"=harness")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	word := make([]byte, 8)
	if _, err := out.Read(word); err != nil || string(word) != "mounted\n" {
		t.Fatalf("%q, %v", word, err)
	}
	if !backed(t, at+".img") {
		t.Error("no loop device has the image")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for deadline := time.Now().Add(30 * time.Second); backed(t, at+".img"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a loop device still has the image")
		}
	}
}

// backed says whether a loop device has an image.
func backed(t *testing.T, image string) bool {
	t.Helper()
	names, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(text)) == image {
			return true
		}
	}
	return false
}

// A process that takes more than its group may have is killed by the kernel, and
// the group says so.
func TestMemory(t *testing.T) {
	need(t, Memory)
	g, err := NewGroup()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperVar+"=eater")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const limit = 50 << 20
	if err := errors.Join(g.Add(cmd.Process.Pid), g.Limit(limit)); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if st := cmd.ProcessState.Sys().(syscall.WaitStatus); !st.Signaled() || st.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", cmd.ProcessState)
	}
	if n, err := g.Kills(); err != nil || n != 1 {
		t.Errorf("%d kills, %v", n, err)
	}
	if n, err := g.Usage(); err != nil || n > limit {
		t.Errorf("usage %d, %v", n, err)
	}
}

func TestBadDisks(t *testing.T) {
	for _, bytes := range []int64{0, MaxBytes + 1, XFS.MinBytes() - 1} {
		if _, err := NewDisk(t.Context(), t.TempDir(), XFS, bytes); err == nil || errors.Is(err, ErrUnavailable) {
			t.Errorf("%d bytes: %v", bytes, err)
		}
	}
	if _, err := find("mkfs.nothing"); err == nil {
		t.Error("found a tool that nobody has")
	}
	if err := Probe(t.Context(), "magic"); err == nil {
		t.Error("magic works")
	}
}
