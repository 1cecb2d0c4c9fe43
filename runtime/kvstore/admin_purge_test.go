package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore"
	"ds4/runtime/vfs"
)

// purge does to the world what a selection says, in both ways: by a store that
// runs, or by a tool on the folder.
func (w *world) purge(live bool, sel kvstore.Selection) kvstore.PurgeReport {
	w.t.Helper()
	var rep kvstore.PurgeReport
	var err error
	if live {
		rep, err = w.s.Purge(context.Background(), sel)
	} else {
		w.close()
		rep, err = kvstore.Purge(context.Background(), w.fs, dir, sel, w.clock())
	}
	if err != nil {
		w.t.Fatalf("purge %+v: %v", sel, err)
	}
	if !live {
		w.open()
	}
	return rep
}

// bothWays runs a test with a live store and with a folder.
func bothWays(t *testing.T, f func(t *testing.T, live bool)) {
	for _, live := range []bool{true, false} {
		t.Run(fmt.Sprintf("live=%v", live), func(t *testing.T) { f(t, live) })
	}
}

// TestPurgeOlder: what was not used for long goes, except what something younger
// continues.
func TestPurgeOlder(t *testing.T) {
	bothWays(t, func(t *testing.T, live bool) {
		w := newWorld(t, errfs.NewMem())
		old := w.save(newTalk(1, 64))
		shared := newTalk(2, 64)
		w.save(shared)
		w.advance(48 * time.Hour)
		young := w.save(shared[:32].then(newTalk(3, 32)))
		used := w.save(newTalk(4, 32))
		w.restore(newTalk(4, 32))

		sel := kvstore.Selection{OlderThan: 24 * time.Hour, DryRun: true}
		dry := w.purge(live, sel)
		if dry.Segments != 3 || dry.Kept != 1 || len(dry.Files) != 3 || dry.Bytes == 0 {
			t.Errorf("would remove %+v", dry)
		}
		if n := w.s.Stats().Segments; n != 6 {
			t.Fatalf("%d segments after a dry run", n)
		}
		sel.DryRun = false
		before := w.s.Stats().UsedBytes
		rep := w.purge(live, sel)
		if rep.Segments != 3 || rep.Kept != 1 || rep.Failed != 0 || rep.Bytes != dry.Bytes {
			t.Errorf("removed %+v", rep)
		}
		for id, want := range map[string]bool{old[0]: false, old[1]: false, young[0]: true, young[1]: true, used[0]: true} {
			if w.s.Has(id) != want || w.exists(file(id)) != want {
				t.Errorf("%s: there %v, want %v", id, !want, want)
			}
		}
		if got := before - w.s.Stats().UsedBytes; got < rep.Bytes { // the journal may have been rewritten, too
			t.Errorf("%d bytes less, removed %d", got, rep.Bytes)
		}
		if n := w.restore(shared); n != 32 {
			t.Errorf("restored %d tokens of the prefix that stays", n)
		}
	})
}

// TestPurgeKeepBytes: leaves go first, of them the least valuable, and no more than
// needed.
func TestPurgeKeepBytes(t *testing.T) {
	bothWays(t, func(t *testing.T, live bool) {
		w := newWorld(t, errfs.NewMem())
		a, b := w.save(newTalk(1, 96)), w.save(newTalk(2, 96))
		w.restore(newTalk(1, 96)) // makes a more valuable
		one := size(t, w.fs, file(b[2]))
		total := w.look(false).Summary().Total
		if live {
			total = w.s.Stats().UsedBytes
		}
		keep := total - one*3/2 // the lock file differs a little between the two ways
		rep := w.purge(live, kvstore.Selection{KeepBytes: &keep})
		if rep.Segments != 2 || rep.Files[0].Name != b[2] || rep.Files[1].Name != b[1] {
			t.Errorf("removed %+v, want the last two of %v", rep, b)
		}
		if !w.s.Has(a[2]) || !w.s.Has(b[0]) || w.s.Has(b[1]) {
			t.Error("the wrong ones are left")
		}
		if rep = w.purge(live, kvstore.Selection{KeepBytes: &total}); rep.Segments != 0 {
			t.Errorf("removed %+v though there is room", rep)
		}
		zero := int64(0)
		if rep = w.purge(live, kvstore.Selection{KeepBytes: &zero}); rep.Segments != 4 {
			t.Errorf("removed %+v, want the rest", rep)
		}
	})
}

