package kvstore_test

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore"
	"ds4/runtime/vfs"
)

// What the property test has found, each in its smallest form.

// TestClockSetBack: a pause of seconds stays one, whatever the clock does.
func TestClockSetBack(t *testing.T) {
	f := errfs.Wrap(errfs.NewMem(), errfs.MustParse("sync:path="+dir+"/tmp/*:nth=1:eio"))
	w := newWorld(t, f)
	w.trySave(newTalk(1, 32))
	w.advance(-100 * time.Hour)
	w.save(newTalk(1, 32))
	if ok, why := w.s.Health(); !ok {
		t.Error(why)
	}
}

// TestMarkerStaysGone: a marker that a start has dealt with, or that was removed
// after a restore, does not come back in a power cut and strike what was written
// since.
func TestMarkerStaysGone(t *testing.T) {
	a := newTalk(1, 64)
	_, ids := stored(t, a)
	for seed := range uint64(8) {
		w := newWorld(t, errfs.NewMem())
		in, err := w.s.BeginInflight(kvstore.Chain{IDs: ids}) // of a chain that was evicted
		must(t, err)
		if seed%2 == 0 {
			in.Cancel()
		}
		w.killed(func(o *kvstore.Options) { o.BootID = "boot-2" })
		w.save(a)
		disk := w.fs.(*errfs.Mem).CrashClone(rand.New(rand.NewPCG(seed, 0)))
		w.close()
		next := newWorld(t, disk, func(o *kvstore.Options) { o.BootID = "boot-3" })
		if n := next.restore(a); n != 64 || next.strikes(next.save(a)[0]) != 0 {
			t.Fatalf("restored %d\n%s", n, next.dumpLog())
		}
	}
}

// TestLeftoversCount: a file that a failed write leaves and that cannot be removed
// counts for the budget, in each folder.
func TestLeftoversCount(t *testing.T) {
	a := newTalk(1, 64)
	for _, rule := range []string{"sync:path=" + dir + "/tmp/*:every:eio", "rename:path=*.kv:every:eio", "syncdir:path=" + dir + "/segments/??:every:eio",
		"rename:path=*.json:every:eio", "rename:path=journal:every:eio"} {
		mem := errfs.NewMem()
		f := errfs.Wrap(mem)
		w := newWorld(t, f)
		ids := w.save(newTalk(2, 32))
		f.SetRules(errfs.MustParse(rule), errfs.MustParse("remove:every:eacces"))
		w.trySave(a)
		w.s.Convict(ids, "test")
		w.s.Settle()
		st := w.s.Stats()
		if known := st.SegmentBytes + st.QuarantineBytes + st.ForeignBytes; mem.Used() > known+500 || st.ForeignBytes == 0 { // 500: lock, journal
			t.Errorf("%s: %d bytes on disk, the store knows of %d, %d of them foreign", rule, mem.Used(), known, st.ForeignBytes)
		}
		w.close()
	}
}

// TestTwoInOneSecond: a segment that goes to quarantine twice within a second is
// there twice.
func TestTwoInOneSecond(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	a := newTalk(1, 32)
	var bytes int64
	for range 2 {
		ids := w.save(a)
		w.overwrite(file(ids[0]), func(b []byte) []byte { return b[:700] })
		w.restore(a)
	}
	for _, base := range w.names("quarantine") {
		bytes += size(t, w.fs, dir+"/quarantine/"+base)
	}
	if st := w.s.Stats(); len(w.quarantined()) != 2 || st.QuarantineFiles != 2 || st.QuarantineBytes != bytes {
		t.Errorf("%v, %d bytes; stats say %d files, %d bytes", w.quarantined(), bytes, st.QuarantineFiles, st.QuarantineBytes)
	}
}

