package errfs

import (
	"errors"
	"io/fs"
	"maps"
	"testing"

	"ds4/runtime/vfs"
)

// listing is what Contents shows.
func listing(t *testing.T, m *Mem) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := m.Contents(func(name string, data []byte) error {
		all[name] = string(data)
		if data == nil {
			all[name] = "folder"
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What a vfs.FS cannot do happens as on a file system, and not to clones.
func TestReplay(t *testing.T) {
	m := NewMem()
	f, err := m.Create("/a")
	if err == nil {
		err = errors.Join(f.Close(), m.MkdirAll("/d"), m.WriteAt("/a", 2, []byte("xyz")), m.Link("/a", "/d/b"))
	}
	if err != nil {
		t.Fatal(err)
	}
	before := m.KillClone()
	if err := errors.Join(m.WriteAt("/d/b", 0, []byte("12")), m.Truncate("/a", 4), m.WriteAt("/a", 5, []byte("!"))); err != nil {
		t.Fatal(err)
	}
	if got, want := listing(t, m), map[string]string{"/a": "12xy\x00!", "/d": "folder", "/d/b": "12xy\x00!"}; !maps.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := listing(t, before), map[string]string{"/a": "\x00\x00xyz", "/d": "folder", "/d/b": "\x00\x00xyz"}; !maps.Equal(got, want) {
		t.Errorf("the clone has become %q, want %q", got, want)
	}
	for what, err := range map[error]error{
		fs.ErrNotExist: m.WriteAt("/no", 0, nil), vfs.ErrNotRegular: m.Truncate("/d", 0), fs.ErrExist: m.Link("/a", "/d/b"),
	} {
		if !errors.Is(err, what) {
			t.Errorf("%v, want %v", err, what)
		}
	}
	if m.WriteAt("/a", -1, nil) == nil || m.Truncate("/a", -1) == nil {
		t.Error("a negative offset was taken")
	}
}

// SyncFile keeps contents and no name, SyncAll both.
func TestReplaySync(t *testing.T) {
	m := NewMem()
	f, err := m.Create("/a")
	if err == nil {
		err = errors.Join(f.Close(), m.WriteAt("/a", 0, []byte("1")), m.SyncFile("/a"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := listing(t, m.CrashClone(nil)); len(got) != 0 {
		t.Errorf("after the sync of a file whose name is not durable: %q", got)
	}
	m.SyncAll()
	if err := m.WriteAt("/a", 0, []byte("2")); err != nil {
		t.Fatal(err)
	}
	if got := listing(t, m.CrashClone(nil)); got["/a"] != "1" || len(got) != 1 {
		t.Errorf("after sync: %q", got)
	}
	// A fate is what its values say, in whatever way they are picked.
	if got := listing(t, m.CrashBy(Loose.Arrived)); got["/a"] != "2" {
		t.Errorf("everything arrived: %q", got)
	}
	if n := len(m.Unsynced()); n != 1 {
		t.Errorf("%d things are loose, want one block", n)
	}
}
