package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore"
)

// phase is one thing that a store does, on a disk that is good until it begins.
type phase struct {
	name    string
	prepare func(w *world) // on a good disk
	change  func(*kvstore.Options)
	restart bool           // the store is opened on the failing disk
	act     func(w *world) // what must not go wrong beyond what the fault explains
}

var sweepA = newTalk(1, 96)

func sweepPhases() []phase {
	save := func(w *world) { w.save(sweepA) }
	tight := func(o *kvstore.Options) {
		room(4)(o)
		o.QuarantineBytes = 4 << 10
	}
	return []phase{
		{name: "save", prepare: func(w *world) { w.save(sweepA[:32]) }, act: func(w *world) { w.trySave(sweepA) }},
		{name: "restore", prepare: func(w *world) { w.save(newTalk(5, 32)); w.save(sweepA) }, act: func(w *world) {
			if in, err := w.s.BeginInflight(w.s.Lookup(sweepA.text())); err == nil {
				in.Phase("forward")
				w.tryRestore(sweepA)
				in.Done()
			}
		}},
		{name: "evict", change: tight, prepare: save, act: func(w *world) { w.trySave(newTalk(2, 64)) }},
		{name: "recover", change: tight, restart: true, prepare: func(w *world) {
			ids := w.save(sweepA)
			w.s.Convict(w.save(newTalk(3, 32)), "test")
			w.begin(sweepA)
			w.overwrite(file(ids[2]), func(b []byte) []byte { return b[:len(b)/2] })
			w.killed()
			w.begin(sweepA) // of a process that dies, once more
			w.fs = w.fs.(*errfs.Mem).KillClone()
			put(w.t, w.fs, dir+"/tmp/half", []byte("half"))
			put(w.t, w.fs, dir+"/notes", []byte("somebody's"))
		}, act: func(w *world) { w.tryRestore(sweepA) }},
		{name: "journal", prepare: save, act: func(w *world) {
			c := w.s.Lookup(sweepA.text())
			w.s.Strike(c.IDs[:1], "test") // the first record: a rewrite
			w.s.Withhold(c.IDs, "test")
			w.s.Release(c.IDs)
			w.tryRestore(sweepA)
			w.s.Settle()
		}},
		{name: "quarantine", change: tight, prepare: func(w *world) {
			w.save(sweepA)
			w.s.Convict(w.save(newTalk(3, 32)), "test")
			w.s.Convict(w.save(newTalk(4, 32)), "test")
		}, act: func(w *world) { w.s.Convict(w.s.Lookup(sweepA.text()).IDs, "test") }},
		{name: "clear", prepare: func(w *world) {
			w.s.Convict(w.save(newTalk(3, 32)), "test")
			w.save(sweepA)
		}, act: func(w *world) { w.s.Clear() }},
	}
}

// TestNthOperationFails lets the 1st, 2nd, 3rd ... operation of each kind fail in
// each phase of a store's life, once or from then on, until one passes without a
// failure. Nothing wrong is restored, health says what is not done, and when the
// fault is over the store works again.
func TestNthOperationFails(t *testing.T) {
	runs, hits := 0, map[string]int{}
	for _, ph := range sweepPhases() {
		base := ph.base(t)
		for _, op := range errfs.Ops() {
			for _, action := range []string{"enospc", "eio", "eacces", "short(60%)", "part=50%:enospc"} {
				if strings.HasPrefix(action, "part") && op != errfs.OpWrite {
					continue
				}
				for _, sticky := range []string{"", ":every"} {
					for n := 1; ; n += stride {
						rule := errfs.MustParse(fmt.Sprintf("%s:nth=%d%s:%s", op, n, sticky, action))
						fired := false
						t.Run(ph.name+"/"+rule.String(), func(t *testing.T) { fired = ph.run(t, base.KillClone(), rule) })
						if runs++; t.Failed() {
							t.Fatalf("run again: go test ./runtime/kvstore -run 'TestNthOperationFails/%s/%s'", ph.name, rule)
						}
						if !fired {
							break
						}
						hits[ph.name+" "+string(op)]++
					}
				}
			}
		}
	}
	t.Logf("%d runs; failures by phase and operation: %v", runs, hits)
	for _, want := range []string{"save create", "save write", "save sync", "save close", "save rename", "save syncdir", "save mkdir",
		"restore open", "restore read", "restore create", "restore rename", "evict remove", "recover lock", "recover lstat", "recover readdir",
		"recover open", "recover read", "recover remove", "recover rename", "recover mkdir", "recover syncdir", "journal append",
		"journal create", "journal rename", "quarantine rename", "quarantine create", "quarantine remove", "clear remove"} {
		if hits[want] == 0 {
			t.Errorf("no %s was hit", want)
		}
	}
}

