package kvstore_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// stored returns a file system with one closed store of the talk on it.
func stored(t testing.TB, a talk) (*errfs.Mem, []string) {
	t.Helper()
	m := errfs.NewMem()
	w := newWorld(t, m)
	ids := w.save(a)
	w.close()
	return m, ids
}

// TestEveryByte flips one bit of every byte of a segment, before the start of
// the store (so that recovery sees it) and after it (so that the restore does).
// No answer is ever wrong, what lies before the segment still serves, and the
// bad file ends in quarantine unless nothing looks at the byte.
func TestEveryByte(t *testing.T) {
	a := newTalk(1, 96)
	m, ids := stored(t, a)
	length := size(t, m, file(ids[1]))
	rng := rand.New(rand.NewPCG(1, 1))
	harmless := 0
	for _, late := range []bool{false, true} {
		for off := int64(0); off < length; off += stride {
			bit := byte(1) << rng.IntN(8)
			t.Run("", func(t *testing.T) { // so that each store is forgotten when it is closed
				if damaged(t, m.KillClone(), a, file(ids[1]), late, func(b []byte) []byte { b[off] ^= bit; return b }) {
					harmless++
				}
			})
			if t.Failed() {
				t.Fatalf("byte %d, bit %#x, late %v", off, bit, late)
			}
		}
	}
	// Sections that a longer chain does not need (raw window, frontier)
	// and filling are not looked at.
	if tried := int(2 * length / stride); harmless == 0 || harmless > tried*9/10 {
		t.Errorf("%d of %d flips were harmless", harmless, tried)
	}
}

// damaged changes the second of three files and restores. It reports whether
// nobody noticed.
func damaged(t *testing.T, fsys vfs.FS, a talk, name string, late bool, change func([]byte) []byte) (harmless bool) {
	w := &world{t: t, fs: fsys}
	if !late {
		w.overwrite(name, change)
	}
	w = newWorld(t, fsys)
	if late {
		w.overwrite(name, change)
	}
	n := w.restore(a)
	switch {
	case n == 96 && len(w.quarantined()) == 0:
		return true
	case n == 32 && len(w.quarantined())+w.logged("stale=1") == 1:
	default:
		t.Fatalf("restored %d, quarantined %v\n%s", n, w.quarantined(), w.dumpLog())
	}
	return false
}

