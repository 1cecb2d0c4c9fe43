package kvstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"ds4/faults/errfs"
	"ds4/runtime/failpoint"
	"ds4/runtime/kvstore"
	"ds4/runtime/vfs"
)

func (w *world) strikes(id string) int {
	for _, e := range w.s.List() {
		if e.ID == id {
			return e.Strikes
		}
	}
	return -1
}

func (w *world) begin(a talk) *kvstore.Inflight {
	w.t.Helper()
	in, err := w.s.BeginInflight(w.s.Lookup(a.text()))
	if err != nil {
		w.t.Fatal(err)
	}
	return in
}

// TestDeathInRestore: a process that dies between marker and success gives each
// segment of the chain a strike; the second death is the last one.
func TestDeathInRestore(t *testing.T) {
	a := newTalk(1, 64)
	w := newWorld(t, errfs.NewMem())
	ids := w.save(a)
	other := newTalk(2, 32)
	w.save(other)
	w.begin(a)
	if got := w.names("inflight"); len(got) != 1 {
		t.Fatalf("markers %v", got)
	}
	w.killed()
	if w.strikes(ids[0]) != 1 || w.strikes(ids[1]) != 1 || w.logged("kv cache strike segments=2 quarantined=0", "phase restore") != 1 {
		t.Errorf("strikes %d %d\n%s", w.strikes(ids[0]), w.strikes(ids[1]), w.dumpLog())
	}
	if n := w.restore(a); n != 64 {
		t.Errorf("after one strike: restored %d", n)
	}
	w.begin(a).Phase("forward")
	w.reopenKilled(t)
	if w.logged("phase forward") != 1 || len(w.quarantined()) != 2 || w.s.Stats().Recovery.Poisoned != 2 {
		t.Errorf("quarantined %v\n%s", w.quarantined(), w.dumpLog())
	}
	if n := w.restore(a); n != 0 {
		t.Errorf("a poisoned chain restored %d", n)
	}
	if n := w.restore(other); n != 32 {
		t.Errorf("an innocent one restored %d", n)
	}
	w.reopenKilled(t)
	if n := w.restore(a); n != 0 {
		t.Errorf("third start: restored %d", n)
	}
}

// reopenKilled kills the process after everything that was noted without waiting
// has reached the disk: the marker of a chain that nobody knows goes behind it.
func (w *world) reopenKilled(t *testing.T) {
	t.Helper()
	_, err := w.s.BeginInflight(kvstore.Chain{IDs: []string{strings.Repeat("cd", 20)}})
	must(t, err)
	w.killed()
}

// TestStruckIsCheckedInFull: after a strike, bytes that a restore would not look
// at are looked at.
func TestStruckIsCheckedInFull(t *testing.T) {
	a := newTalk(1, 96)
	w := newWorld(t, errfs.NewMem())
	ids := w.save(a)
	w.overwrite(file(ids[1]), func(b []byte) []byte { b[len(b)-100] ^= 1; return b }) // frontier: not needed for 96
	if n := w.restore(a); n != 96 {
		t.Fatalf("restored %d", n)
	}
	w.s.Strike(ids, "test")
	if n := w.restore(a); n != 32 {
		t.Errorf("after a strike restored %d", n)
	}
	if w.logged("kv cache load failed", "full check after a strike") != 1 {
		t.Errorf("log:\n%s", w.dumpLog())
	}
}

// TestMarkerEnds: success takes strikes away, cancellation and a clean shutdown
// do not add any.
func TestMarkerEnds(t *testing.T) {
	a := newTalk(1, 64)
	w := newWorld(t, errfs.NewMem())
	ids := w.save(a)
	w.begin(a)
	w.killed()
	in := w.begin(a)
	in.Cancel()
	in.Done() // too late to count
	w.reopen()
	if w.strikes(ids[1]) != 1 || len(w.names("inflight")) != 0 {
		t.Errorf("after a cancel: %d strikes, markers %v", w.strikes(ids[1]), w.names("inflight"))
	}
	w.begin(a).Done()
	w.reopen()
	if w.strikes(ids[1]) != 0 {
		t.Errorf("after success: %d strikes", w.strikes(ids[1]))
	}
	w.begin(a) // neither done nor cancelled when the server shuts down
	w.reopen()
	if w.strikes(ids[1]) != 0 {
		t.Errorf("after a shutdown: %d strikes", w.strikes(ids[1]))
	}
}

// TestMachineDied: a marker of another boot is enough.
func TestMachineDied(t *testing.T) {
	a := newTalk(1, 64)
	w := newWorld(t, errfs.NewMem())
	w.save(a)
	w.begin(a)
	w.killed(func(o *kvstore.Options) { o.BootID = "boot-2" })
	if n := w.restore(a); n != 0 || len(w.quarantined()) != 2 {
		t.Errorf("restored %d, quarantined %v", n, w.quarantined())
	}
}