// TestQuarantineKeepsTheBudget: the note of a segment that goes to quarantine is
// new, and the folder may be full.
func TestQuarantineKeepsTheBudget(t *testing.T) {
	w := newWorld(t, errfs.NewMem(), func(o *kvstore.Options) {
		o.BudgetBytes = 64<<10 + 4*layout().FileBytes(32, 64, 64) + 20
	})
	a := newTalk(1, 128)
	w.save(a[:96])
	w.s.Convict(w.s.Lookup(a[:32].text()).IDs, "test")
	w.s.Settle()
	w.save(newTalk(2, 32))
	w.s.Convict(w.s.Lookup(newTalk(2, 32).text()).IDs, "test")
	w.s.Settle()
	if st := w.s.Stats(); st.UsedBytes > st.BudgetBytes {
		t.Errorf("used %d of %d", st.UsedBytes, st.BudgetBytes)
	}
}

// TestMarkerSparesItsChain: on a full disk a segment is given up for the marker of
// a restore, but not one that is about to be restored.
func TestMarkerSparesItsChain(t *testing.T) {
	m := errfs.NewMem()
	w := newWorld(t, m)
	a := newTalk(1, 64)
	w.save(a)
	w.advance(time.Hour)
	w.save(newTalk(2, 32))
	w.restore(newTalk(2, 32)) // worth more than the chain
	m.SetCapacity(m.Used())
	in, err := w.s.BeginInflight(w.s.Lookup(a.text()))
	must(t, err)
	if n := w.restore(a); n != 64 {
		t.Errorf("restored %d\n%s", n, w.dumpLog())
	}
	in.Cancel()
}

// TestTwins: one good file under many names does not hide the segment that it is.
func TestTwins(t *testing.T) {
	a := newTalk(1, 32)
	m, ids := stored(t, a)
	good, err := vfs.ReadFile(m, file(ids[0]), 1<<20)
	must(t, err)
	for i := range 40 {
		put(t, m, file(strings.Repeat("0123456789abcdef"[i%16:][:1], 39)+"0123456789abcdef"[i/16:][:1]), good)
	}
	w := newWorld(t, m)
	if n := w.restore(a); n != 32 || w.s.Stats().Recovery.Corrupt < 30 {
		t.Errorf("restored %d, %+v", n, w.s.Stats().Recovery)
	}
}

// TestHugeForeignFiles: what sparse files claim does not overflow the sum, and a
// folder that they fill stores nothing and says why.
func TestHugeForeignFiles(t *testing.T) {
	m := errfs.NewMem()
	f := &inflated{FS: m}
	put(t, m, dir+"/a", nil)
	put(t, m, dir+"/b", nil)
	put(t, m, dir+"/c", nil)
	w := newWorld(t, f)
	st := w.s.Stats()
	if st.ForeignBytes <= 0 || st.UsedBytes < st.BudgetBytes {
		t.Errorf("foreign %d, used %d", st.ForeignBytes, st.UsedBytes)
	}
	w.trySave(newTalk(1, 32))
	if w.logged("kv cache store skipped", "exceeds the budget") != 1 {
		t.Errorf("log:\n%s", w.dumpLog())
	}
	must(t, w.s.Close(context.Background()))
}

// inflated makes empty files look as large as a file can be.
type inflated struct{ vfs.FS }

func (f *inflated) Lstat(name string) (fs.FileInfo, error) {
	fi, err := f.FS.Lstat(name)
	if err == nil && !fi.IsDir() && fi.Size() == 0 {
		return hugeInfo{fi}, nil
	}
	return fi, err
}

type hugeInfo struct{ fs.FileInfo }

func (hugeInfo) Size() int64 { return 1<<63 - 1 }

