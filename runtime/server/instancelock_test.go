package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInstanceLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ds4.lock")
	first, err := AcquireInstanceLock(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = AcquireInstanceLock(path)
	var running *InstanceRunningError
	if !errors.As(err, &running) {
		t.Fatalf("second owner: %v", err)
	}
	if running.PID != os.Getpid() || running.Path != path {
		t.Errorf("%+v", running)
	}
	want := "another ds4 process is already running (pid " + itoa(os.Getpid()) + "); refusing to start"
	if err.Error() != want {
		t.Errorf("message %q", err)
	}
	for range 2 {
		if err := first.Release(); err != nil {
			t.Fatal(err)
		}
	}
	again, err := AcquireInstanceLock(path)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	if err := again.Release(); err != nil {
		t.Fatal(err)
	}
}

// TestInstanceLockLeftovers: what a dead process wrote, or somebody else, does not
// keep us from starting.
func TestInstanceLockLeftovers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ds4.lock")
	for _, content := range []string{"", "12345", "not a pid", strings.Repeat("9", 1000)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		lock, err := AcquireInstanceLock(path)
		if err != nil {
			t.Fatalf("%.20q: %v", content, err)
		}
		if got, _ := os.ReadFile(path); string(got) != itoa(os.Getpid()) {
			t.Errorf("%.20q: file holds %q", content, got)
		}
		lock.Release()
	}
}

func TestInstanceLockRefuses(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), link); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"folder": dir, "no folder": filepath.Join(dir, "none", "ds4.lock"), "symbolic link": link,
	} {
		lock, err := AcquireInstanceLock(path)
		if err == nil {
			lock.Release()
			t.Errorf("%s: locked", name)
		} else if !strings.Contains(err.Error(), instanceLockEnv) {
			t.Errorf("%s: %v does not say what helps", name, err)
		}
	}
}

func TestInstanceLockPath(t *testing.T) {
	none := func(string) string { return "" }
	if got := InstanceLockPath(none); got != filepath.Join(os.TempDir(), "ds4.lock") {
		t.Errorf("got %s", got)
	}
	set := func(name string) string { return map[string]string{"DS4_LOCK_FILE": "/x/y"}[name] }
	if got := InstanceLockPath(set); got != "/x/y" {
		t.Errorf("got %s", got)
	}
}
