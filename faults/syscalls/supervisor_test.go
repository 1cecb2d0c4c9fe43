//go:build linux

package syscalls

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestActions(t *testing.T) {
	needs(t, Notify, Files)
	const (
		eio    = "input/output error"
		enospc = "no space left on device"
	)
	for _, c := range []struct {
		rule   string
		script []string
		said   []string
		files  string // "a", "b" and "c" after it, missing ones as -
	}{
		{"write:path=a:nth=2:eio", []string{"write a one", "write a two", "write b two", "write a three"}, []string{"3", eio, "3", "5"}, "onethree two -"},
		{"write:nth=2:err(EDQUOT)", []string{"write a one", "pwrite a 0 two"}, []string{"3", "disk quota exceeded"}, "one - -"},
		{"write:every=2:times=1:enospc", []string{"write a 1", "writev a 2 3", "write a 4", "write a 5"}, []string{"1", enospc, "1", "1"}, "145 - -"},
		{"fsync:eio", []string{"fsync a", "fdatasync a", "syncdir .", "write a x"}, []string{eio, eio, "sync .: " + eio, "1"}, "x - -"},
		{"write:short(2)", []string{"write a 12345", "writev a 67 89", "pwrite a 3 XYZ"}, []string{"2", "2", "2"}, "126XY - -"},
		{"write:short(30%)", []string{"save a 12345678"}, []string{"0"}, "12345678 - -"}, // Go writes the rest
		{"write:part=50%:enospc", []string{"write a 123456"}, []string{enospc}, "123 - -"},
		{"write:nth=2:lie", []string{"write a 12", "write a 34", "write a 56"}, []string{"2", "2", "2"}, "12\x00\x0056 - -"},
		{"write:nth=2:lie", []string{"write a 12", "writev a 34 5", "write a 6"}, []string{"2", "3", "1"}, "12\x00\x00\x006 - -"},
		{"write:nth=2:part=1:lie", []string{"write a 12", "write a 345", "write a 6"}, []string{"2", "3", "1"}, "123\x00\x006 - -"},
		{"write:nth=2:lie", []string{"write a 12", "pwrite a 4 34", "write a 56"}, []string{"2", "2", "2"}, "1256 - -"},
		{"write:nth=2:lie", []string{"write a 12", "append a 3", "append a 4"}, []string{"2", "1", "1"}, "124 - -"},
		{"write:path=b:nth=1:lie", []string{"write a 123", "seek a 0", "copy a b 2", "copy a b 9"}, []string{"3", "0", "2", "1"}, "123 \x00\x003 -"},
		{"write:path=b:lie", []string{"write a 123", "copyat a b 1 1 9"}, []string{"3", "2 in=3 out=3"}, "123  -"},
		{"fsync:lie", []string{"write a 1", "fsync a"}, []string{"1", "0"}, "1 - -"},
		{"rename:lie", []string{"write a 1", "rename a b"}, []string{"1", "0"}, "1 - -"},
		{"write:flip(3)", []string{"write a ab", "write a abc", "append a a"}, []string{"2", "3", "1"}, "abacca - -"},
		{"write:zero(1,2)", []string{"pwrite a 0 abcd", "pwrite a 2 x"}, []string{"4", "1"}, "a\x00\x00d - -"},
		{"read:flip(1)", []string{"write a abc", "read a"}, []string{"3", "3 \"acc\""}, "abc - -"},
		{"read:short(1)", []string{"write a abc", "read a"}, []string{"3", "1 \"a\""}, "abc - -"},
		{"rename:path=b:eacces", []string{"write a 1", "rename a b", "renameat2 a c"}, []string{"1", "permission denied", "0"}, "- - 1"},
		{"rename:part=100%:eio", []string{"write a 1", "rename a b"}, []string{"1", eio}, "- 1 -"},
		{"link:eio:nth=2", []string{"write a 1", "link a b", "link a c"}, []string{"1", "0", eio}, "1 1 -"},
		{"link:part=100%:eio", []string{"write a 1", "link a b", "symlink a c"}, []string{"1", eio, eio}, "1 1 1"},
		{"unlink:eio", []string{"write a 1", "unlink a"}, []string{"1", eio}, "1 - -"},
		{"unlink:part=100%:eio", []string{"write a 1", "unlink a"}, []string{"1", eio}, "- - -"},
		{"mkdir:eio", []string{"mkdir d", "write a 1"}, []string{eio, "1"}, "1 - -"},
		{"any:path=d:part=100%:eio", []string{"mkdir d", "ls d", "rmdir d", "open d"}, []string{eio, "open d: " + eio, eio, eio}, "- - -"},
		{"rmdir:eio", []string{"mkdir d", "rmdir d"}, []string{"0", eio}, "- - -"},
		{"truncate:eio", []string{"write a 123", "truncate a 1", "ftruncate a 1"}, []string{"3", eio, eio}, "123 - -"},
		{"truncate:part=100%:nth=2:eio", []string{"write a 123", "truncate a 2", "ftruncate a 1"}, []string{"3", "0", eio}, "1 - -"},
		{"allocate:enospc", []string{"fallocate a 9"}, []string{enospc}, " - -"},
		{"create:path=b:err(EMFILE)", []string{"create a", "create b", "openat2 c", "openat2 b"}, []string{"0", "too many open files", "0", "too many open files"}, " - "},
		{"create:path=b:part=100%:eio", []string{"create b", "openat2 b"}, []string{eio, eio}, "-  -"},
		{"open:eio:path=a", []string{"write a 1", "open a", "open b"}, []string{"1", eio, "no such file or directory"}, "1 - -"},
		{"readdir:eio:path=d", []string{"mkdir d", "ls d"}, []string{"0", "readdirent d: " + eio}, "- - -"},
		{"write:path=b:eio:nth=2", []string{"write a 123", "seek a 0", "copy a b 2", "sendfile a b 9", "sendfile a b 9"}, []string{"3", "0", "2", eio, "1"}, "123 123 -"},
		{"write:path=b:short(2)", []string{"write a 12345", "seek a 0", "copy a b 9", "sendfile a b 9", "copyat a b 1 3 9"}, []string{"5", "0", "2", "2", "2 in=3 out=5"}, "12345 12323 -"},
		// As cp does it: all that there is.
		{"write:path=b:short(2)", []string{"write a 12345", "seek a 0", "copy a b 9223372035781033984"}, []string{"5", "0", "2"}, "12345 12 -"},
		{"write:path=b:times=1:flip(1)", []string{"write a 123", "copyat a b 0 0 9223372035781033984"}, []string{"3", "3 in=3 out=3"}, "123 133 -"},
		{"write:path=b:lie", []string{"write a 123", "seek a 0", "copy a b 9223372035781033984", "copy a b 9"}, []string{"3", "0", "3", "0"}, "123  -"},
		{"write:path=b:times=1:part=2:lie", []string{"write a 12345", "seek a 0", "copy a b 9223372035781033984", "copy a b 9"}, []string{"5", "0", "5", "0"}, "12345 12 -"},
		{"write:delay(1ms)", []string{"write a 1"}, []string{"1"}, "1 - -"},
		{"write:nth=6:eio", []string{"threads a 9", "fork write%a%y", "fork write%a%z"}, []string{"1 failed", "write a y: 1", "write a z: 1"}, "zxxxxxxx - -"},
		{"write:nth=3:eio", []string{"write a 1", "fork write%a%2", "fork write%a%3"}, []string{"1", "write a 2: 1", "write a 3: " + eio}, "2 - -"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			out := run(t, dir, nil, []string{c.rule}, c.script...)
			if diff := cmp.Diff(c.said, out.said); diff != "" {
				t.Errorf("what the target met (-want +got):\n%s\nlog:\n%s", diff, strings.Join(out.log, "\n"))
			}
			if got := state(t, dir); got != c.files {
				t.Errorf("files %q, want %q\n%s", got, c.files, strings.Join(out.log, "\n"))
			}
			if st := out.sup.Status(); st[0].Fired == 0 {
				t.Errorf("the rule has not fired: %+v", st)
			}
		})
	}
}

