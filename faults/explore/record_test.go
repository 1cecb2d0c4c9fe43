//go:build linux

package explore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"ds4/faults/syscalls"
)

// The test binary is the program that is recorded: with this variable it runs one
// of the functions below in the folder that it was started in.
const actVar = "DS4_EXPLORE_TEST_ACT"

func TestMain(m *testing.M) {
	syscalls.Main(os.Args[1:])
	if name := os.Getenv(actVar); name != "" {
		if err := acts[name](); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// acts are what programs do.
var acts = map[string]func() error{
	"save": func() error {
		if err := os.MkdirAll("d/e", 0o700); err != nil {
			return err
		}
		f, err := os.Create("d/e/tmp")
		if err != nil {
			return err
		}
		for range 3 {
			if _, err := f.WriteString("hello"); err != nil {
				return err
			}
		}
		_, err = f.WriteAt([]byte("J"), 0)
		dir, dirErr := os.Open("d/e")
		if err = errors.Join(err, dirErr); err != nil {
			return err
		}
		if os.Remove("nothing/there") == nil || os.Mkdir("d", 0o700) == nil || os.Rename("no", "where") == nil || os.Link("d", "x") == nil {
			return errors.New("what cannot be succeeded")
		}
		return errors.Join(f.Sync(), f.Close(), os.Rename("d/e/tmp", "d/f"), dir.Sync(), dir.Close(),
			os.Link("d/f", "g"), os.Truncate("g", 7), os.Remove("old"), os.WriteFile("new", []byte("x"), 0o600),
			os.WriteFile("new", []byte("yz"), 0o600), os.Remove("d/e"))
	},
	"append": func() error {
		f, err := os.OpenFile("old", os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString("er")
		if err := unix.Fallocate(int(f.Fd()), 0, 0, 10); err != nil {
			return err
		}
		return errors.Join(err, os.Remove("old"), func() error { _, err := f.WriteString("gone"); return err }(), f.Close())
	},
	"map": func() error {
		f, err := os.OpenFile("old", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		m, err := unix.Mmap(int(f.Fd()), 0, 3, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		m[0] = 'X'
		return f.Close()
	},
	"symlink": func() error { return os.Symlink("old", "link") },
	"enter": func() error {
		name := filepath.Join(os.TempDir(), fmt.Sprintf("ds4-explore-%d", os.Getpid()))
		return errors.Join(os.WriteFile(name, []byte("x"), 0o600), os.Rename(name, "in"))
	},
	"leave": func() error {
		name := filepath.Join(os.TempDir(), fmt.Sprintf("ds4-explore-%d", os.Getpid()))
		return errors.Join(os.Rename("old", name), os.Remove(name))
	},
}

// record runs an act and returns its history.
func record(t *testing.T, act string) (*History, error) {
	t.Helper()
	for _, a := range syscalls.Abilities() {
		if err := syscalls.Probe(t.Context(), a); err != nil {
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "old"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	rec, err := NewRecorder(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := syscalls.New(syscalls.Config{Dir: dir, Observe: rec.Observe, Log: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	self, args := s.Command(os.Args[0], nil)
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Dir = dir
	// The folder of temporary files is on the same file system, for renames.
	cmd.Env = append(os.Environ(), actVar+"="+act, "TMPDIR="+filepath.Dir(dir))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return rec.Finish()
}

func TestRecord(t *testing.T) {
	for act, want := range map[string][]string{
		"save": {"mkdir /d", "mkdir /d/e", "create /d/e/tmp", "write /d/e/tmp [0, 5)", "write /d/e/tmp [5, 10)", "write /d/e/tmp [10, 15)",
			"write /d/e/tmp [0, 1)", "fsync /d/e/tmp", "rename /d/e/tmp to /d/f", "fsync folder /d/e", "link /d/f to /g", "truncate /g to 7", "remove /old",
			"create /new", "write /new [0, 1)", "truncate /new to 0", "write /new [0, 2)", "remove /d/e"},
		"append": {"write /old [3, 5)", "grow /old to 10", "remove /old"},
		"leave":  {"remove /old"},
	} {
		h, err := record(t, act)
		if err != nil {
			t.Errorf("%s: %v", act, err)
			continue
		}
		var got []string
		for _, op := range h.Ops {
			got = append(got, op.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s did\n%s\nwant\n%s", act, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// What cannot be replayed, or was not seen, is no history.
func TestRecordIsHonest(t *testing.T) {
	for act, want := range map[string]string{
		"map":     "/old has 3 bytes, those that were seen being written are 3 others",
		"symlink": "symbolic links cannot be replayed",
		"enter":   "comes from outside",
	} {
		if _, err := record(t, act); !errors.Is(err, ErrRecording) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", act, err, want)
		}
	}
}
