package errfs

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"ds4/runtime/vfs"
)

func create(t testing.TB, m vfs.FS, name, data string, sync bool) {
	t.Helper()
	f, err := m.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
	if sync {
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func contents(m vfs.FS, name string) string {
	b, err := vfs.ReadFile(m, name, 1<<20)
	if err != nil {
		return "!" + errnoOf(err)
	}
	return string(b)
}

func errnoOf(err error) string {
	var e syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e):
		return e.Error()
	case errors.Is(err, vfs.ErrNotRegular):
		return "not regular"
	}
	return err.Error()
}

// TestOnlySyncedSurvives walks the steps of a durable write; without random
// luck, each step keeps exactly what it promises.
func TestOnlySyncedSurvives(t *testing.T) {
	m := NewMem()
	check := func(step, want string) {
		t.Helper()
		if got := contents(m.CrashClone(nil), "/d/new"); got != want {
			t.Errorf("%s: %q, want %q", step, got, want)
		}
	}
	const missing = "!no such file or directory"
	if err := m.MkdirAll("/d"); err != nil {
		t.Fatal(err)
	}
	if err := m.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	create(t, m, "/d/tmp", "hello", false)
	if err := m.Rename("/d/tmp", "/d/new"); err != nil {
		t.Fatal(err)
	}
	check("nothing synced", missing)
	if err := m.SyncDir("/d"); err != nil {
		t.Fatal(err)
	}
	check("name synced, data not", "")
	f, err := m.Append("/d/new")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	check("all synced", "hello")
	f.Write([]byte(" world"))
	f.Close()
	check("later write not synced", "hello")
	if err := m.Remove("/d/new"); err != nil {
		t.Fatal(err)
	}
	check("removal not synced", "hello")
	if err := m.SyncDir("/d"); err != nil {
		t.Fatal(err)
	}
	check("removal synced", missing)
	if got := contents(m.KillClone(), "/d/new"); got != missing {
		t.Errorf("after a kill: %q", got)
	}
}

// TestCrashPicksAnySubset: over many seeds, unsynced things are seen both kept
// and lost, and blocks are seen torn; synced things are never lost.
func TestCrashPicksAnySubset(t *testing.T) {
	m := NewMem()
	create(t, m, "/safe", "safe", true)
	if err := m.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("x", 3*BlockBytes)
	create(t, m, "/big", big, false)
	m.Rename("/safe", "/moved")
	seen := map[string]bool{}
	for seed := range uint64(400) {
		c := m.CrashClone(rand.New(rand.NewPCG(seed, 0)))
		old, moved := contents(c, "/safe"), contents(c, "/moved")
		seen[fmt.Sprintf("safe %v moved %v", old == "safe", moved == "safe")] = true
		b := contents(c, "/big")
		switch {
		case b == big:
			seen["whole"] = true
		case b == "":
			seen["empty"] = true
		case b[0] == '!':
			seen["lost"] = true
		case len(b) == len(big) && strings.HasPrefix(b, big[:BlockBytes]):
			seen["hole later"] = true
		}
		if i := strings.IndexByte(b, 0); i > 0 && i%BlockBytes != 0 {
			seen["torn block"] = true
		}
	}
	for _, want := range []string{"safe true moved true", "safe true moved false", "safe false moved true", "safe false moved false",
		"whole", "lost", "empty", "hole later", "torn block"} {
		if !seen[want] {
			t.Errorf("never seen: %s", want)
		}
	}
}

// TestMemLikeOS runs random operations on Mem and on a real folder.
func TestMemLikeOS(t *testing.T) {
	n := 0
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		n++
		root := filepath.Join(base, fmt.Sprint(n))
		m := NewMem()
		for _, err := range []error{vfs.OS.MkdirAll(root), m.MkdirAll(root)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		name := rapid.Custom(func(t *rapid.T) string {
			return root + "/" + rapid.SampledFrom([]string{"a", "b", "d", "d/a", "d/e", "d/e/f", "b/x"}).Draw(t, "name")
		})
		same := func(what string, a, b any) {
			if fmt.Sprint(a) != fmt.Sprint(b) {
				t.Fatalf("%s: os %v, mem %v", what, a, b)
			}
		}
		write := func(fsys vfs.FS, open func(string) (vfs.File, error), at, data string) string {
			f, err := open(at)
			if err != nil {
				return errnoOf(err)
			}
			_, err = f.Write([]byte(data))
			return errnoOf(errors.Join(err, f.Sync(), f.Close()))
		}
		list := func(fsys vfs.FS, at string) string {
			var names []string
			err := fsys.ReadDir(at, func(e vfs.Entry) error {
				names = append(names, fmt.Sprint(e.Name, e.Type))
				return nil
			})
			slices.Sort(names)
			return fmt.Sprint(names, errnoOf(err))
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				at := name.Draw(t, "at")
				same("create "+at, write(vfs.OS, vfs.OS.Create, at, "one"), write(m, m.Create, at, "one"))
			},
			"append": func(t *rapid.T) {
				at := name.Draw(t, "at")
				same("append "+at, write(vfs.OS, vfs.OS.Append, at, "+"), write(m, m.Append, at, "+"))
			},
			"mkdir": func(t *rapid.T) {
				at := name.Draw(t, "at")
				same("mkdir "+at, errnoOf(vfs.OS.MkdirAll(at)), errnoOf(m.MkdirAll(at)))
			},
			"rename": func(t *rapid.T) {
				a, b := name.Draw(t, "a"), name.Draw(t, "b")
				if a == b || strings.HasPrefix(b, a+"/") || strings.HasPrefix(a, b+"/") {
					return // onto or into itself: nobody does that
				}
				same("rename "+a+" "+b, errnoOf(vfs.OS.Rename(a, b)), errnoOf(m.Rename(a, b)))
			},
			"remove": func(t *rapid.T) {
				at := name.Draw(t, "at")
				same("remove "+at, errnoOf(vfs.OS.Remove(at)), errnoOf(m.Remove(at)))
			},
			"": func(t *rapid.T) {
				same("list", list(vfs.OS, root), list(m, root))
				same("list d", list(vfs.OS, root+"/d"), list(m, root+"/d"))
				same("a", contents(vfs.OS, root+"/a"), contents(m, root+"/a"))
				same("d/a", contents(vfs.OS, root+"/d/a"), contents(m, root+"/d/a"))
			},
		})
	})
}

