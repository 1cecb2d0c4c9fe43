package run

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A copy is as the directory was only if each of its segments is there, with the
// same bytes, and was not written to, not even the same bytes.
func TestUnchanged(t *testing.T) {
	var p *rep
	segment := func(root string) string { return filepath.Join(root, "segments", "ab", "x.kv") }
	for _, c := range []struct {
		name   string
		change func(path string) error
		want   string // part of the error; "" for none
	}{
		{"untouched", func(string) error { return nil }, ""},
		{"other bytes", func(path string) error {
			st, err := os.Stat(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path, []byte("rows"), 0o600); err != nil {
				return err
			}
			return os.Chtimes(path, st.ModTime(), st.ModTime())
		}, "other contents"},
		{"the same bytes again", func(path string) error {
			later := time.Now().Add(time.Hour)
			return os.Chtimes(path, later, later)
		}, "was written to"},
		{"gone", os.Remove, "no such file"},
		{"one more", func(path string) error { return os.WriteFile(filepath.Join(filepath.Dir(path), "y.kv"), nil, 0o600) }, ""},
	} {
		dir := t.TempDir()
		p = &rep{kv: filepath.Join(dir, "kv"), keeps: map[string]string{"a": filepath.Join(dir, "a")}}
		if err := os.MkdirAll(filepath.Dir(segment(p.kv)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(segment(p.kv), []byte("data"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := copyDir(p.kv, p.keeps["a"]); err != nil {
			t.Fatal(err)
		}
		if err := c.change(segment(p.kv)); err != nil {
			t.Fatal(err)
		}
		err := p.checkUnchanged("a")
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	p.keeps["a"] = filepath.Join(t.TempDir(), "none")
	if err := p.checkUnchanged("a"); err == nil {
		t.Error("a copy without segments proves something")
	}
}