// TestMarkerCountsOnce: a marker that cannot be removed adds no second strike.
func TestMarkerCountsOnce(t *testing.T) {
	a := newTalk(1, 64)
	m := errfs.NewMem()
	w := newWorld(t, m)
	ids := w.save(a)
	w.begin(a)
	f := errfs.Wrap(m.KillClone(), errfs.MustParse("remove:path="+dir+"/inflight/*:every:eio"))
	w.close()
	w.opt.FS, w.fs = f, f
	for i := range 3 {
		w.open()
		if got := w.strikes(ids[1]); got != 1 || f.Fired() != i+1 {
			t.Fatalf("%d strikes from one death, %d removals failed\n%s", got, f.Fired(), w.dumpLog())
		}
		w.close()
	}
}

// TestNoMarkerNoRestore: a marker that cannot be written is an error, and on a
// full disk something is given up for it.
func TestNoMarkerNoRestore(t *testing.T) {
	a := newTalk(1, 96)
	m := errfs.NewMem()
	w := newWorld(t, m)
	w.save(a)
	w.arm("kv.inflight=eio:nth=1")
	if in, err := w.s.BeginInflight(w.s.Lookup(a.text())); err == nil || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("%v, %v", in, err)
	}
	failpoint.Disarm()
	m.SetCapacity(m.Used())
	in := w.begin(a)
	if got := w.s.Stats().Evictions["device-full"]; got != 1 {
		t.Errorf("%d evictions for the marker\n%s", got, w.dumpLog())
	}
	in.Cancel()
	m.SetCapacity(0)
}

// TestProbation: withheld, released, convicted.
func TestProbation(t *testing.T) {
	a := newTalk(1, 96)
	b := a[:32].then(newTalk(2, 64))
	w := newWorld(t, errfs.NewMem())
	ids, idsB := w.save(a), w.save(b)
	w.s.Withhold(ids, "Metal graph embed tokens failed")
	w.s.Withhold(ids, "twice is once")
	if n := w.restore(a); n != 0 {
		t.Errorf("on probation: restored %d", n)
	}
	if w.strikes(ids[2]) != 1 || w.s.Stats().Withheld != 3 {
		t.Errorf("strikes %d, withheld %d", w.strikes(ids[2]), w.s.Stats().Withheld)
	}
	// The strike outlives the process, probation does not.
	w.killed()
	if n := w.restore(a); n != 96 || w.strikes(ids[2]) != 1 {
		t.Errorf("after a death on probation: restored %d, strikes %d", n, w.strikes(ids[2]))
	}
	w.begin(a).Done()
	w.s.Withhold(ids, "again")
	w.s.Release(ids) // the device was the suspect
	if n := w.restore(a); n != 96 || w.strikes(ids[2]) != 0 || len(w.quarantined()) != 0 {
		t.Errorf("released: restored %d, strikes %d, quarantined %v", n, w.strikes(ids[2]), w.quarantined())
	}
	w.s.Withhold(ids, "again")
	w.s.Convict(ids, "a cold prefill worked")
	if n := w.restore(a); n != 64 || w.strikes(ids[1]) != 1 {
		t.Errorf("convicted: restored %d, strikes of the others %d", n, w.strikes(ids[1]))
	}
	if got := w.quarantined(); len(got) != 1 || !strings.HasPrefix(got[0], ids[2]+".") || !strings.HasSuffix(got[0], ".convicted.kv") {
		t.Errorf("quarantined %v", got)
	}
	if w.logged("kv cache convicted key="+ids[2]+" tokens=96") != 1 || w.logged("kv cache quarantined key="+ids[2]+" why=convicted") != 1 {
		t.Errorf("log:\n%s", w.dumpLog())
	}
	// The shared first segment has one strike; a second conviction takes it too.
	w.s.Withhold(idsB, "again")
	w.s.Convict(idsB, "a cold prefill worked")
	if n := w.restore(b); n != 0 || len(w.quarantined()) != 3 {
		t.Errorf("restored %d, quarantined %v", n, w.quarantined())
	}
	w.killed()
	if n := w.restore(a); n != 0 {
		t.Errorf("after a restart %d", n)
	}
}