// TestPurgeIdentity: what this model cannot use, or what a model wrote.
func TestPurgeIdentity(t *testing.T) {
	m := errfs.NewMem()
	w := newWorld(t, m)
	mine := w.save(newTalk(1, 32))
	w.close()
	other := *segmentOf(t, newTalk(2, 32))
	other.Identity = [32]byte{9}
	otherID := putSegment(t, m, &other)
	third := *segmentOf(t, newTalk(3, 32))
	third.Identity = [32]byte{9, 9}
	thirdID := putSegment(t, m, &third)
	ctx := context.Background()

	rep, err := kvstore.Purge(ctx, m, dir, kvstore.Selection{Identity: "0900000000"}, w.clock())
	must(t, err)
	if rep.Segments != 1 || w.exists(file(otherID)) || !w.exists(file(thirdID)) {
		t.Errorf("by identity: %+v", rep)
	}
	id := w.opt.Identity
	rep, err = kvstore.Purge(ctx, m, dir, kvstore.Selection{NotOf: &id}, w.clock())
	must(t, err)
	if rep.Segments != 1 || w.exists(file(thirdID)) || !w.exists(file(mine[0])) {
		t.Errorf("stale: %+v", rep)
	}
	w.open()
	if rep := w.purge(true, kvstore.Selection{NotOf: &id}); rep.Segments != 0 {
		t.Errorf("a store has no stale segments: %+v", rep)
	}
	if rep := w.purge(true, kvstore.Selection{Identity: "0100000000"}); rep.Segments != 1 {
		t.Errorf("by its own identity: %+v", rep)
	}
}

// TestPurgeQuarantine: of the quarantine only, by age too.
func TestPurgeQuarantine(t *testing.T) {
	bothWays(t, func(t *testing.T, live bool) {
		w := newWorld(t, errfs.NewMem())
		w.advance(time.Now().Add(-72 * time.Hour).Sub(w.clock()))
		w.s.Convict(w.save(newTalk(1, 32)), "x")
		w.advance(71 * time.Hour)
		w.s.Convict(w.save(newTalk(2, 32)), "x")
		w.save(newTalk(3, 32))
		if rep := w.purge(live, kvstore.Selection{Quarantine: true, OlderThan: 24 * time.Hour}); rep.Quarantined != 1 || rep.Segments != 0 {
			t.Errorf("%+v", rep)
		}
		if list := w.quarantined(); len(list) != 1 {
			t.Fatalf("left: %v", list)
		}
		before := w.s.Stats()
		if rep := w.purge(live, kvstore.Selection{Quarantine: true}); rep.Quarantined != 1 || rep.Bytes != before.QuarantineBytes {
			t.Errorf("%+v of %d", rep, before.QuarantineBytes)
		}
		if st := w.s.Stats(); len(w.names("quarantine")) != 0 || st.QuarantineBytes != 0 || st.QuarantineFiles != 0 || st.Segments != 1 {
			t.Errorf("%v, %+v", w.names("quarantine"), st)
		}
	})
}

// TestPurgeAll empties a folder but for what is not ours.
func TestPurgeAll(t *testing.T) {
	bothWays(t, func(t *testing.T, live bool) {
		w := newWorld(t, errfs.NewMem())
		ids := w.save(newTalk(1, 96))
		w.s.Convict(w.save(newTalk(2, 32)), "x")
		put(t, w.fs, dir+"/notes.txt", []byte("mine"))
		put(t, w.fs, dir+"/segments/"+ids[0][:2]+"/readme", []byte("mine"))
		dry := w.purge(live, kvstore.Selection{All: true, DryRun: true})
		if dry.Segments != 3 || dry.Quarantined != 1 || !w.exists(file(ids[0])) {
			t.Errorf("would remove %+v", dry)
		}
		rep := w.purge(live, kvstore.Selection{All: true})
		if rep.Segments != 3 || rep.Quarantined != 1 || rep.Failed != 0 {
			t.Errorf("removed %+v", rep)
		}
		if !w.exists(dir+"/notes.txt") || !w.exists(dir+"/segments/"+ids[0][:2]+"/readme") || w.exists(file(ids[0])) || len(w.names("quarantine")) != 0 {
			t.Error("purged too much or too little")
		}
		w.save(newTalk(1, 96))
		if n := w.restore(newTalk(1, 96)); n != 96 {
			t.Errorf("afterwards restored %d", n)
		}
	})
}

// TestPurgeBesideServer: a folder that somebody has is left alone, and the holder
// stays what it was.
func TestPurgeBesideServer(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	id := w.save(newTalk(1, 32))[0]
	w.s.Announce("http://127.0.0.1:8000")
	ctx := context.Background()
	if _, err := kvstore.Purge(ctx, w.fs, dir, kvstore.Selection{All: true}, w.clock()); !errors.Is(err, kvstore.ErrLocked) {
		t.Errorf("purge: %v", err)
	}
	if _, err := kvstore.Readmit(w.fs, dir, "x", w.clock()); !errors.Is(err, kvstore.ErrLocked) {
		t.Errorf("restore: %v", err)
	}
	h, used, err := kvstore.WhoHas(w.fs, dir)
	if err != nil || !used || h.URL != "http://127.0.0.1:8000" || h.Key == "" || h.Key != w.s.HoldingKey() || !w.exists(file(id)) {
		t.Errorf("%+v, %v, %v", h, used, err)
	}
	w.close()
	if _, err := kvstore.Purge(ctx, w.fs, dir, kvstore.Selection{OlderThan: time.Hour}, w.clock()); err != nil {
		t.Error(err)
	}
	if h, used, _ = kvstore.WhoHas(w.fs, dir); used || h.IdentityBytes() == nil || *h.IdentityBytes() != w.opt.Identity || h.URL != "" || h.Tool != "" {
		t.Errorf("after a tool: %+v", h)
	}
}

