package kvstore_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"ds4/faults/errfs"
	"ds4/runtime/failpoint"
	"ds4/runtime/kvstore"
)

// room returns a budget for so many segments of 32 tokens.
func room(n int) func(*kvstore.Options) {
	return func(o *kvstore.Options) {
		o.BudgetBytes = 64<<10 + int64(n)*layout().FileBytes(32, 64, 64) + 600
	}
}

// TestBudget: the total stays below it whatever is stored, leaves go before
// their parents, and what was just written stays.
func TestBudget(t *testing.T) {
	m := errfs.NewMem()
	w := newWorld(t, m, room(10))
	for i := range uint64(20) {
		a := newTalk(100, 64).then(newTalk(i, 64))
		w.save(a)
		if n := w.restore(a); n != 128 {
			t.Fatalf("talk %d: restored %d right after saving", i, n)
		}
		if st := w.s.Stats(); st.UsedBytes > st.BudgetBytes || m.Used() > st.BudgetBytes {
			t.Fatalf("used %d, on disk %d, budget %d", st.UsedBytes, m.Used(), st.BudgetBytes)
		}
		list := w.s.List()
		for _, e := range list {
			if e.State != kvstore.StateOK {
				t.Fatalf("%+v: a parent went before its child", e)
			}
		}
	}
	if got := w.s.Stats().Evictions["disk-cache-full"]; got == 0 {
		t.Error("nothing was evicted")
	}
	if w.logged("kv cache evicted reason=disk-cache-full tokens=", "hits=", "MiB file=/cache/segments/") == 0 {
		t.Errorf("log:\n%s", w.dumpLog())
	}
	w.reopen(room(3))
	if st := w.s.Stats(); st.UsedBytes > st.BudgetBytes || st.Segments == 0 {
		t.Errorf("a smaller budget at start: %d segments, used %d of %d", st.Segments, st.UsedBytes, st.BudgetBytes)
	}
}

// TestScore: hits protect, and fade.
func TestScore(t *testing.T) {
	old, hot := newTalk(1, 32), newTalk(2, 32)
	w := newWorld(t, errfs.NewMem(), room(3))
	w.save(old)
	w.save(hot)
	w.restore(hot)
	w.restore(hot)
	w.advance(time.Minute)
	w.restore(old) // used later, but less often
	w.save(newTalk(3, 64))
	if a, b := w.restore(old), w.restore(hot); a != 0 || b != 32 {
		t.Errorf("old %d, hot %d", a, b)
	}
	w.reopen() // hits are in the journal
	w.advance(30 * 24 * time.Hour)
	fresh := newTalk(4, 32)
	w.save(fresh) // evicts a leaf of talk 3, which nobody used
	w.restore(fresh)
	w.restore(fresh)
	w.save(newTalk(5, 64))
	if a, b := w.restore(fresh), w.restore(hot); a != 32 || b != 0 {
		t.Errorf("a month later: fresh %d, once hot %d", a, b)
	}
}

// TestPinned: the chain of a waiting request is there when its turn comes.
func TestPinned(t *testing.T) {
	a := newTalk(1, 64)
	w := newWorld(t, errfs.NewMem(), room(4))
	w.save(a)
	c := w.s.Lookup(a.text())
	unpin := w.s.Pin(c)
	for i := range uint64(6) {
		_, _ = w.trySave(newTalk(10+i, 64))
	}
	if n, err := w.restoreChain(c, a); n != 64 {
		t.Fatalf("pinned chain: restored %d, %v", n, err)
	}
	unpin()
	unpin()
	for i := range uint64(6) {
		w.advance(24 * time.Hour)
		_, _ = w.trySave(newTalk(20+i, 96))
	}
	if n := w.restore(a); n == 64 {
		t.Error("unpinned and never used again, but still there")
	}
}

// TestTooBig: a segment that can never fit evicts nothing.
func TestTooBig(t *testing.T) {
	a := newTalk(1, 32)
	w := newWorld(t, errfs.NewMem(), room(3))
	w.save(a)
	big := newTalk(2, 2000)
	if _, err := w.s.Save(context.Background(), big.segment("", 0, 2000)); err != nil {
		t.Fatal(err)
	}
	must(t, w.s.Flush(context.Background()))
	if w.logged("kv cache store skipped (continued): size=", "exceeds the budget") != 1 || w.restore(a) != 32 {
		t.Errorf("log:\n%s", w.dumpLog())
	}
	if ok, why := w.s.Health(); !ok {
		t.Errorf("health: %s", why)
	}
	// Its child has no parent on disk.
	if _, err := w.s.Save(context.Background(), big.then(newTalk(3, 32)).segment(bigID(t, w, big), 2000, 2032)); err == nil {
		t.Error("a child of what was not stored")
	}
}

func bigID(t *testing.T, w *world, a talk) string {
	t.Helper()
	id, err := w.s.Save(context.Background(), a.segment("", 0, len(a)))
	must(t, err)
	must(t, w.s.Flush(context.Background()))
	return id
}