func TestCapacity(t *testing.T) {
	m := NewMem()
	m.SetCapacity(10)
	create(t, m, "/a", "12345", true)
	f, _ := m.Create("/b")
	if n, err := f.Write([]byte("1234567")); n != 5 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%d, %v", n, err)
	}
	f.Close()
	if err := m.Remove("/a"); err != nil || m.Used() != 5 {
		t.Errorf("used %d, %v", m.Used(), err)
	}
}

func TestLock(t *testing.T) {
	m := NewMem()
	l, err := m.Lock("/L")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Lock("/L"); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("second holder: %v", err)
	}
	if _, err := m.KillClone().Lock("/L"); err != nil {
		t.Errorf("the dead hold no locks: %v", err)
	}
	l.Close()
	if _, err := m.Lock("/L"); err != nil {
		t.Error(err)
	}
}

func TestRules(t *testing.T) {
	f := Wrap(NewMem(), MustParse("write:path=*.kv:nth=2:part=50%:enospc"), MustParse("rename:nth=2:every:eio"))
	write := func(name, data string) error {
		h, err := f.Append(name)
		if err != nil {
			return err
		}
		_, err = h.Write([]byte(data))
		return errors.Join(err, h.Close())
	}
	for i, want := range []string{"ok", "ok", "no space left on device", "ok"} {
		name := []string{"/a.kv", "/other", "/a.kv", "/a.kv"}[i]
		if got := errnoOf(write(name, "1234")); got != want {
			t.Errorf("write %d: %s, want %s", i, got, want)
		}
	}
	if got := contents(f, "/a.kv"); got != "1234"+"12"+"1234" {
		t.Errorf("after a short write: %q", got)
	}
	for i, want := range []string{"ok", "input/output error", "input/output error"} {
		if got := errnoOf(f.Rename("/a.kv", "/a.kv")); got != want {
			t.Errorf("rename %d: %s, want %s", i, got, want)
		}
	}
	if f.Fired() != 3 || f.Count(OpWrite) != 4 {
		t.Errorf("fired %d, writes %d", f.Fired(), f.Count(OpWrite))
	}
	f.Crash()
	if _, err := f.Lstat("/other"); !errors.Is(err, ErrCrashed) {
		t.Errorf("after a crash: %v", err)
	}
}

func TestCrashRule(t *testing.T) {
	m := NewMem()
	var at *Mem
	f := Wrap(m, MustParse("sync:nth=1:kill9").Then(func() { at = m.KillClone() }))
	h, _ := f.Create("/x")
	h.Write([]byte("data"))
	if err := h.Sync(); !errors.Is(err, ErrCrashed) {
		t.Errorf("%v", err)
	}
	if _, err := h.Write([]byte("more")); !errors.Is(err, ErrCrashed) {
		t.Errorf("a dead process writes: %v", err)
	}
	if got := contents(at, "/x"); got != "data" {
		t.Errorf("%q", got)
	}
}

// TestCloneIsApart: writing to one does not change the other.
func TestCloneIsApart(t *testing.T) {
	m := NewMem()
	create(t, m, "/x", "data", true)
	c := m.KillClone()
	for i, one := range []*Mem{m, c} {
		h, _ := one.Append("/x")
		h.Write(bytes.Repeat([]byte{byte('0' + i)}, 3))
		h.Close()
	}
	if a, b := contents(m, "/x"), contents(c, "/x"); a != "data000" || b != "data111" {
		t.Errorf("%q, %q", a, b)
	}
}

// TestRenameBelowItself: a folder that is in itself would be searched for ever.
func TestRenameBelowItself(t *testing.T) {
	m := NewMem()
	if err := m.MkdirAll("/d/e"); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"/d/a", "/d/e/a", "d/e/../b"} {
		if err := m.Rename("/d", to); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("/d to %s: %v", to, err)
		}
	}
	if err := m.Rename("/d", "/dd"); err != nil {
		t.Error(err)
	}
}
