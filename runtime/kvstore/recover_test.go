package kvstore_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ds4/faults/errfs"
	"ds4/runtime/failpoint"
	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/blank"
	"ds4/runtime/kvstore/journal"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// TestStaleIdentity: another model's segments go at start, once, with one line.
func TestStaleIdentity(t *testing.T) {
	a := newTalk(1, 96)
	m, _ := stored(t, a)
	w := newWorld(t, m, func(o *kvstore.Options) { o.Identity = [32]byte{2} })
	if w.logged("kv recovery scanned=3 ok=0 stale=3 corrupt=0 orphan=0") != 1 || w.restore(a) != 0 {
		t.Errorf("log:\n%s", w.dumpLog())
	}
	if v := w.s.Stats().Recovery; v.FreedBytes == 0 || len(w.quarantined()) != 0 {
		t.Errorf("%+v", v)
	}
	w.save(a)
	if n := w.restore(a); n != 96 {
		t.Errorf("then restored %d", n)
	}
}

// TestOtherLayout under the same identity is damage, never a wrong restore.
func TestOtherLayout(t *testing.T) {
	a := newTalk(1, 64)
	m, _ := stored(t, a)
	w := newWorld(t, m, func(o *kvstore.Options) {
		o.Layout.Layers = append(layout().Layers, segment.Layer{RowBytes: 6})
	})
	if v := w.s.Stats().Recovery; v.Corrupt != 2 || v.OK != 0 {
		t.Errorf("%+v", v)
	}
}

// TestOrphans stay at start, are found by no lookup, and continue the chain as
// soon as what was missing is written again.
func TestOrphans(t *testing.T) {
	a := newTalk(1, 128)
	m, ids := stored(t, a)
	must(t, m.Remove(file(ids[1])))
	w := newWorld(t, m)
	if w.logged("kv recovery scanned=3 ok=1 stale=0 corrupt=0 orphan=2") != 1 || w.restore(a) != 32 {
		t.Errorf("log:\n%s", w.dumpLog())
	}
	text := a.text()
	if c := w.s.Beyond(ids[1], 64, text[len(a[:64].text()):]); c.After != ids[1] || c.From != 64 || c.Tokens != 128 || len(c.IDs) != 2 {
		t.Errorf("beyond the gap: %+v", c)
	}
	if c := w.s.Beyond(ids[1], 60, text[len(a[:64].text()):]); !c.Empty() {
		t.Errorf("at another position: %+v", c)
	}
	w.save(a[:64])
	if n := w.restore(a); n != 128 {
		t.Errorf("then restored %d\n%s", n, w.dumpLog())
	}
}

// TestOrphansGoFirst: what no lookup reaches is evicted before anything else,
// even if it was used more.
func TestOrphansGoFirst(t *testing.T) {
	a, b := newTalk(1, 128), newTalk(2, 64)
	m, ids := stored(t, a)
	w := newWorld(t, m)
	w.save(b)
	for range 3 {
		w.restore(a)
	}
	used := w.s.Stats().SegmentBytes
	w.close()
	must(t, m.Remove(file(ids[1])))
	w = newWorld(t, m, func(o *kvstore.Options) { o.BudgetBytes = 64<<10 + used/2; o.QuarantineBytes = 0 })
	if w.restore(b) != 64 || w.exists(file(ids[3])) {
		t.Errorf("log:\n%s", w.dumpLog())
	}
}

// TestValidate: each mode looks at what it says.
func TestValidate(t *testing.T) {
	a := newTalk(1, 64)
	m, ids := stored(t, a)
	hurt := func(off int64) *errfs.Mem {
		w := &world{t: t, fs: m.KillClone()}
		w.overwrite(file(ids[1]), func(b []byte) []byte { b[off] ^= 1; return b })
		return w.fs.(*errfs.Mem)
	}
	row := section(t, m, file(ids[1]), segment.Raw, 0).Offset
	for _, c := range []struct {
		mode    kvstore.Validate
		off     int64
		corrupt int
	}{
		{kvstore.ValidateOff, 100, 0}, {kvstore.ValidateHeader, 100, 1}, {kvstore.ValidateFull, 100, 1},
		{kvstore.ValidateOff, row, 0}, {kvstore.ValidateHeader, row, 0}, {kvstore.ValidateFull, row, 1},
	} {
		w := newWorld(t, hurt(c.off), func(o *kvstore.Options) { o.Validate = c.mode })
		if v := w.s.Stats().Recovery; v.Corrupt != c.corrupt {
			t.Errorf("%s, byte %d: %+v", c.mode, c.off, v)
		}
		if n := w.restore(a); n != 32 {
			t.Errorf("%s, byte %d: restored %d", c.mode, c.off, n)
		}
	}
}