// TestGuiltyWhoStayed: a segment that was convicted and could not be moved is not
// offered, and goes at the next start.
func TestGuiltyWhoStayed(t *testing.T) {
	f := errfs.Wrap(errfs.NewMem())
	w := newWorld(t, f)
	a := newTalk(1, 64)
	ids := w.save(a)
	f.SetRules(errfs.MustParse("rename:path="+dir+"/quarantine/*:every:eio"), errfs.MustParse("remove:every:eacces"))
	w.s.Convict(ids, "test")
	w.s.Settle()
	if n := w.restore(a); n != 32 || !w.exists(file(ids[1])) {
		t.Errorf("restored %d, the file stays: %v", n, w.exists(file(ids[1])))
	}
	f.SetRules()
	w.reopen()
	if n := w.restore(a); n != 32 || len(w.quarantined()) != 1 || w.s.Stats().Recovery.Poisoned != 1 {
		t.Errorf("the next process restored %d, quarantined %v\n%s", n, w.quarantined(), w.dumpLog())
	}
}

// TestMisnamedParent: a good file under the name of another segment costs that one
// and not what continues it.
func TestMisnamedParent(t *testing.T) {
	a := newTalk(1, 96)
	m, ids := stored(t, a)
	other := newWorld(t, errfs.NewMem())
	tail, err := vfs.ReadFile(other.fs, file(other.save(newTalk(2, 16))[0]), 1<<20)
	must(t, err)
	put(t, m, file(ids[0]), tail)
	w := newWorld(t, m)
	if !w.exists(file(ids[1])) || !w.exists(file(ids[2])) || len(w.quarantined()) != 1 || w.s.Stats().Recovery.Orphan != 2 {
		t.Errorf("quarantined %v, %+v", w.quarantined(), w.s.Stats().Recovery)
	}
	w.save(a)
	if n := w.restore(a); n != 96 || w.s.Stats().Stored != 1 {
		t.Errorf("restored %d after %d segments were stored again\n%s", n, w.s.Stats().Stored, w.dumpLog())
	}
}

// TestOtherTokensOfTheSameText: rows depend on the tokens, a segment's name on the text
// only. One that was sampled in other tokens than the stored one is neither taken for
// it nor followed as if it were it.
func TestOtherTokensOfTheSameText(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	a := newTalk(1, 64)
	w.save(a)
	save := func(when string, to int, tokens talk, want error) {
		t.Helper()
		seg := tokens.segment("", 0, to)
		seg.Text = a[:segTokens].text()
		if _, err := w.s.Save(context.Background(), seg); !errors.Is(err, want) {
			t.Errorf("%s, %d tokens: %v, want %v", when, to, err, want)
		}
	}
	other := newTalk(2, 64)
	for _, when := range []string{"saved", "found at the start"} {
		save(when, segTokens, a, nil)
		save(when, segTokens, other, kvstore.ErrRefused)
		save(when, segTokens-1, a, kvstore.ErrRefused)
		w.reopen()
	}
	if n := w.restore(a); n != 64 {
		t.Errorf("restored %d of 64", n)
	}
	// Queued, but not written yet.
	w.s.Clear()
	save("new", segTokens, a, nil)
	save("queued", segTokens, other, kvstore.ErrRefused)
}

// TestStrikesStayKnown: strikes that a start has read, and counts, are there after
// a power cut, although whoever wrote them did not get to sync them.
func TestStrikesStayKnown(t *testing.T) {
	for _, rule := range []string{"sync:path=" + dir + "/journal:every:eio", "write:path=" + dir + "/journal:nth=1:part=75%:enospc"} {
		for seed := range uint64(8) {
			mem := errfs.NewMem()
			f := errfs.Wrap(mem)
			w := newWorld(t, f)
			ids := w.save(newTalk(1, 64))
			w.s.Strike(w.save(newTalk(2, 32)), "test") // the journal is there
			w.s.Settle()
			f.SetRules(errfs.MustParse(rule))
			w.s.Withhold(ids, "test")
			w.s.Settle()
			f.SetRules()
			w.reopen()
			known := w.strikes(ids[0])
			w.close()
			next := newWorld(t, mem.CrashClone(rand.New(rand.NewPCG(seed, 0))))
			if n := next.strikes(ids[0]); n != known || known == 0 {
				t.Errorf("%s: %d strikes, after a power cut %d\n%s", rule, known, n, next.dumpLog())
			}
		}
	}
}