// TestEveryByteOfTheLast is the same for the last segment of a chain, of which
// every section is needed. With checksums off it must go wrong: so the test can
// fail.
func TestEveryByteOfTheLast(t *testing.T) {
	a := newTalk(1, 64)
	m, ids := stored(t, a)
	length := size(t, m, file(ids[1]))
	wrong := 0
	for _, off := range []bool{false, true} {
		open := func() *world {
			return newWorld(t, m.KillClone(), func(o *kvstore.Options) {
				o.Unsafe.NoChecksum = off
				o.QuarantineBytes = 0
			})
		}
		w := open()
		whole, err := vfs.ReadFile(w.fs, file(ids[1]), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for at := int64(0); at < length; at += stride {
			bad := append([]byte(nil), whole...)
			bad[at] ^= 0x10
			put(t, w.fs, file(ids[1]), bad)
			var target *session
			_, err = w.s.Restore(context.Background(), w.s.Lookup(a.text()), func(to int) (kvstore.Target, error) {
				target = newSession(to)
				return target, nil
			})
			if err == nil && target.wrong(a) != nil {
				if !off {
					t.Fatalf("byte %d: %v", at, target.wrong(a))
				}
				wrong++
			}
			if !w.exists(file(ids[1])) {
				w.save(a)
			}
		}
		w.close()
	}
	if wrong < 100/stride {
		t.Errorf("without checksums only %d flips are wrong: this test proves little", wrong)
	}
}

// TestEveryLengthOfAFile cuts a published file.
func TestEveryLengthOfAFile(t *testing.T) {
	a := newTalk(1, 96)
	m, ids := stored(t, a)
	length := size(t, m, file(ids[1]))
	for _, late := range []bool{false, true} {
		for n := int64(0); n < length; n += 1 + length/97 {
			cut := func(b []byte) []byte { return b[:n] }
			w := &world{t: t, fs: m.KillClone()}
			if !late {
				w.overwrite(file(ids[1]), cut)
			}
			w = newWorld(t, w.fs)
			if late {
				w.overwrite(file(ids[1]), cut)
			}
			if got := w.restore(a); got != 32 || len(w.quarantined()) != 1 || !strings.Contains(w.quarantined()[0], ".torn.kv") {
				t.Fatalf("%d bytes, late %v: restored %d, quarantined %v", n, late, got, w.quarantined())
			}
			w.close()
		}
	}
}

// TestRestoreShortens: several damaged segments in one chain cost what lies
// behind the first one, in one request.
func TestRestoreShortens(t *testing.T) {
	a := newTalk(1, 256)
	m, ids := stored(t, a)
	w := newWorld(t, m.KillClone())
	for _, i := range []int{2, 5, 7} {
		at := section(t, w.fs, file(ids[i]), segment.Compressed, 1).Offset
		w.overwrite(file(ids[i]), func(b []byte) []byte { b[at] ^= 1; return b })
	}
	if n := w.restore(a); n != 64 {
		t.Errorf("restored %d", n)
	}
	if w.logged("kv cache load failed") == 0 || w.logged("kv cache quarantined", "why=corrupt") == 0 {
		t.Errorf("log:\n%s", w.dumpLog())
	}
	// Written again, everything is found again: what lies behind a bad segment was
	// kept, and serves as soon as its parent is back.
	for i, want := range []int{160, 224, 256} {
		w.save(a)
		if n := w.restore(a); n != want {
			t.Errorf("saved again for the %d. time: restored %d, want %d", i+1, n, want)
		}
	}
	if st := w.s.Stats(); st.Stored != 3 {
		t.Errorf("wrote %d segments, want the damaged ones", st.Stored)
	}
}

// section returns where a section of a file lies.
func section(t testing.TB, fsys vfs.FS, name string, kind segment.Kind, layer int) segment.Section {
	t.Helper()
	data, err := vfs.ReadFile(fsys, name, 1<<30)
	must(t, err)
	r := segment.Reader{R: bytes.NewReader(data), Size: int64(len(data))}
	h, err := r.Header()
	must(t, err)
	in, err := r.Info(h, nil)
	must(t, err)
	sec, ok := in.Section(kind, layer)
	if !ok {
		t.Fatalf("no %v of layer %d", kind, layer)
	}
	return sec
}

// TestLargeSections: a section that takes several reads is checked as a whole.
func TestLargeSections(t *testing.T) {
	l := segment.Layout{Vocab: 8, Window: 2, Layers: []segment.Layer{{Ratio: 4, RowBytes: 100_000, ClosedBytes: 1_300_000}}}
	m := errfs.NewMem()
	w := newWorld(t, m, func(o *kvstore.Options) { o.Layout, o.QuarantineBytes = l, 8<<20 })
	seg := plain(l, "", 0, 32)
	for i := range seg.Comp[0] {
		seg.Comp[0][i] = byte(i * 7)
	}
	for i := range seg.Frontier[0] {
		seg.Frontier[0][i] = byte(i * 3)
	}
	text, comp, frontier := seg.Text, bytes.Clone(seg.Comp[0]), bytes.Clone(seg.Frontier[0])
	id, err := w.s.Save(context.Background(), seg)
	must(t, err)
	must(t, w.s.Flush(context.Background()))
	restore := func() (*plainTarget, error) {
		target := newPlainTarget(l, 32)
		_, err := w.s.Restore(context.Background(), w.s.Lookup(text), func(int) (kvstore.Target, error) { return target, nil })
		return target, err
	}
	got, err := restore()
	must(t, err)
	if !bytes.Equal(got.comp[0], comp) || !bytes.Equal(got.fro[0], frontier) {
		t.Error("WRONG")
	}
	sec := section(t, m, file(id), segment.Frontier, 0)
	w.overwrite(file(id), func(b []byte) []byte { b[sec.Offset+sec.Bytes-1] ^= 1; return b })
	if _, err := restore(); !errors.Is(err, kvstore.ErrMiss) || len(w.quarantined()) != 1 {
		t.Errorf("last byte of a large section: %v, quarantined %v", err, w.quarantined())
	}
}

// TestMissingFile: deleted between lookup and open.
func TestMissingFile(t *testing.T) {
	a := newTalk(1, 96)
	m, ids := stored(t, a)
	w := newWorld(t, m)
	c := w.s.Lookup(a.text())
	if err := m.Remove(file(ids[2])); err != nil {
		t.Fatal(err)
	}
	n, err := w.restoreChain(c, a)
	if err != nil || n != 64 || len(w.quarantined()) != 0 {
		t.Errorf("restored %d, %v, quarantined %v", n, err, w.quarantined())
	}
	if got := w.s.Lookup(a.text()); got.Tokens != 64 {
		t.Errorf("still offered: %d", got.Tokens)
	}
}

// TestRenamedFile: a good file under another's name.
func TestRenamedFile(t *testing.T) {
	a, b := newTalk(1, 64), newTalk(2, 64)
	m := errfs.NewMem()
	w := newWorld(t, m)
	ida, idb := w.save(a), w.save(b)
	data, err := vfs.ReadFile(m, file(idb[0]), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	put(t, m, file(ida[0]), data)
	if n := w.restore(a); n != 0 {
		t.Errorf("restored %d", n)
	}
	if w.logged("text hashes to") == 0 || len(w.quarantined()) != 1 {
		t.Errorf("quarantined %v\n%s", w.quarantined(), w.dumpLog())
	}
}

// TestTransientErrors: running out of file descriptors says nothing about a file.
func TestTransientErrors(t *testing.T) {
	a := newTalk(1, 96)
	m, _ := stored(t, a)
	f := errfs.Wrap(m)
	w := newWorld(t, f)
	noFiles := errfs.MustParse("open:path=*.kv:nth=3:eio")
	noFiles.Err = syscall.EMFILE
	f.SetRules(noFiles)
	if n := w.restore(a); n != 64 {
		t.Errorf("restored %d", n)
	}
	f.SetRules()
	if n := w.restore(a); n != 96 || len(w.quarantined()) != 0 {
		t.Errorf("then %d, quarantined %v", n, w.quarantined())
	}
	f.SetRules(errfs.MustParse("read:path=*.kv:nth=4:eio"))
	if n := w.restore(a); n == 96 || len(w.quarantined()) != 1 || !strings.Contains(w.quarantined()[0], "unreadable") {
		t.Errorf("a bad medium: %d, quarantined %v", n, w.quarantined())
	}
}

// TestHostileFolder fills a real folder with everything that should not be there
// and opens it. Nothing waits, follows a link out, crashes, or is lost that was
// good.
func TestHostileFolder(t *testing.T) {
	root := t.TempDir()
	a := newTalk(1, 64)
	open := func() *world {
		return newWorld(t, vfs.OS, func(o *kvstore.Options) { o.Dir = root })
	}
	w := open()
	ids := w.save(a)
	w.close()
	outside := filepath.Join(t.TempDir(), "outside")
	at := func(p string) string { return filepath.Join(root, p) }
	seg := func(n byte) string {
		id := strings.Repeat("123456789abcdef"[n:][:1], 40)
		p := at("segments/" + id[:2] + "/" + id + ".kv")
		must(t, os.MkdirAll(filepath.Dir(p), 0o700))
		return p
	}
	good, err := os.ReadFile(at("segments/" + ids[0][:2] + "/" + ids[0] + ".kv"))
	must(t, err)
	must(t, os.WriteFile(outside, good, 0o600))
	must(t, os.Symlink(outside, seg(0)))
	must(t, syscall.Mkfifo(seg(1), 0o600))
	must(t, os.Mkdir(seg(2), 0o700))
	must(t, os.WriteFile(filepath.Join(seg(2), "x"), make([]byte, 1000), 0o600))
	must(t, os.Symlink("/dev/zero", seg(3)))
	must(t, os.WriteFile(seg(4), nil, 0o600))
	for i, n := range []int{1, 127, 128, 160, 192} {
		must(t, os.WriteFile(seg(byte(5+i)), good[:n], 0o600))
	}
	must(t, os.WriteFile(seg(10), make([]byte, len(good)), 0o600))
	huge, err := os.Create(seg(11))
	must(t, err)
	_, err = huge.Write(good)
	must(t, errors.Join(err, huge.Truncate(1<<40), huge.Close())) // sparse: a terabyte
	for name, data := range map[string]string{
		"journal": "garbage that is no journal", "inflight/1": "{", "inflight/x": strings.Repeat("[", 5000), "tmp/y": "temp",
		"foreign.txt": "user's own", "segments/README": "x", "segments/zz/q": "x", "quarantine/odd": "x",
		"quarantine/" + ids[0] + ".12.why.kv": "old", "quarantine/abababababababababababababababababababab.1.note.json": "{}", "journal.tmp.1.1": "half"} {
		must(t, os.MkdirAll(filepath.Dir(at(name)), 0o700))
		must(t, os.WriteFile(at(name), []byte(data), 0o600))
	}
	w = open()
	if n, _ := w.tryRestore(a); n != 64 {
		t.Errorf("the good segments: restored %d\n%s", n, w.dumpLog())
	}
	if w.logged("kv recovery scanned=14 ok=2 stale=0 corrupt=12") != 1 {
		t.Errorf("log:\n%s", w.dumpLog())
	}
	for _, gone := range []string{"tmp/y", "inflight/1", "inflight/x", "journal.tmp.1.1", "quarantine/abababababababababababababababababababab.1.note.json"} {
		if _, err := os.Lstat(at(gone)); err == nil {
			t.Errorf("%s stays", gone)
		}
	}
	for _, stays := range []string{"foreign.txt", "segments/README", "segments/zz/q", "quarantine/odd"} {
		if _, err := os.Lstat(at(stays)); err != nil {
			t.Errorf("%s is not ours: %v", stays, err)
		}
	}
	if b, err := os.ReadFile(outside); err != nil || len(b) != len(good) {
		t.Errorf("the file behind the link: %d bytes, %v", len(b), err)
	}
	// The names are free again.
	must(t, w.s.Close(context.Background()))
	w = open()
	if w.logged("kv recovery scanned=2 ok=2") != 1 {
		t.Errorf("second start:\n%s", w.dumpLog())
	}
	if ok, why := w.s.Health(); !ok {
		t.Error(why)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzRecover puts any bytes under a segment's name: recovery and restore end,
// and what is restored is right.
func FuzzRecover(f *testing.F) {
	a := newTalk(1, 40)
	m, ids := stored(f, a)
	good, err := vfs.ReadFile(m, file(ids[1]), 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:500])
	f.Fuzz(func(t *testing.T, data []byte) {
		fsys := m.KillClone()
		put(t, fsys, file(ids[1]), data)
		w := newWorld(t, fsys)
		if n := w.restore(a); n != 32 && string(data) != string(good) {
			// A flip in what nothing reads may pass; then the state was compared.
			if n != 40 {
				t.Fatalf("restored %d", n)
			}
		}
		w.close()
	})
}
