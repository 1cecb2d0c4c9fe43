package journal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

func read(t testing.TB, name string) (list []Record, bad int) {
	t.Helper()
	good, bad, err := Read(vfs.OS, name, func(r Record) { list = append(list, r) })
	if err != nil || good != len(list) {
		t.Fatalf("%d good, %d visited, %v", good, len(list), err)
	}
	return list, bad
}

func randomRecord(t *rapid.T) Record {
	return Record{Kind: Kind(rapid.IntRange(1, 4).Draw(t, "kind")), ID: segment.ID(rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(t, "id")),
		Count: rapid.Uint32().Draw(t, "count"), TimeNS: rapid.Int64().Draw(t, "time"), Key: rapid.Uint64().Draw(t, "key")}
}

// TestJournal appends, rewrites, reopens and tears at random; what was written
// whole is read back.
func TestJournal(t *testing.T) {
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		name := filepath.Join(dir, string(rune('a'+run%26)), "journal")
		os.RemoveAll(filepath.Dir(name))
		os.MkdirAll(filepath.Dir(name), 0o700)
		var want []Record
		w := NewWriter(vfs.OS, name, 0, 0)
		reopen := func() (bad int) {
			w.Close()
			var got []Record
			good, bad, err := Read(vfs.OS, name, func(r Record) { got = append(got, r) })
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("read %v, %v\nwant %v", got, err, want)
			}
			w = NewWriter(vfs.OS, name, good, bad)
			return bad
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				r := randomRecord(t)
				if w.NeedsRewrite() {
					if err := w.Append(false, r); !errors.Is(err, ErrBroken) {
						t.Fatalf("append to a broken journal: %v", err)
					}
					if err := w.Rewrite(true, want); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.Append(rapid.Bool().Draw(t, "sync"), r); err != nil {
					t.Fatal(err)
				}
				want = append(want, r)
			},
			"rewrite": func(t *rapid.T) {
				want = want[len(want)/2:]
				if err := w.Rewrite(false, want); err != nil {
					t.Fatal(err)
				}
			},
			"reopen": func(t *rapid.T) { reopen() },
			"tear": func(t *rapid.T) {
				if len(want) == 0 || w.NeedsRewrite() {
					return
				}
				w.Close()
				cut := rapid.IntRange(1, RecordBytes-1).Draw(t, "cut")
				if err := os.Truncate(name, w.Bytes()-int64(cut)); err != nil {
					t.Fatal(err)
				}
				want = want[:len(want)-1]
				if reopen() != 1 || !w.NeedsRewrite() {
					t.Fatal("a torn record was not noticed")
				}
			},
		})
	})
}

// TestDamage flips every bit of a small journal: only the record that has the
// bit is lost, or everything if it is in the header.
func TestDamage(t *testing.T) {
	name := filepath.Join(t.TempDir(), "journal")
	var want []Record
	for i := range 3 {
		want = append(want, Record{Kind: Strike, ID: segment.ID{byte(i)}, Count: 1, TimeNS: 5, Key: 9})
	}
	if err := NewWriter(vfs.OS, name, 0, 0).Rewrite(true, want); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(file) {
		b := bytes.Clone(file)
		b[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		rest := slices.Clone(want)
		if i := bit/8/RecordBytes - 1; i < 0 {
			rest = nil
		} else {
			rest = slices.Delete(rest, i, i+1)
		}
		if got, bad := read(t, name); bad != 1 || !slices.Equal(got, rest) {
			t.Fatalf("bit %d: %d bad, %v", bit, bad, got)
		}
	}
}

func TestMissingAndEmpty(t *testing.T) {
	name := filepath.Join(t.TempDir(), "journal")
	for _, make := range []func(){func() {}, func() { os.WriteFile(name, nil, 0o600) }} {
		make()
		if got, bad := read(t, name); len(got) != 0 || bad != 0 {
			t.Errorf("%v, %d bad", got, bad)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(header())
	f.Add(Record{Kind: Touched}.append(header()))
	f.Fuzz(func(t *testing.T, b []byte) {
		name := filepath.Join(t.TempDir(), "journal")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		list, bad := read(t, name)
		if len(list)+bad > len(b)/RecordBytes+1 {
			t.Fatalf("%d records and %d bad ones from %d bytes", len(list), bad, len(b))
		}
	})
}

// TestFailedAppend: after a write or sync that failed, nothing is appended behind
// what may be half a record until the journal was rewritten.
func TestFailedAppend(t *testing.T) {
	want := []Record{{Kind: Strike, ID: segment.ID{1}, Count: 1}, {Kind: Strike, ID: segment.ID{2}, Count: 1}}
	for _, rule := range []string{"write:path=/journal:part=7:eio", "write:path=/journal:enospc", "sync:path=/journal:eio"} {
		mem := errfs.NewMem()
		f := errfs.Wrap(mem)
		w := NewWriter(f, "/journal", 0, 0)
		if err := w.Rewrite(true, want[:1]); err != nil {
			t.Fatal(err)
		}
		f.SetRules(errfs.MustParse(rule))
		if err := w.Append(true, want[1]); err == nil || !w.NeedsRewrite() {
			t.Errorf("%s: append %v, needs a rewrite %v", rule, err, w.NeedsRewrite())
		}
		f.SetRules()
		if err := w.Append(true, want[1]); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: append to a broken journal: %v", rule, err)
		}
		if err := errors.Join(w.Rewrite(true, want), w.Close()); err != nil {
			t.Fatal(err)
		}
		var got []Record
		if _, bad, err := Read(mem, "/journal", func(r Record) { got = append(got, r) }); bad != 0 || err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %d bad, %v", rule, got, bad, err)
		}
	}
}
