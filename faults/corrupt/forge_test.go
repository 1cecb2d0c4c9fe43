package corrupt_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ds4/faults"
	"ds4/faults/corrupt"
	"ds4/runtime/kvstore/segment"
)

// A forged file must pass every check that knows nothing of the model, and fail
// the one that does: otherwise the forgery tests something else.
func TestForge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.kv")
	l, before := segmentFile(t, path)
	for _, name := range []string{"raw", "compressed", "indexer", "text"} {
		write(t, path, before)
		if _, err := corrupt.Apply(path, corrupt.Damage{Op: faults.OpShorten, At: name}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r, f := reader(t, path)
		h, err := r.Header()
		if err != nil {
			t.Fatalf("%s: header: %v", name, err)
		}
		in, err := r.Info(h, nil)
		if err != nil {
			t.Fatalf("%s: table: %v", name, err)
		}
		if _, err := r.Verify(in, nil); err != nil {
			t.Errorf("%s: a checksum does not fit: %v", name, err)
		}
		// A shorter text is a text like any other; its name says otherwise.
		if _, err := r.Info(h, &l); errors.Is(err, segment.ErrLayout) == (name == "text") {
			t.Errorf("%s: against the layout: %v", name, err)
		}
		f.Close()
	}
	write(t, path, before)
	if _, err := corrupt.Apply(path, corrupt.Damage{Op: faults.OpInflate, At: "indexer", Bytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	r, f := reader(t, path)
	defer f.Close()
	h, err := r.Header()
	if err != nil {
		t.Fatalf("inflated: header: %v", err)
	}
	if _, err := r.Info(h, nil); err == nil || strings.Contains(err.Error(), "checksum") {
		t.Errorf("inflated: %v, want an error about sizes", err)
	}
	for _, at := range []string{"header", "footer", "", "50%"} {
		write(t, path, before)
		if _, err := corrupt.Apply(path, corrupt.Damage{Op: faults.OpShorten, At: at}); err == nil {
			t.Errorf("%q was shortened", at)
		}
	}
}

func reader(t *testing.T, path string) (segment.Reader, *os.File) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return segment.Reader{R: f, Size: st.Size()}, f
}

func TestPlant(t *testing.T) {
	dir := t.TempDir()
	segmentFile(t, filepath.Join(dir, "segments", "aa", "s.kv"))
	plant := func(name, kind, from string, bytes int64) os.FileInfo {
		t.Helper()
		if err := corrupt.Plant(dir, name, kind, from, bytes); err != nil {
			t.Fatal(err)
		}
		st, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	if st := plant("tmp/x.1.1", "", "", 70_000); st.Size() != 70_000 || !st.Mode().IsRegular() {
		t.Errorf("file: %v of %d bytes", st.Mode(), st.Size())
	}
	plant("segments/bb/h.kv", "file", "oldest", 128)
	head, _ := os.ReadFile(filepath.Join(dir, "segments/bb/h.kv"))
	if len(head) != 128 || !strings.HasPrefix(string(head), "DS4SEG") {
		t.Errorf("a file from a segment has %d bytes, beginning with %.6q", len(head), head)
	}
	if st := plant("segments/cc/d.kv", "directory", "", 0); !st.IsDir() {
		t.Error("no directory")
	}
	if st := plant("segments/cc/f.kv", "fifo", "", 0); st.Mode().Type() != os.ModeNamedPipe {
		t.Error("no fifo")
	}
	if st := plant("segments/cc/l.kv", "symlink", "", 0); st.Mode().Type() != os.ModeSymlink {
		t.Error("no link")
	}
	for _, bad := range []struct {
		name, kind, from string
		bytes            int64
	}{
		{"../x", "", "", 1}, {"/x", "", "", 1}, {"tmp/x.1.1", "", "", 1}, {"y", "melody", "", 1}, {"z", "", "nth 9", 1}, {"z", "", "", -1},
	} {
		if err := corrupt.Plant(dir, bad.name, bad.kind, bad.from, bad.bytes); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	if err := corrupt.Plant(dir, "long.kv", "", "oldest", 1<<20); err == nil {
		t.Error("more is planted than the file has")
	}
}
