package errfs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ds4/runtime/vfs"
)

// disk prints everything that a file system holds.
func disk(fsys vfs.FS, dir string) string {
	var b strings.Builder
	_ = fsys.ReadDir(dir, func(e vfs.Entry) error {
		name := strings.TrimSuffix(dir, "/") + "/" + e.Name
		if e.Type.IsDir() {
			fmt.Fprintf(&b, "%s/ %s", name, disk(fsys, name))
		} else {
			fmt.Fprintf(&b, "%s=%q ", name, contents(fsys, name))
		}
		return nil
	})
	return b.String()
}

// TestCrashesOfARename: of a file that was written, synced and renamed, and whose
// folder was not synced, a power cut leaves either name, both or none.
func TestCrashesOfARename(t *testing.T) {
	m := NewMem()
	create(t, m, "/a", "x", true)
	if err := m.Rename("/a", "/b"); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	n, all, err := m.Crashes(100, nil, func(f Fate, c *Mem) error {
		seen[disk(c, "/")] = true
		return nil
	})
	if n != 4 || !all || err != nil || len(seen) != 4 || !seen[""] || !seen[`/a="x" /b="x" `] {
		t.Errorf("%d disks, all %v, %v: %v", n, all, err, seen)
	}
	if err := m.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	if n, all, _ := m.Crashes(100, nil, func(_ Fate, c *Mem) error { return nil }); n != 1 || !all {
		t.Errorf("after the sync %d disks", n)
	}
}

// TestNamesBetween: a name that came and went since the last sync may be there.
func TestNamesBetween(t *testing.T) {
	m := NewMem()
	create(t, m, "/tmp", "1", true)
	m.Rename("/tmp", "/x")
	create(t, m, "/tmp", "2", true)
	m.Rename("/tmp", "/x")
	seen := map[string]bool{}
	m.Crashes(100, nil, func(_ Fate, c *Mem) error { seen[disk(c, "/")] = true; return nil })
	for _, want := range []string{"", `/tmp="1" `, `/tmp="2" `, `/x="1" `, `/tmp="2" /x="1" `, `/tmp="1" /x="2" `, `/x="2" `} {
		if !seen[want] {
			t.Errorf("never seen: %s", want)
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d disks: %v", len(seen), seen)
	}
}

// TestTwoNamesOfOneFile: a power cut in a rename may leave both names; renaming
// one to the other changes nothing, and the last removal frees the bytes.
func TestTwoNamesOfOneFile(t *testing.T) {
	m := NewMem()
	create(t, m, "/a", "x", true)
	if err := errors.Join(m.SyncDir("/"), m.Rename("/a", "/b")); err != nil {
		t.Fatal(err)
	}
	c := m.CrashAs([]int{0, 1})
	if got := disk(c, "/"); got != `/a="x" /b="x" ` || c.Used() != 1 {
		t.Fatalf("%s, %d bytes", got, c.Used())
	}
	if err := c.Rename("/a", "/b"); err != nil || disk(c, "/") != `/a="x" /b="x" ` {
		t.Errorf("%v, %s", err, disk(c, "/"))
	}
	if err := errors.Join(c.Remove("/a"), c.Remove("/b")); err != nil || c.Used() != 0 {
		t.Errorf("%v, %d bytes", err, c.Used())
	}
}

// TestCrashesOfBlocks: every block of a file is old, new or torn, its last one
// may be a hole, and none of it matters if the file has no name.
func TestCrashesOfBlocks(t *testing.T) {
	m := NewMem()
	data := strings.Repeat("a", BlockBytes) + strings.Repeat("b", BlockBytes) + "cc"
	create(t, m, "/f", data, false)
	n, all, _ := m.Crashes(1000, nil, func(_ Fate, c *Mem) error { return nil })
	if n != 1+3*3*4 || !all {
		t.Errorf("%d disks of a file with no durable name, all %v", n, all)
	}
	if err := m.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	n, _, _ = m.Crashes(1000, nil, func(f Fate, c *Mem) error {
		got := contents(c, "/f")
		if seen[got] && !strings.Contains(f.String(), "torn") {
			t.Errorf("twice: %s", f)
		}
		seen[got] = true
		if again := contents(m.CrashAs(f.Values()), "/f"); again != got {
			t.Errorf("%s: another disk when it is asked for again", f)
		}
		return nil
	})
	if n != 36 || !seen[""] || !seen[data] || !seen[string(make([]byte, len(data)))] || !seen[string(make([]byte, 2*BlockBytes))+"cc"] {
		t.Errorf("%d disks", n)
	}
	if got := m.Unsynced().String(); got != "/f[0]=new /f[1]=new /f[2]=new" {
		t.Errorf("unsynced: %s", got)
	}
	stop := errors.New("enough")
	if n, all, err := m.Crashes(1000, nil, func(Fate, *Mem) error { return stop }); n != 1 || all || err != stop {
		t.Errorf("stopped: %d, %v, %v", n, all, err)
	}
	if n, all, _ := m.Crashes(5, nil, func(Fate, *Mem) error { return nil }); n != 5 || all {
		t.Errorf("limit: %d, all %v", n, all)
	}
	if n, all, _ := m.Crashes(100, func(name string) bool { return name == "/f" }, func(Fate, *Mem) error { return nil }); n != 1 || !all {
		t.Errorf("fixed: %d, all %v", n, all)
	}
}

// TestRandomCrashIsEnumerated: over random histories, whatever CrashClone leaves
// is among what Crashes lists, as far as blocks are whole.
func TestRandomCrashIsEnumerated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := NewMem()
		names := rapid.SampledFrom([]string{"/a", "/b", "/d/a", "/d"})
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			a, b := names.Draw(t, "a"), names.Draw(t, "b")
			switch rapid.IntRange(0, 5).Draw(t, "op") {
			case 0, 1:
				if f, err := m.Append(a); err == nil {
					f.Write([]byte(b))
					if rapid.Bool().Draw(t, "sync") {
						f.Sync()
					}
				}
			case 2:
				m.Rename(a, b)
			case 3:
				m.Remove(a)
			case 4:
				m.MkdirAll("/d")
			case 5:
				m.SyncDir(rapid.SampledFrom([]string{"/", "/d"}).Draw(t, "dir"))
			}
		}
		disks := map[string]bool{}
		n, all, _ := m.Crashes(3000, nil, func(_ Fate, c *Mem) error { disks[disk(c, "/")] = true; return nil })
		if !all {
			t.Skip(n)
		}
		m.clone(&cloner{cut: half, pick: func(Loose) int { return 0 }}) // does no harm
		for seed := range uint64(20) {
			rng := rand.New(rand.NewPCG(seed, 0))
			c := m.clone(&cloner{cut: half, pick: func(l Loose) int { return rng.IntN(l.Values) }})
			if got := disk(c, "/"); !disks[got] {
				t.Fatalf("%s is not among the %d disks", got, n)
			}
		}
		if !disks[disk(m.CrashClone(nil), "/")] {
			t.Fatal("what was synced is not among the disks")
		}
		if !disks[disk(m, "/")] {
			t.Fatal("what is there now is not among the disks")
		}
		if got := disk(m.KillClone(), "/"); got != disk(m, "/") {
			t.Fatal("a kill loses something")
		}
		again, _, _ := m.KillClone().Crashes(3000, nil, func(_ Fate, c *Mem) error {
			if !disks[disk(c, "/")] {
				t.Fatal("a power cut after a kill leaves something else than without it")
			}
			return nil
		})
		if again != n {
			t.Fatalf("%d disks after a kill, %d without", again, n)
		}
	})
}