// state is the contents of the files a, b and c.
func state(t *testing.T, dir string) string {
	t.Helper()
	var list []string
	for _, name := range []string{"a", "b", "c"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			text = []byte("-")
		}
		list = append(list, string(text))
	}
	return strings.Join(list, " ")
}

func TestKill(t *testing.T) {
	needs(t, Notify, Files)
	for _, c := range []struct {
		rule   string
		script []string
		files  string
	}{
		{"write:nth=2:kill9", []string{"write a 1", "write a 2", "write a 3"}, "1 - -"},
		{"write:nth=2:part=100%:kill9", []string{"write a 1", "write a 2", "write a 3"}, "12 - -"},
		{"write:nth=2:part=3:kill9", []string{"write a 1", "write a 23456"}, "1234 - -"},
		{"write:path=b:part=50%:kill9", []string{"write a 123456", "seek a 0", "copy a b 9223372035781033984"}, "123456 123 -"},
		{"rename:kill9", []string{"write a 1", "rename a b", "rename b c"}, "1 - -"},
		{"rename:part=100%:kill9", []string{"write a 1", "rename a b", "rename b c"}, "- 1 -"},
		{"fsync:part=100%:kill9", []string{"write a 1", "fsync a", "write a 2"}, "1 - -"},
		{"unlink:part=100%:kill9", []string{"write a 1", "write b 1", "unlink a", "unlink b"}, "- 1 -"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			out := run(t, dir, nil, []string{c.rule}, c.script...)
			ws := out.state.Sys().(syscall.WaitStatus)
			if !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
				t.Errorf("the target ended with %v, it said %q", out.state, out.said)
			}
			if got := state(t, dir); got != c.files {
				t.Errorf("files %q, want %q", got, c.files)
			}
			want := []string{`fault armed rule="` + c.rule + `"`, `fault fired rule="` + c.rule + `" n=1`}
			if !slices.Equal(out.log, want) {
				t.Errorf("log %q, want %q", out.log, want)
			}
		})
	}
}
