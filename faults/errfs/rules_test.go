package errfs

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"ds4/runtime/vfs"
)

// TestActions lets each action of the language do its work once.
func TestActions(t *testing.T) {
	const data = "0123456789"
	for rule, want := range map[string]struct{ err, written string }{
		"write:eio":                  {"input/output error", ""},
		"write:enospc":               {"no space left on device", ""},
		"write:part=3:enospc":        {"no space left on device", "012"},
		"write:part=50%:eacces":      {"permission denied", "01234"},
		"write:err(Internal (1:x))":  {"write /f: Internal (1:x)", ""},
		"write:short(4)":             {"write /f: unexpected EOF", "0123"},
		"write:short(20%)":           {"write /f: unexpected EOF", "01"},
		"write:flip(2)":              {"ok", "0133456789"},
		"write:flip(10)":             {"ok", data},
		"write:zero(8,9)":            {"ok", "01234567\x00\x00"},
		"write:lie":                  {"ok", ""},
		"write:delay(1ms)":           {"ok", data},
		"sync:nth=1:eio":             {"input/output error", data},
		"sync:lie":                   {"ok", data},
		"close:eio":                  {"input/output error", data},
		"any:nth=3:eio":              {"input/output error", data},
		"write:path=*.kv:eio":        {"ok", data},
		"write:path=/f:eio":          {"input/output error", ""},
		"write:nth=2:eio":            {"ok", data},
		"write:part=2:kill9":         {"write /f: errfs: the process is dead", "01"},
		"write:prob=1,3:times=1:eio": {"input/output error", ""},
	} {
		m := NewMem()
		f := Wrap(m, MustParse(rule))
		h, err := f.Create("/f")
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Write([]byte(data))
		if err == nil {
			err = errors.Join(h.Sync(), h.Close())
		}
		if got := errnoOf(err); got != want.err || contents(m, "/f") != want.written {
			t.Errorf("%s: %s, %q; want %s, %q", rule, got, contents(m, "/f"), want.err, want.written)
		}
	}
}

func TestReadActions(t *testing.T) {
	m := NewMem()
	create(t, m, "/f", "0123456789", true)
	for rule, want := range map[string]string{
		"read:flip(3)":        "0122456789 <nil>",
		"read:zero(0,2)":      "\x00\x0023456789 <nil>",
		"read:lie":            strings.Repeat("\x00", 10) + " <nil>",
		"read:short(3)":       "012 read /f: unexpected EOF",
		"read:part=50%:eio":   "01234 read /f: input/output error",
		"read:nth=2:eio":      "0123456789 <nil>",
		"open:nth=2:eacces":   "0123456789 <nil>",
		"readdir:every:eio":   "0123456789 <nil>",
		"lstat:nth=1:eacces":  "0123456789 <nil>",
		"mkdir:nth=1:kill9":   "0123456789 <nil>",
		"lock:hang":           "0123456789 <nil>",
		"syncdir:every:lie":   "0123456789 <nil>",
		"remove:times=3:eio":  "0123456789 <nil>",
		"rename:every=2:eio":  "0123456789 <nil>",
		"append:err(no way!)": "0123456789 <nil>",
	} {
		h, err := Wrap(m, MustParse(rule)).Open("/f")
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 10)
		n, err := h.ReadAt(b, 0)
		if got := string(b[:n]) + " " + sprint(err); got != want {
			t.Errorf("%s: %q, want %q", rule, got, want)
		}
	}
	if contents(m, "/f") != "0123456789" {
		t.Error("reading changed the file")
	}
}

func sprint(err error) string {
	if err == nil {
		return "<nil>"
	}
	return err.Error()
}

// TestSticky: from the n-th on, every k-th, at most so many.
func TestSticky(t *testing.T) {
	for rule, want := range map[string]string{
		"lstat:nth=3:every:eio":            "..xxxxxx",
		"lstat:nth=3:every=2:eio":          "..x.x.x.",
		"lstat:every=3:eio":                "..x..x..",
		"lstat:times=2:eio":                "xx......",
		"lstat:nth=2:eio":                  ".x......",
		"lstat:nth=2:every:times=3:eio":    ".xxx....",
		"lstat:path=/other:every:eio":      "........",
		"any:nth=4:kill9":                  "...xxxxx",
		"lstat:prob=0.5,1:eio":             ".x.xxx.x",
		"lstat:nth=1:lie":                  "........",
		"lstat:nth=8:every:err(too  late)": ".......x",
	} {
		m := NewMem()
		create(t, m, "/f", "", true)
		f := Wrap(m, MustParse(rule))
		got := ""
		for range 8 {
			if _, err := f.Lstat("/f"); err != nil {
				got += "x"
			} else {
				got += "."
			}
		}
		if rule == "lstat:prob=0.5,1:eio" { // any pattern will do, and the same one each time
			if !strings.Contains(got, "x") || !strings.Contains(got, ".") {
				t.Errorf("%s: %s", rule, got)
			}
			continue
		}
		if got != want {
			t.Errorf("%s: %s, want %s", rule, got, want)
		}
		if st := f.Status()[0]; st.Fired != strings.Count(want, "x") && !strings.Contains(rule, "kill9") && !strings.Contains(rule, "lie") {
			t.Errorf("%s: %+v", rule, st)
		}
	}
}

// TestStatus: a rule reports for how many operations it was armed, and how often
// it fired; it prints as it was parsed.
func TestStatus(t *testing.T) {
	const text = "write:path=*.kv:nth=2:enospc"
	fired := 0
	f := Wrap(NewMem(), MustParse(text).Then(func() { fired++ }), MustParse("sync:every:eio"))
	for range 3 {
		h, err := f.Append("/a.kv")
		if err != nil {
			t.Fatal(err)
		}
		h.Write([]byte("x"))
		h.Close()
	}
	st := f.Status()
	if len(st) != 2 || st[0].Armed != 3 || st[0].Fired != 1 || st[0].Rule.String() != text || st[1].Armed != 0 || fired != 1 || f.Fired() != 1 {
		t.Errorf("%+v, called %d times", st, fired)
	}
	if _, err := Parse("wryte:eio"); err == nil || !strings.Contains(err.Error(), "known: any open create append read write sync") {
		t.Errorf("unknown operation: %v", err)
	}
	r := MustParse(text)
	r.Err = syscall.EMFILE
	f.SetRules(r)
	h, _ := f.Append("/a.kv")
	h.Write(nil)
	if _, err := h.Write(nil); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("an error of one's own: %v", err)
	}
}

// TestHang: until the rules change.
func TestHang(t *testing.T) {
	f := Wrap(NewMem(), MustParse("mkdir:hang"), MustParse("syncdir:hang(1h)"))
	done := make(chan error, 2)
	go func() { done <- f.MkdirAll("/d") }()
	go func() { done <- f.SyncDir("/") }()
	for f.Fired() < 2 {
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-done:
		t.Fatalf("came back: %v", err)
	default:
	}
	f.SetRules()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestOffsetsOfAppend: offsets of a rule count in the file, not in the write.
func TestOffsetsOfAppend(t *testing.T) {
	m := NewMem()
	create(t, m, "/f", "01234", true)
	f := Wrap(m, MustParse("write:flip(6)"))
	h, err := f.Append("/f")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"5", "67"} {
		if n, err := io.WriteString(h, s); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := contents(m, "/f"); got != "01234577" {
		t.Errorf("%q", got)
	}
	var _ vfs.File = h
}