// TestPurgeKeepsWhatIsWanted: a pinned chain stays, also what is only its prefix.
func TestPurgeKeepsWhatIsWanted(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	a := newTalk(1, 96)
	w.save(a)
	w.save(newTalk(2, 64))
	unpin := w.s.Pin(w.s.Lookup(a[:64].text()))
	zero := int64(0)
	if rep := w.purge(true, kvstore.Selection{KeepBytes: &zero}); rep.Segments != 3 {
		t.Errorf("%+v", rep)
	}
	if n := w.restore(a); n != 64 {
		t.Errorf("restored %d tokens of the pinned prefix", n)
	}
	unpin()
	if rep := w.purge(true, kvstore.Selection{KeepBytes: &zero}); rep.Segments != 2 {
		t.Errorf("after unpin: %+v", rep)
	}
}

// TestPurgeFailures: a file that cannot be removed counts as failed and is nobody's.
func TestPurgeFailures(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	ids := w.save(newTalk(1, 64))
	w.arm("kv.unlink=eacces:times=1")
	rep := w.purge(true, kvstore.Selection{OlderThan: time.Nanosecond})
	if rep.Failed != 1 || rep.Segments != 1 || w.s.Has(ids[0]) || w.s.Has(ids[1]) || w.s.Stats().ForeignBytes == 0 {
		t.Errorf("%+v, %+v", rep, w.s.Stats())
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w.save(newTalk(2, 64))
	if rep, err := w.s.Purge(ctx, kvstore.Selection{OlderThan: time.Nanosecond}); !errors.Is(err, context.Canceled) || rep.Segments != 0 {
		t.Errorf("cancelled: %+v, %v", rep, err)
	}
	if n := w.restore(newTalk(2, 64)); n != 64 {
		t.Errorf("after a cancelled purge restored %d", n)
	}
	w.reopen(func(o *kvstore.Options) { o.FS = w.fs })
	reader := w.opt
	reader.Log, reader.FS = w.logf, w.fs
	second, err := kvstore.Open(reader)
	must(t, err)
	defer second.Close(context.Background())
	if _, err := second.Purge(context.Background(), kvstore.Selection{OlderThan: time.Nanosecond}); !errors.Is(err, kvstore.ErrReadOnly) {
		t.Errorf("a reader purges: %v", err)
	}
	if _, err := second.Readmit("x"); !errors.Is(err, kvstore.ErrReadOnly) {
		t.Errorf("a reader restores: %v", err)
	}
}

// TestSelectionCheck: nothing and too much are refused.
func TestSelectionCheck(t *testing.T) {
	minus := int64(-1)
	for _, sel := range []kvstore.Selection{{}, {DryRun: true}, {All: true, OlderThan: 1}, {All: true, Quarantine: true}, {OlderThan: -1},
		{KeepBytes: &minus}, {Identity: "abc"}, {Identity: strings.Repeat("a", 65)}, {Identity: "ABCDEF01"}, {Quarantine: true, Identity: "abcdef01"}} {
		if err := sel.Check(); !errors.Is(err, kvstore.ErrSelection) {
			t.Errorf("%+v: %v", sel, err)
		}
	}
}

// TestToolHoldsFolder: a server that starts while a tool works, or looks, waits for
// it and is no reader for the rest of its life. Of a server it does not wait for long.
func TestToolHoldsFolder(t *testing.T) {
	for _, c := range []struct {
		info     string
		refusals int // until the lock is given back
		reader   bool
	}{
		{`{"pid":7,"tool":"ds4 kv purge"}`, 12, false},
		{`{"pid":7}`, 2, false},
		{`{"pid":7}`, 12, true},
	} {
		m := errfs.NewMem()
		w := newWorld(t, m)
		w.save(newTalk(1, 32))
		w.close()
		lock, err := m.Lock(dir + "/LOCK")
		must(t, err)
		must(t, lock.SetInfo([]byte(c.info)))
		w.opt.FS = &busyLock{FS: m, left: c.refusals, free: func() { must(t, lock.Close()) }}
		w.open()
		if reader, why := w.s.ReadOnly(); reader != c.reader {
			t.Errorf("%s, %d refusals: read-only %v %s", c.info, c.refusals, reader, why)
		}
		w.close()
	}
}

// busyLock calls free after so many refused locks.
type busyLock struct {
	vfs.FS
	left int
	free func()
}

func (f *busyLock) Lock(name string) (vfs.Locker, error) {
	l, err := f.FS.Lock(name)
	if err != nil {
		if f.left--; f.left == 0 {
			f.free()
		}
	}
	return l, err
}

// putSegment writes a segment file and returns its id.
func putSegment(t tester, fsys vfs.FS, k *segmentFile) string {
	t.Helper()
	enc := mustEncode(t, k)
	put(t, fsys, path.Join(dir, "segments", enc.ID.String()[:2], enc.ID.String()+".kv"), slices.Concat(enc.Parts()...))
	return enc.ID.String()
}
