package kvstore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// readmit brings a quarantined file back, by a store that runs or by a tool.
func (w *world) readmit(live bool, id string) (kvstore.FileRef, error) {
	w.t.Helper()
	name := ""
	for _, q := range w.quarantined() {
		if strings.HasPrefix(q, id) {
			name = strings.TrimSuffix(q, ".kv")
		}
	}
	if live {
		return w.s.Readmit(name)
	}
	w.close()
	ref, err := kvstore.Readmit(w.fs, dir, name, w.clock())
	w.open()
	return ref, err
}

// TestReadmitConvicted: a convicted segment that somebody vouches for is used
// again, also after the next start, and the next failure is its last.
func TestReadmitConvicted(t *testing.T) {
	bothWays(t, func(t *testing.T, live bool) {
		a := newTalk(1, 96)
		w := newWorld(t, errfs.NewMem())
		ids := w.save(a)
		w.s.Withhold(ids, "the device failed")
		w.s.Convict(ids, "cold worked")
		before := w.s.Stats()
		if n := w.restore(a); n != 64 || before.QuarantineFiles != 1 {
			t.Fatalf("restored %d before, %+v", n, before)
		}
		ref, err := w.readmit(live, ids[2])
		must(t, err)
		if ref.From != 64 || ref.To != 96 || ref.Name != ids[2] || len(w.names("quarantine")) != 0 {
			t.Errorf("%+v; quarantine %v", ref, w.names("quarantine"))
		}
		st := w.s.Stats()
		if st.QuarantineBytes != 0 || st.SegmentBytes != before.SegmentBytes+ref.Bytes || w.strikes(ids[2]) != 1 {
			t.Errorf("%+v, strikes %d", st, w.strikes(ids[2]))
		}
		for range 2 {
			if n := w.restore(a); n != 96 {
				t.Errorf("restored %d\n%s", n, w.dumpLog())
			}
			w.killed()
		}
		if w.strikes(ids[2]) != 1 {
			t.Errorf("strikes %d", w.strikes(ids[2]))
		}
		w.s.Withhold(ids[2:], "again")
		w.s.Convict(ids[2:], "again")
		if w.s.Has(ids[2]) || len(w.quarantined()) != 1 {
			t.Error("the next conviction changes nothing")
		}
		w.killed()
		if w.s.Has(ids[2]) {
			t.Error("it came back by itself")
		}
	})
}

// TestReadmitPoisoned: two deaths, then the way back; success clears the strike.
func TestReadmitPoisoned(t *testing.T) {
	bothWays(t, func(t *testing.T, live bool) {
		a := newTalk(1, 64)
		w := newWorld(t, errfs.NewMem())
		ids := w.save(a)
		for range 2 {
			w.begin(a)
			w.killed()
		}
		if len(w.quarantined()) != 2 {
			t.Fatalf("quarantined %v", w.quarantined())
		}
		// The second one first: it waits for what it continues.
		ref, err := w.readmit(live, ids[1])
		must(t, err)
		if n := w.restore(a); ref.Missing != ids[0] || n != 0 || info(t, w.look(true), ids[1]).Verdict != kvstore.VerdictOrphan {
			t.Errorf("without its parent: %+v, restored %d", ref, n)
		}
		ref, err = w.readmit(live, ids[0])
		must(t, err)
		if ref.Missing != "" {
			t.Errorf("%+v", ref)
		}
		in := w.begin(a)
		if n := w.restore(a); n != 64 {
			t.Errorf("restored %d\n%s", n, w.dumpLog())
		}
		in.Done()
		w.reopen()
		if w.strikes(ids[0]) != 0 || w.strikes(ids[1]) != 0 {
			t.Errorf("strikes %d %d after success", w.strikes(ids[0]), w.strikes(ids[1]))
		}
		w.begin(a)
		w.killed()
		if n := w.restore(a); n != 64 || len(w.quarantined()) != 0 {
			t.Errorf("one death after success: restored %d", n)
		}
	})
}

// TestReadmitRefuses: what is damaged, foreign, written again or unknown stays where
// it is.
func TestReadmitRefuses(t *testing.T) {
	bothWays(t, func(t *testing.T, live bool) {
		a := newTalk(1, 32)
		w := newWorld(t, errfs.NewMem())
		refused := func(id string, of error, why string) {
			t.Helper()
			_, err := w.readmit(live, id)
			if !errors.Is(err, of) || !strings.Contains(err.Error(), why) {
				t.Errorf("%v, want %q", err, why)
			}
		}
		refused(strings.Repeat("ab", 20), kvstore.ErrNotFound, "not found")

		id := w.save(a)[0]
		w.s.Convict([]string{id}, "x")
		w.save(a)
		refused(id, kvstore.ErrNotReadmitted, "has been written again")

		b := w.save(newTalk(2, 32))[0]
		w.s.Convict([]string{b}, "x")
		for _, q := range w.quarantined() {
			if strings.HasPrefix(q, b) {
				name := dir + "/quarantine/" + q
				row := section(t, w.fs, name, segment.Raw, 0).Offset
				w.overwrite(name, func(b []byte) []byte { b[row] ^= 1; return b })
			}
		}
		refused(b, kvstore.ErrNotReadmitted, "raw of layer 0")

		other := *segmentOf(t, newTalk(3, 32))
		other.Identity = [32]byte{9}
		enc := mustEncode(t, &other)
		w.close()
		putSegment(t, w.fs, &other)
		must(t, w.fs.Rename(file(enc.ID.String()), dir+"/quarantine/"+enc.ID.String()+".1700000000.corrupt.kv"))
		w.open()
		refused(enc.ID.String(), kvstore.ErrNotReadmitted, "another model")

		for _, name := range []string{"", "../segments/" + id[:2] + "/" + id, id, id + ".x.y", strings.Repeat("a", 5000)} {
			if _, err := w.s.Readmit(name); !errors.Is(err, kvstore.ErrNotFound) {
				t.Errorf("%.50q: %v", name, err)
			}
		}
		if len(w.quarantined()) != 3 {
			t.Errorf("quarantine %v", w.quarantined())
		}
	})
}