// base returns the disk on which the phase begins.
func (ph phase) base(t *testing.T) *errfs.Mem {
	w := newWorld(t, errfs.NewMem(), ph.options)
	ph.prepare(w)
	_ = w.s.Close(context.Background())
	return w.fs.(*errfs.Mem)
}

func (ph phase) options(o *kvstore.Options) {
	o.Readers = 1
	if ph.change != nil {
		ph.change(o)
	}
}

// run goes through the phase with a rule and reports whether it fired.
func (ph phase) run(t *testing.T, mem *errfs.Mem, rule errfs.Rule) bool {
	fsys := errfs.Wrap(mem)
	if ph.restart {
		fsys.SetRules(rule)
	}
	w := newWorld(t, fsys, ph.options)
	if !ph.restart {
		fsys.SetRules(rule)
	}
	ph.act(w)
	w.s.Settle()
	fired := fsys.Fired() > 0
	ok, why := w.s.Health()
	st := w.s.Stats()
	switch {
	case strings.HasPrefix(why, "off: ") || strings.HasPrefix(why, "read-only: "):
		if !ph.restart || !fired {
			t.Errorf("health %q", why)
		}
	case ok && st.StoreFailed > 0 && st.Stored == 0:
		t.Errorf("nothing could be stored, and health says nothing of it\n%s", w.dumpLog())
	case !ok && (st.StoreFailed == 0 || !strings.HasPrefix(why, "not storing: ")):
		t.Errorf("health %q with %d failed writes", why, st.StoreFailed)
	}

	fsys.SetRules()
	w.advance(kvBackoff)
	c := newTalk(99, 64)
	if ok || strings.HasPrefix(why, "not storing") {
		// What could not be removed takes up room until the next start.
		full := w.logged("cannot remove", "ignored from now on") > 0
		if _, err := w.trySave(c); err != nil && !full {
			t.Errorf("after the fault a save: %v", err)
		}
		if ok, why := w.s.Health(); !ok || w.restore(c) != 64 && !full {
			t.Errorf("after the fault: health %q, restored %d\n%s", why, w.restore(c), w.dumpLog())
		}
	}
	w.restore(sweepA)
	w.reopen()
	ph.after(t, w, mem, c)
	return fired
}

// after looks at the next process: it works, and has cleaned up.
func (ph phase) after(t *testing.T, w *world, mem *errfs.Mem, c talk) {
	if ok, why := w.s.Health(); !ok {
		t.Errorf("the next process: health %q", why)
	}
	if left := append(w.names("tmp"), w.names("inflight")...); len(left) > 0 {
		t.Errorf("the next process leaves %v", left)
	}
	w.save(c)
	if n := w.restore(c); n != 64 {
		t.Errorf("the next process restored %d\n%s", n, w.dumpLog())
	}
	if n := w.restore(sweepA); n < 96 && ph.name == "restore" && w.logged("load failed") == 0 {
		t.Errorf("the next process restored %d of what nobody blamed\n%s", n, w.dumpLog())
	}
	if st := w.s.Stats(); st.UsedBytes > st.BudgetBytes || mem.Used() > st.BudgetBytes {
		t.Errorf("used %d, on disk %d, budget %d", st.UsedBytes, mem.Used(), st.BudgetBytes)
	}
	if err := w.s.Close(context.Background()); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
