package corrupt_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ds4/faults"
	"ds4/faults/corrupt"
	"ds4/runtime/kvstore/segment"
)

// segmentFile writes a real segment file, so that the table reader here cannot
// drift from the format.
func segmentFile(t testing.TB, path string) (segment.Layout, []byte) {
	t.Helper()
	l := segment.Layout{Vocab: 20, Window: 4, Layers: []segment.Layer{
		{RowBytes: 8},
		{Ratio: 4, RowBytes: 8, IndexRowBytes: 4, ClosedBytes: 16, OpenBytes: 3},
	}}
	s := &segment.Segment{From: 0, To: 9, Text: []byte("some text of it"), Tokens: make([]int32, 9)}
	for _, y := range l.Layers {
		s.Raw = append(s.Raw, make([]byte, 4*y.RowBytes))
		if y.Ratio == 0 {
			s.Comp, s.Index, s.Frontier = append(s.Comp, nil), append(s.Index, nil), append(s.Frontier, nil)
			continue
		}
		s.Comp = append(s.Comp, make([]byte, 2*y.RowBytes))
		s.Index = append(s.Index, make([]byte, 2*y.IndexRowBytes))
		s.Frontier = append(s.Frontier, make([]byte, y.FrontierBytes(s.To)))
	}
	e, err := segment.Encode(l, s)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := e.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	write(t, path, b.Bytes())
	return l, b.Bytes()
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSectionsAgreeWithTheFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.kv")
	l, file := segmentFile(t, path)
	got, err := corrupt.Sections(path)
	if err != nil {
		t.Fatal(err)
	}
	r := segment.Reader{R: bytes.NewReader(file), Size: int64(len(file))}
	h, err := r.Header()
	if err != nil {
		t.Fatal(err)
	}
	info, err := r.Info(h, &l)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{
		"header@0": segment.HeaderBytes, fmt.Sprintf("table@%d", segment.HeaderBytes): int64(segment.EntryBytes * len(info.Table)),
		fmt.Sprintf("footer@%d", len(file)-segment.FooterBytes): segment.FooterBytes,
	}
	for _, s := range info.Table {
		if s.Bytes > 0 {
			want[fmt.Sprintf("%s@%d", s.Kind, s.Offset)] = s.Bytes
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d sections, want %d: %+v", len(got), len(want), got)
	}
	for _, s := range got {
		if want[fmt.Sprintf("%s@%d", s.Name, s.Offset)] != s.Length {
			t.Errorf("section %+v is not in the format's own table", s)
		}
	}
}

// Every offset expression must hit the section that it names, and the damage
// must be what was asked for: one bit, in one place.
func TestFlipHitsNamedSection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.kv")
	_, before := segmentFile(t, path)
	secs, err := corrupt.Sections(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range secs {
		for _, expr := range []string{s.Name, s.Name + "+0", s.Name + "+3"} {
			write(t, path, before)
			r, err := corrupt.Apply(path, corrupt.Damage{Op: faults.OpFlip, At: expr, Bit: 5})
			if err != nil {
				t.Fatalf("%s: %v", expr, err)
			}
			after, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			changed := 0
			for i := range before {
				if before[i] != after[i] {
					changed++
					if before[i]^after[i] != 1<<5 || int64(i) != r.Offset {
						t.Errorf("%s: byte %d changed from %02x to %02x", expr, i, before[i], after[i])
					}
				}
			}
			if changed != 1 {
				t.Errorf("%s: %d bytes changed", expr, changed)
			}
			if at, _ := corrupt.Sections(path); s.Name != "header" && s.Name != "table" && at == nil {
				t.Errorf("%s: the table cannot be read any more", expr)
			}
		}
	}
}

func TestApplyKinds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	content := []byte("0123456789abcdef")
	for _, c := range []struct {
		name string
		d    corrupt.Damage
		want string
	}{
		{"truncate to a quarter", corrupt.Damage{Op: faults.OpTruncate, At: "25%"}, "0123"},
		{"truncate to nothing", corrupt.Damage{Op: faults.OpTruncate, At: "0"}, ""},
		{"zero", corrupt.Damage{Op: faults.OpZero, At: "2", Bytes: 3}, "01\x00\x00\x0056789abcdef"},
		{"flip", corrupt.Damage{Op: faults.OpFlip, At: "15", Bit: 0}, "0123456789abcdeg"},
		{"replace", corrupt.Damage{Op: faults.OpReplace, Content: []byte("x")}, "x"},
		{"substitute", corrupt.Damage{Op: faults.OpSubstitute, Match: "[3-5]+", Content: []byte("!")}, "012!6789abcdef"},
	} {
		write(t, path, content)
		if _, err := corrupt.Apply(path, c.d); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got, _ := os.ReadFile(path); string(got) != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	write(t, path, content)
	if r, err := corrupt.Apply(path, corrupt.Damage{Op: faults.OpDirectory}); err != nil || r.SizeAfter != -1 {
		t.Errorf("directory: %v %v", r, err)
	}
	if st, err := os.Stat(path); err != nil || !st.IsDir() {
		t.Errorf("no directory in place of the file: %v", err)
	}
	if _, err := corrupt.Apply(path, corrupt.Damage{Op: faults.OpFlip}); err == nil {
		t.Error("a directory was flipped")
	}
	write(t, path+"2", content)
	if _, err := corrupt.Apply(path+"2", corrupt.Damage{Op: faults.OpDelete}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path + "2"); !os.IsNotExist(err) {
		t.Errorf("not deleted: %v", err)
	}
}

// Damage that would change nothing is an error: a scenario must not pass because
// its fault missed.
func TestApplyRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, []byte("0123456789abcdef"))
	for _, c := range []struct {
		d    corrupt.Damage
		want error
	}{
		{corrupt.Damage{Op: faults.OpTruncate, At: "16"}, corrupt.ErrOffset},
		{corrupt.Damage{Op: faults.OpTruncate, At: "100%"}, corrupt.ErrOffset},
		{corrupt.Damage{Op: faults.OpFlip, At: "16"}, corrupt.ErrOffset},
		{corrupt.Damage{Op: faults.OpFlip, At: "101%"}, corrupt.ErrOffset},
		{corrupt.Damage{Op: faults.OpFlip, At: "-1"}, corrupt.ErrOffset},
		{corrupt.Damage{Op: faults.OpFlip, At: "rows"}, corrupt.ErrFormat},
		{corrupt.Damage{Op: faults.OpFlip, At: "melody"}, corrupt.ErrOffset},
		{corrupt.Damage{Op: faults.OpFlip, At: "header+-3"}, corrupt.ErrOffset},
		{corrupt.Damage{Op: faults.OpZero, At: "10", Bytes: 7}, corrupt.ErrOffset},
		{corrupt.Damage{Op: faults.OpZero, At: "1"}, corrupt.ErrOffset},
		{corrupt.Damage{Op: faults.OpFlip, Bit: 8}, nil},
		{corrupt.Damage{Op: faults.OpKill}, nil},
	} {
		if _, err := corrupt.Apply(path, c.d); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%+v: error %v, want %v", c.d, err, c.want)
		}
	}
	if b, _ := os.ReadFile(path); string(b) != "0123456789abcdef" {
		t.Errorf("a refused operation changed the file: %q", b)
	}
}