// TestConvictedTwiceIsNotStored again: the same text would fail the same way.
func TestConvictedTwiceIsNotStored(t *testing.T) {
	a := newTalk(1, 32)
	w := newWorld(t, errfs.NewMem())
	for i := range 2 {
		ids := w.save(a)
		if n := w.restore(a); n != 32 {
			t.Fatalf("round %d: restored %d: a fresh file gets a chance", i, n)
		}
		w.s.Convict(ids, "test")
		w.killed()
		if n := w.restore(a); n != 0 {
			t.Fatalf("round %d: restored %d", i, n)
		}
	}
	if _, err := w.s.Save(context.Background(), a.segment("", 0, 32)); !errors.Is(err, kvstore.ErrRefused) {
		t.Errorf("third save: %v", err)
	}
	if _, err := w.s.Clear(); err != nil {
		t.Fatal(err)
	}
	w.save(a) // a cleared cache has no past
}

// TestCannotQuarantine: the file is removed; if that fails too it is not loaded,
// not even by the next process.
func TestCannotQuarantine(t *testing.T) {
	a := newTalk(1, 32)
	w := newWorld(t, errfs.NewMem())
	ids := w.save(a)
	w.arm("kv.quarantine=eio")
	w.s.Convict(ids, "test")
	if w.exists(file(ids[0])) || w.restore(a) != 0 {
		t.Error("neither moved nor removed")
	}
	failpoint.Disarm()
	w.advance(time.Second)
	w.save(a)
	w.arm("kv.quarantine=eio", "kv.unlink=eacces")
	w.s.Convict(ids, "test")
	if !w.exists(file(ids[0])) || w.restore(a) != 0 || w.logged("kv cache cannot quarantine") != 1 {
		t.Errorf("log:\n%s", w.dumpLog())
	}
	if st := w.s.Stats(); st.ForeignBytes == 0 {
		t.Error("the file does not count")
	}
	failpoint.Disarm()
	w.killed()
	if n := w.restore(a); n != 0 || w.s.Stats().Recovery.Poisoned != 1 {
		t.Errorf("the next process restored %d\n%s", n, w.dumpLog())
	}
}

func TestQuarantineNoteAndBudget(t *testing.T) {
	w := newWorld(t, errfs.NewMem(), func(o *kvstore.Options) { o.QuarantineBytes = 6 << 10 })
	var all []string
	for i := range uint64(9) {
		ids := w.save(newTalk(i, 32))
		w.advance(time.Second)
		w.s.Convict(ids, "because")
		all = append(all, ids[0])
	}
	got := w.quarantined()
	if len(got) < 2 || len(got) > 4 {
		t.Errorf("%d files within 6 KiB", len(got))
	}
	for _, id := range all[len(all)-2:] {
		if !slices.ContainsFunc(got, func(f string) bool { return strings.HasPrefix(f, id) }) {
			t.Errorf("the youngest are gone: %v", got)
		}
	}
	data, err := vfs.ReadFile(w.fs, dir+"/quarantine/"+strings.TrimSuffix(got[0], ".kv")+".json", 1<<16)
	must(t, err)
	var note map[string]any
	must(t, json.Unmarshal(data, &note))
	if note["why"] != "convicted" || note["error"] != "because" || note["to"] != 32.0 || strings.Contains(string(data), "\xff") {
		t.Errorf("note %s", data)
	}
	list, err := w.s.Quarantined(t.Context())
	must(t, err)
	if len(list) != len(got) || list[0].ID != all[len(all)-1] || list[0].Why != "convicted" || list[0].Error != "because" || list[0].To != 32 {
		t.Errorf("the quarantine is %+v, want the youngest first: %v", list, got)
	}
	before := w.s.Stats().QuarantineBytes
	w.reopen()
	if after := w.s.Stats(); after.QuarantineBytes != before || after.QuarantineFiles != len(got) {
		t.Errorf("quarantine of %d bytes is %d after a restart", before, after.QuarantineBytes)
	}
	w.reopen(func(o *kvstore.Options) { o.QuarantineBytes = 0 })
	w.s.Convict(w.save(newTalk(50, 32)), "x")
	if got := w.names("quarantine"); len(got) != 0 {
		t.Errorf("a quarantine of 0 keeps %v", got)
	}
}

// TestSwitchedOff: what the mutation run of the recovery suite switches off is
// off.
func TestSwitchedOff(t *testing.T) {
	a := newTalk(1, 64)
	w := newWorld(t, errfs.NewMem(), func(o *kvstore.Options) { o.Unsafe = kvstore.Unsafe{NoInflight: true, NoConvict: true} })
	ids := w.save(a)
	w.begin(a)
	w.s.Withhold(ids, "x")
	w.s.Convict(ids, "x")
	w.s.Strike(ids, "x")
	w.s.Strike(ids, "x")
	if n := w.restore(a); n != 64 || len(w.names("inflight")) != 0 {
		t.Errorf("restored %d", n)
	}
	for range 4 {
		w.begin(a)
		w.killed()
	}
	if n := w.restore(a); n != 64 {
		t.Errorf("after four deaths: restored %d", n)
	}
}