// TestRecoveryReadsLittle: with the default validation, start-up reads header,
// table and footer of each file and not the rows.
func TestRecoveryReadsLittle(t *testing.T) {
	a := newTalk(1, 320)
	m, _ := stored(t, a)
	f := errfs.Wrap(m)
	w := newWorld(t, f)
	if got := f.Count(errfs.OpRead); got > 3*10+2 {
		t.Errorf("%d reads for 10 files", got)
	}
	if n := w.restore(a); n != 320 {
		t.Errorf("restored %d", n)
	}
}

// TestRestartsKeepEverything: three restarts, no write, no loss.
func TestRestartsKeepEverything(t *testing.T) {
	root := t.TempDir()
	a := newTalk(1, 96)
	w := newWorld(t, vfs.OS, func(o *kvstore.Options) { o.Dir = root })
	ids := w.save(a)
	name := filepath.Join(root, "segments", ids[1][:2], ids[1]+".kv")
	before, err := os.Stat(name)
	must(t, err)
	data, err := os.ReadFile(name)
	must(t, err)
	for range 3 {
		if n := w.restore(a); n != 96 {
			t.Fatalf("restored %d", n)
		}
		w.reopen()
	}
	after, err := os.Stat(name)
	must(t, err)
	now, err := os.ReadFile(name)
	must(t, err)
	if !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) || !bytes.Equal(data, now) {
		t.Error("a published file was touched")
	}
}

// TestJournal: lost or damaged, it costs statistics only; it does not grow for
// ever.
func TestJournal(t *testing.T) {
	a := newTalk(1, 64)
	w := newWorld(t, errfs.NewMem())
	ids := w.save(a)
	for range 700 { // two records each
		w.restore(a)
	}
	w.reopen()
	if got := size(t, w.fs, dir+"/journal"); got > 1100*journal.RecordBytes {
		t.Errorf("%d bytes after 1400 records of 2 segments", got)
	}
	if h := w.s.List()[0].Hits; h < 600 || h > 700 {
		t.Errorf("%v hits", h)
	}
	w.s.Strike(ids[:1], "x")
	w.close()
	for name, change := range map[string]func([]byte) []byte{
		"gone":    nil,
		"empty":   func([]byte) []byte { return nil },
		"garbage": func(b []byte) []byte { return bytes.Repeat([]byte("xyz"), 1000) },
		"torn":    func(b []byte) []byte { return b[:len(b)-7] },
		"flipped": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
	} {
		w2 := &world{t: t, fs: w.fs.(*errfs.Mem).KillClone()}
		if change == nil {
			must(t, w2.fs.Remove(dir+"/journal"))
		} else {
			w2.overwrite(dir+"/journal", change)
		}
		w2 = newWorld(t, w2.fs)
		if n := w2.restore(a); n != 64 {
			t.Errorf("%s: restored %d", name, n)
		}
		w2.s.Strike(ids[1:], "x") // must reach the disk again
		w2.killed()
		if got := w2.strikes(ids[1]); got != 1 {
			t.Errorf("%s: %d strikes after a restart\n%s", name, got, w2.dumpLog())
		}
	}
}

// TestBadClock: times from the future do no harm.
func TestBadClock(t *testing.T) {
	a := newTalk(1, 64)
	m := errfs.NewMem()
	w := newWorld(t, m)
	w.advance(1000 * time.Hour)
	w.save(a)
	w.restore(a)
	w.close()
	w = newWorld(t, m, room(3)) // the clock starts at its old place
	if n := w.restore(a); n != 64 {
		t.Errorf("restored %d", n)
	}
	w.save(newTalk(2, 64))
	if st := w.s.Stats(); st.UsedBytes > st.BudgetBytes {
		t.Errorf("%+v", st)
	}
}

// TestEveryPointFires: each fault point of the package is on a road that is
// taken, and its fault ends in a line, not in a wrong answer.
func TestEveryPointFires(t *testing.T) {
	a := newTalk(1, 96)
	for _, in := range failpoint.Catalogue() {
		if in.Owner != "runtime/kvstore" {
			continue
		}
		t.Run(in.Name, func(t *testing.T) {
			m, _ := stored(t, a)
			w := &world{t: t}
			w.arm(in.Name + "=err(injected " + in.Name + "):times=1")
			w = newWorld(t, m)
			_, _ = w.trySave(newTalk(2, 64))
			if in, err := w.s.BeginInflight(w.s.Lookup(a.text())); err == nil {
				_, _ = w.tryRestore(a)
				in.Done()
			}
			w.s.Convict(w.s.Lookup(a.text()).IDs, "test")
			_, _ = w.s.Clear()
			w.close()
			if fired(0) != 1 {
				t.Fatalf("fired %d times", fired(0))
			}
			w.open()
			w.advance(kvBackoff)
			w.save(a)
			if n := w.restore(a); n != 96 {
				t.Errorf("after the fault restored %d", n)
			}
		})
	}
}