// TestForeignFilesCount: they stay, and leave less room.
func TestForeignFilesCount(t *testing.T) {
	m := errfs.NewMem()
	size := layout().FileBytes(32, 64, 64)
	put(t, m, dir+"/notes.txt", make([]byte, 2*size))
	put(t, m, dir+"/segments/ab/strange", make([]byte, size))
	put(t, m, dir+"/sub/dir/file", make([]byte, size))
	w := newWorld(t, m, room(6))
	if got := w.s.Stats().ForeignBytes; got != 4*size {
		t.Errorf("foreign %d, want %d", got, 4*size)
	}
	for i := range uint64(5) {
		_, _ = w.trySave(newTalk(i, 32))
	}
	if st := w.s.Stats(); st.Segments > 2 || st.Segments == 0 || m.Used() > st.BudgetBytes {
		t.Errorf("%d segments, on disk %d, budget %d", st.Segments, m.Used(), st.BudgetBytes)
	}
	if !w.exists(dir+"/notes.txt") || !w.exists(dir+"/sub/dir/file") {
		t.Error("foreign files were removed")
	}
}

// TestUnlinkFails: dropped from the index, counted, warned about once, and the
// loop ends.
func TestUnlinkFails(t *testing.T) {
	m := errfs.NewMem()
	w := newWorld(t, m, room(3))
	for i := range uint64(3) {
		w.save(newTalk(i, 32))
		w.advance(time.Second)
	}
	w.arm("kv.unlink=eacces:nth=1")
	w.save(newTalk(9, 32))
	if st := w.s.Stats(); st.UnlinkFailed != 1 || st.UsedBytes > st.BudgetBytes || m.Used() > st.BudgetBytes {
		t.Errorf("%+v", st)
	}
	if w.logged("kv cache cannot remove") != 1 || w.restore(newTalk(9, 32)) != 32 || w.restore(newTalk(0, 32)) != 0 {
		t.Errorf("log:\n%s", w.dumpLog())
	}
	failpoint.Disarm()
	w.arm("kv.unlink=eacces")
	for i := range uint64(5) {
		w.advance(2 * time.Minute)
		_, _ = w.trySave(newTalk(20+i, 32))
	}
	if st := w.s.Stats(); st.UsedBytes > st.BudgetBytes {
		t.Errorf("used %d of %d", st.UsedBytes, st.BudgetBytes)
	}
}

// TestFullDisk: a tenth is given back, the write tried again; then the store
// pauses and comes back.
func TestFullDisk(t *testing.T) {
	m := errfs.NewMem()
	w := newWorld(t, m)
	for i := range uint64(20) {
		w.save(newTalk(i, 32))
		w.advance(time.Second)
	}
	m.SetCapacity(m.Used() + 500)
	a := newTalk(50, 32)
	w.save(a)
	if n := w.restore(a); n != 32 || w.s.Stats().Evictions["device-full"] == 0 {
		t.Errorf("restored %d, evictions %v\n%s", n, w.s.Stats().Evictions, w.dumpLog())
	}
	// Somebody else took the rest: nothing helps.
	m.SetCapacity(1)
	b := newTalk(51, 32)
	_, _ = w.trySave(b)
	if ok, why := w.s.Health(); ok || why == "" {
		t.Errorf("health %v %q", ok, why)
	}
	if _, err := w.trySave(b); err == nil {
		t.Error("no pause after a failed write")
	}
	if n := w.restore(b); n != 0 {
		t.Errorf("restored %d", n)
	}
	if got := w.names("tmp"); len(got) != 0 {
		t.Errorf("temps %v", got)
	}
	m.SetCapacity(0)
	w.advance(2 * time.Second)
	w.save(b)
	if n := w.restore(b); n != 32 {
		t.Errorf("after the pause restored %d", n)
	}
	if ok, why := w.s.Health(); !ok {
		t.Error(why)
	}
}

// TestBackoffGrows from one second to a minute.
func TestBackoffGrows(t *testing.T) {
	w := newWorld(t, errfs.NewMem(), func(o *kvstore.Options) { o.QuarantineBytes = 0 })
	w.arm("kv.fsync=eio")
	for i := range uint64(8) {
		w.advance(2 * time.Minute)
		_, _ = w.trySave(newTalk(i, 32))
	}
	for i, want := range []string{"1s", "2s", "4s", "8s", "16s", "32s", "1m0s", "1m0s"} {
		if got := w.logged("kv cache store failed", "next try in "+want); got == 0 || want == "1m0s" && got != 2 {
			t.Errorf("pause %d of %s: %d lines\n%s", i, want, got, w.dumpLog())
		}
	}
}

func TestClear(t *testing.T) {
	m := errfs.NewMem()
	w := newWorld(t, m)
	a, b := newTalk(1, 96), newTalk(2, 64)
	w.save(a)
	w.s.Convict(w.save(b), "x")
	put(t, m, dir+"/notes.txt", []byte("mine"))
	f, err := w.s.Clear()
	must(t, err)
	if f.Segments != 4 || f.Quarantined != 1 || f.Failed != 0 || f.Bytes == 0 {
		t.Errorf("freed %+v", f)
	}
	if w.restore(a) != 0 || len(w.names("quarantine")) != 0 || !w.exists(dir+"/notes.txt") {
		t.Error("not cleared, or too much")
	}
	w.save(a)
	if n := w.restore(a); n != 96 {
		t.Errorf("then restored %d", n)
	}
}

// TestList: List is sorted and complete.
func TestList(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	ids := w.save(newTalk(1, 96))
	list := w.s.List()
	if len(list) != 3 || list[0].ID != ids[0] || list[2].Parent != ids[1] || list[2].To != 96 || list[1].Text != 64 {
		t.Errorf("%+v", list)
	}
	if !slices.IsSortedFunc(list, func(a, b kvstore.Entry) int { return a.From - b.From }) {
		t.Error("not sorted")
	}
}