// TestReadmitFailures: whatever operation fails, and whenever the power goes, the
// file is in one of the two places, and the next start works.
func TestReadmitFailures(t *testing.T) {
	a := newTalk(1, 64)
	for _, live := range []bool{true, false} {
		for _, sick := range []bool{false, true} { // the journal needs a rewrite
			for nth := 1; ; nth++ {
				m := errfs.NewMem()
				w := newWorld(t, m)
				ids := w.save(a)
				w.s.Convict(ids, "x")
				w.close()
				if sick {
					w.overwrite(dir+"/journal", func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
				}
				f := &nthFails{FS: m}
				w.opt.FS = f
				if live {
					w.open()
				}
				f.left = nth
				name := strings.TrimSuffix(w.quarantined()[0], ".kv")
				var err error
				if live {
					_, err = w.s.Readmit(name)
				} else {
					_, err = kvstore.Readmit(f, dir, name, w.clock())
				}
				fired := f.left <= 0
				f.left = 0
				places := len(w.quarantined())
				if w.exists(file(ids[1])) {
					places++
				}
				if places != 1 {
					t.Fatalf("live=%v sick=%v: operation %d failed: the file is in %d places (%v)\n%s", live, sick, nth, places, err, w.dumpLog())
				}
				after := m.CrashClone(rand.New(rand.NewPCG(uint64(nth), 1)))
				if live {
					w.close()
				}
				w.fs, w.opt.FS = after, after
				w.open()
				n := w.restore(a)
				if err == nil && !fired && n != 64 || n != 32 && n != 64 {
					t.Fatalf("live=%v sick=%v: operation %d: restored %d, %v\n%s", live, sick, nth, n, err, w.dumpLog())
				}
				w.close()
				if !fired {
					if nth < 6 {
						t.Errorf("only %d operations", nth)
					}
					break
				}
			}
		}
	}
}

// nthFails fails one operation that changes something.
type nthFails struct {
	vfs.FS
	left int
}

func (f *nthFails) hit() error {
	if f.left--; f.left == 0 {
		return syscall.EIO
	}
	return nil
}

func (f *nthFails) Rename(old, new string) error {
	if err := f.hit(); err != nil {
		return err
	}
	return f.FS.Rename(old, new)
}

func (f *nthFails) Remove(name string) error {
	if err := f.hit(); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

func (f *nthFails) MkdirAll(name string) error {
	if err := f.hit(); err != nil {
		return err
	}
	return f.FS.MkdirAll(name)
}

func (f *nthFails) SyncDir(name string) error {
	if err := f.hit(); err != nil {
		return err
	}
	return f.FS.SyncDir(name)
}

func (f *nthFails) Create(name string) (vfs.File, error) { return f.file(name, f.FS.Create) }
func (f *nthFails) Append(name string) (vfs.File, error) { return f.file(name, f.FS.Append) }

func (f *nthFails) file(name string, open func(string) (vfs.File, error)) (vfs.File, error) {
	if err := f.hit(); err != nil {
		return nil, err
	}
	g, err := open(name)
	if err != nil {
		return nil, err
	}
	return &nthFile{g, f}, nil
}

type nthFile struct {
	vfs.File
	f *nthFails
}

func (g *nthFile) Write(b []byte) (int, error) {
	if err := g.f.hit(); err != nil {
		return 0, err
	}
	return g.File.Write(b)
}

func (g *nthFile) Sync() error {
	if err := g.f.hit(); err != nil {
		return err
	}
	return g.File.Sync()
}

// TestReadmitForgetsOnlyThisFile: how often an id was guilty is remembered beyond
// a pardon, so that it is not stored for ever again and again.
func TestReadmitForgetsOnlyThisFile(t *testing.T) {
	a := newTalk(1, 32)
	w := newWorld(t, errfs.NewMem())
	for range 2 {
		w.s.Convict(w.save(a), "x")
		w.advance(2e9) // another name in the quarantine
	}
	if _, err := w.s.Save(context.Background(), a.segment("", 0, 32)); !errors.Is(err, kvstore.ErrRefused) {
		t.Fatalf("after two convictions: %v", err)
	}
	w.close()
	name := strings.TrimSuffix(w.quarantined()[1], ".kv")
	ref, err := kvstore.Readmit(w.fs, dir, name, w.clock())
	must(t, err)
	w.open()
	if n := w.restore(a); n != 32 {
		t.Fatalf("restored %d", n)
	}
	w.s.Convict([]string{ref.Name}, "third time")
	w.reopen()
	if _, err := w.s.Save(context.Background(), a.segment("", 0, 32)); !errors.Is(err, kvstore.ErrRefused) {
		t.Errorf("after a third conviction: %v", err)
	}
}