// benchLayout is the layout of a small model.
func benchLayout() segment.Layout {
	l := segment.Layout{Vocab: 8192, Window: 128}
	for i := range 8 {
		y := segment.Layer{RowBytes: 1024}
		if i >= 2 {
			y.Ratio, y.IndexRowBytes, y.ClosedBytes = 4, 128, 8192
		}
		l.Layers = append(l.Layers, y)
	}
	return l
}

// BenchmarkSave writes segments without waiting for the disk, each in place of one
// that is evicted: what is left are checksums and copies.
func BenchmarkSave(b *testing.B) {
	const step, kept = 2048, 8
	l := benchLayout()
	seg := plain(l, "", 0, step)
	e, err := segment.Encode(l, &segment.Segment{To: step, Text: seg.Text, Tokens: seg.Tokens, Raw: seg.Raw, Comp: seg.Comp, Index: seg.Index, Frontier: seg.Frontier})
	must(b, err)
	s, err := kvstore.Open(kvstore.Options{FS: vfs.OS, Dir: b.TempDir(), Identity: [32]byte{1}, Layout: l, MinTokens: 1, Sync: kvstore.SyncNone,
		BudgetBytes: kept * e.Bytes})
	must(b, err)
	defer s.Close(context.Background())
	b.SetBytes(e.Bytes)
	for i := 0; b.Loop(); i++ {
		seg.Text = fmt.Append(nil, "save ", i)
		_, err := s.Save(context.Background(), seg)
		must(b, err)
		must(b, s.Flush(context.Background()))
	}
}

// BenchmarkRestore reads a chain of 16 segments of the size that a small model
// has.
func BenchmarkRestore(b *testing.B) {
	l := benchLayout()
	root := b.TempDir()
	s, err := kvstore.Open(kvstore.Options{FS: vfs.OS, Dir: root, Identity: [32]byte{1}, Layout: l, MinTokens: 1, Sync: kvstore.SyncNone})
	must(b, err)
	defer s.Close(context.Background())
	parent := ""
	const step, segments = 2048, 16
	var text []byte
	for i := range segments {
		seg := plain(l, parent, i*step, (i+1)*step)
		text = append(text, seg.Text...)
		parent, err = s.Save(context.Background(), seg)
		must(b, err)
		must(b, s.Flush(context.Background()))
	}
	c := s.Lookup(text)
	target := newPlainTarget(l, c.Tokens)
	b.SetBytes(c.Bytes)
	for b.Loop() {
		r, err := s.Restore(context.Background(), c, func(int) (kvstore.Target, error) { return target, nil })
		must(b, err)
		if r.Chain.Tokens != segments*step {
			b.Fatalf("restored %d", r.Chain.Tokens)
		}
	}
}

// plain returns a segment of zeros with a text of its own.
func plain(l segment.Layout, parent string, from, to int) *kvstore.Segment {
	return blank.Segment(l, parent, from, to, fmt.Appendf(nil, "%d to %d", from, to))
}

type plainTarget struct {
	l    segment.Layout
	to   int
	comp [][]byte
	idx  [][]byte
	raw  [][]byte
	fro  [][]byte
}

func newPlainTarget(l segment.Layout, to int) *plainTarget {
	t := &plainTarget{l: l, to: to}
	s := plain(l, "", 0, to)
	t.comp, t.idx, t.raw, t.fro = s.Comp, s.Index, s.Raw, s.Frontier
	return t
}

func (t *plainTarget) Put(kind segment.Kind, layer, row int, b []byte) error {
	y := t.l.Layers[layer]
	switch kind {
	case segment.Compressed:
		return putRows(t.comp[layer], y.RowBytes, row, b)
	case segment.Indexer:
		return putRows(t.idx[layer], y.IndexRowBytes, row, b)
	case segment.Raw:
		return putRows(t.raw[layer], y.RowBytes, row, b)
	}
	return putRows(t.fro[layer], y.FrontierBytes(t.to), row, b)
}

func (t *plainTarget) Commit([]int32) error { return nil }
func (t *plainTarget) Abort()               {}
