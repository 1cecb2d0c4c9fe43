package vfs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"syscall"
	"testing"
	"time"

	"ds4/runtime/vfs"
)

func write(t *testing.T, name, data string) {
	t.Helper()
	f, err := vfs.OS.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestModesAndExclusive(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := vfs.OS.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "f")
	write(t, name, "x")
	for path, want := range map[string]fs.FileMode{dir: 0o700, name: 0o600} {
		fi, err := os.Stat(path)
		if err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", path, fi.Mode().Perm(), err, want)
		}
	}
	if _, err := vfs.OS.Create(name); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Create: %v", err)
	}
	if _, err := vfs.OS.Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// TestHostileNames: whatever lies under a name, opening it neither waits nor
// reaches out of the folder.
func TestHostileNames(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "s")
	at := func(n string) string { return filepath.Join(dir, n) }
	for _, err := range []error{
		os.Symlink(secret, at("link")), os.Symlink(at("loop"), at("loop")), os.Symlink("/dev/zero", at("zero")),
		syscall.Mkfifo(at("fifo"), 0o600), os.Mkdir(at("dir"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, n := range []string{"link", "loop", "zero", "fifo", "dir"} {
			for what, open := range map[string]func(string) (vfs.File, error){"Open": vfs.OS.Open, "Append": vfs.OS.Append} {
				if f, err := open(at(n)); !errors.Is(err, vfs.ErrNotRegular) {
					t.Errorf("%s %s: %v, %v", what, n, f, err)
				}
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("an open waits")
	}
}

func TestReadDirStreams(t *testing.T) {
	dir := t.TempDir()
	want := 1500 // several batches
	for i := range want {
		write(t, filepath.Join(dir, strconv.Itoa(i)), "")
	}
	var names []string
	if err := vfs.OS.ReadDir(dir, func(e vfs.Entry) error {
		names = append(names, e.Name)
		return vfs.OS.Remove(filepath.Join(dir, e.Name)) // allowed while listing
	}); err != nil {
		t.Fatal(err)
	}
	sort.Strings(names)
	if len(names) != want {
		t.Errorf("%d names, want %d", len(names), want)
	}
	stop := errors.New("stop")
	write(t, filepath.Join(dir, "one"), "")
	if err := vfs.OS.ReadDir(dir, func(vfs.Entry) error { return stop }); err != stop {
		t.Errorf("visit's error: %v", err)
	}
}

func TestLock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "LOCK")
	l, err := vfs.OS.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.SetInfo([]byte("a longer text")), l.SetInfo([]byte("pid 1"))); err != nil {
		t.Fatal(err)
	}
	if data, err := vfs.ReadFile(vfs.OS, name, 100); err != nil || string(data) != "pid 1" {
		t.Errorf("info %q, %v", data, err)
	}
	if _, err := vfs.OS.Lock(name); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("second holder: %v", err)
	}
	if err := l.Held(); err != nil {
		t.Errorf("held: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = vfs.OS.Lock(name)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	defer l.Close()
	// The file goes away, then another one gets its name, then the folder goes.
	if err := os.Rename(name, name+".old"); err != nil {
		t.Fatal(err)
	}
	if err := l.Held(); !errors.Is(err, vfs.ErrLockLost) {
		t.Errorf("moved away: %v", err)
	}
	write(t, name, "")
	if err := l.Held(); !errors.Is(err, vfs.ErrLockLost) {
		t.Errorf("replaced: %v", err)
	}
	if err := os.Rename(name+".old", name); err != nil {
		t.Fatal(err)
	}
	if err := l.Held(); err != nil {
		t.Errorf("back again: %v", err)
	}
	if err := os.RemoveAll(filepath.Dir(name)); err != nil {
		t.Fatal(err)
	}
	if err := l.Held(); !errors.Is(err, vfs.ErrLockLost) {
		t.Errorf("without its folder: %v", err)
	}
}

func TestWriteFileAtomic(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	for _, data := range []string{"one", "two, longer", ""} {
		if err := vfs.WriteFileAtomic(vfs.OS, name, []byte(data), true); err != nil {
			t.Fatal(err)
		}
		got, err := vfs.ReadFile(vfs.OS, name, 100)
		if err != nil || !bytes.Equal(got, []byte(data)) {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := vfs.ReadFile(vfs.OS, name, -1); !errors.Is(err, vfs.ErrTooBig) {
		t.Errorf("limit: %v", err)
	}
	// A folder in the way: the error says so and no temp stays.
	if err := os.MkdirAll(filepath.Join(dir, "d", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFileAtomic(vfs.OS, filepath.Join(dir, "d"), nil, true); err == nil {
		t.Error("replaced a folder")
	}
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		if vfs.IsTemp(e.Name()) {
			t.Errorf("left %s", e.Name())
		}
	}
}

func TestSyncDir(t *testing.T) {
	dir := t.TempDir()
	if err := vfs.OS.SyncDir(dir); err != nil {
		t.Error(err)
	}
	if err := vfs.OS.SyncDir(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
}