func TestPick(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	for i, f := range []struct {
		name string
		size int
	}{{"aa/1.kv", 10}, {"bb/2.kv", 30}, {"cc/3.kv", 30}, {"dd/4.kv", 5}} {
		path := filepath.Join(dir, "segments", f.name)
		write(t, path, make([]byte, f.size))
		at := now.Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "journal"), []byte("j"))
	for sel, want := range map[string]string{
		"": "4.kv", "newest": "4.kv", "oldest": "1.kv", "largest": "3.kv", "smallest": "4.kv", "nth 2": "2.kv", "glob journal": "journal",
		"glob segments/b*/*": "2.kv",
	} {
		got, err := corrupt.Pick(dir, sel)
		if err != nil || len(got) != 1 || filepath.Base(got[0].Path) != want {
			t.Errorf("%q picks %v (%v), want %s", sel, got, err, want)
		}
	}
	if got, err := corrupt.Pick(dir, "all"); err != nil || len(got) != 4 {
		t.Errorf("all picks %v (%v)", got, err)
	}
	for _, sel := range []string{"nth 5", "glob nothing*"} {
		if _, err := corrupt.Pick(dir, sel); !errors.Is(err, corrupt.ErrNoFile) {
			t.Errorf("%q: %v, want ErrNoFile", sel, err)
		}
	}
	for _, sel := range []string{"nth 0", "nth x", "youngest", "glob /etc/*", "glob ../*", "glob ["} {
		if err := corrupt.CheckPick(sel); err == nil {
			t.Errorf("%q is accepted", sel)
		}
	}
	if n, err := corrupt.DirBytes(dir); err != nil || n != 76 {
		t.Errorf("%d bytes (%v), want 76", n, err)
	}
}

// No table, however damaged, may lead outside of the file or to a panic.
func TestSectionsOfDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.kv")
	_, file := segmentFile(t, good)
	path := filepath.Join(dir, "bad.kv")
	rapid.Check(t, func(rt *rapid.T) {
		b := bytes.Clone(file)
		for range rapid.IntRange(1, 8).Draw(rt, "changes") {
			b[rapid.IntRange(0, 600).Draw(rt, "at")%len(b)] = rapid.Byte().Draw(rt, "byte")
		}
		b = b[:rapid.IntRange(0, len(b)).Draw(rt, "length")]
		write(t, path, b)
		secs, err := corrupt.Sections(path)
		if err != nil {
			return
		}
		for _, s := range secs {
			if s.Offset < 0 || s.Length < 1 || s.Offset+s.Length > int64(len(b)) {
				rt.Fatalf("section %+v of a file of %d bytes", s, len(b))
			}
		}
	})
}

func FuzzOffset(f *testing.F) {
	for _, s := range []string{"", "0", "50%", "rows", "footer+31", "99999999999999999999", "NaN%", "+1", "header+", "1e3%"} {
		f.Add(s)
	}
	path := filepath.Join(f.TempDir(), "s.kv")
	segmentFile(f, path)
	f.Fuzz(func(t *testing.T, expr string) {
		checked := corrupt.CheckOffset(expr)
		off, err := corrupt.Offset(path, expr)
		if checked != nil && err == nil {
			t.Fatalf("%q: refused by CheckOffset, yet it is %d", expr, off)
		}
		if err == nil && off < 0 {
			t.Fatalf("%q is %d", expr, off)
		}
	})
}
