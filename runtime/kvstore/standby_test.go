package kvstore_test

import (
	"context"
	"errors"
	"testing"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore"
)

// onProbation is a store with one segment on probation, and the talk whose
// beginning it is.
func onProbation(t *testing.T, change ...func(*kvstore.Options)) (w *world, a talk, id string) {
	t.Helper()
	a = newTalk(1, 2*segTokens)
	w = newWorld(t, errfs.NewMem(), change...)
	id = w.save(a[:segTokens])[0]
	w.s.Withhold([]string{id}, "test")
	return w, a, id
}

// settle waits until the keeper has carried out what it was told before.
func (w *world) settle() {
	w.t.Helper()
	in, err := w.s.BeginInflight(kvstore.Chain{IDs: []string{kvID}})
	if err != nil {
		w.t.Fatal(err)
	}
	in.Cancel()
}

const kvID = "00112233445566778899aabbccddeeff00112233"

// TestConvictedSegmentIsRenewed: what a cold attempt saves while a chain is on
// probation takes the place of what is found guilty, so that what follows it is
// not lost with it.
func TestConvictedSegmentIsRenewed(t *testing.T) {
	w, a, id := onProbation(t)
	if w.restore(a) != 0 {
		t.Error("what is on probation was offered")
	}
	w.save(a)
	if got, st := w.names("tmp"), w.s.Stats(); len(got) != 1 || st.Copies != 1 || st.TempBytes != size(t, w.fs, dir+"/tmp/"+got[0]) {
		t.Errorf("copies that stand by: %v, %+v", got, st)
	}
	w.s.Convict([]string{id}, "test")
	if q, st := w.quarantined(), w.s.Stats(); len(q) != 1 || len(w.names("tmp")) != 0 || st.Copies != 0 || st.TempBytes != 0 {
		t.Errorf("in quarantine %v, in tmp %v", q, w.names("tmp"))
	}
	if n := w.restore(a); n != len(a) {
		t.Errorf("restored %d\n%s", n, w.dumpLog())
	}
	w.killed()
	if n := w.restore(a); n != len(a) || w.s.Stats().Recovery.Poisoned != 0 {
		t.Errorf("after kill -9 restored %d\n%s", n, w.dumpLog())
	}
	for _, e := range w.s.List() {
		if e.Strikes != 0 {
			t.Errorf("the copy has a strike: %+v", e)
		}
	}
}

// TestVerdictBeforeTheCopyIsWritten: the copy is in the queue while its segment
// is moved away.
func TestVerdictBeforeTheCopyIsWritten(t *testing.T) {
	w, a, id := onProbation(t)
	w.arm("kv.fsync=delay(30ms):times=1")
	for from, parent := 0, ""; from < len(a); from += segTokens {
		var err error
		parent, err = w.s.Save(context.Background(), a.segment(parent, from, from+segTokens))
		must(t, err)
	}
	w.s.Convict([]string{id}, "test")
	must(t, w.s.Flush(context.Background()))
	if n := w.restore(a); n != len(a) || len(w.quarantined()) != 1 || len(w.names("tmp")) != 0 {
		t.Errorf("restored %d, in tmp %v\n%s", n, w.names("tmp"), w.dumpLog())
	}
}

// TestCopiesThatAreNotNeeded leave nothing behind.
func TestCopiesThatAreNotNeeded(t *testing.T) {
	for name, end := range map[string]func(w *world, id string){
		"released": func(w *world, id string) { w.s.Release([]string{id}) },
		"struck only": func(w *world, id string) {
			w.s.Convict(append([]string{id}, w.s.Lookup(newTalk(9, segTokens).text()).IDs...), "test")
		},
		"cleared": func(w *world, _ string) { _, _ = w.s.Clear() },
		"closed":  func(w *world, _ string) { w.reopen() },
		"killed":  func(w *world, _ string) { w.killed() },
	} {
		t.Run(name, func(t *testing.T) {
			w, a, id := onProbation(t)
			w.save(newTalk(9, segTokens))
			w.save(a[:segTokens])
			before := w.s.Stats().UsedBytes
			end(w, id)
			w.settle()
			if got := w.names("tmp"); len(got) != 0 {
				t.Errorf("in tmp: %v", got)
			}
			if used := w.s.Stats().UsedBytes; used >= before {
				t.Errorf("the copy still counts: %d bytes used, before %d", used, before)
			}
		})
	}
}

// TestRenewedOnce: a segment that was convicted before is not written again
// because it is on probation again.
func TestRenewedOnce(t *testing.T) {
	w, a, id := onProbation(t)
	w.save(a[:segTokens])
	w.s.Convict([]string{id}, "first")
	w.s.Withhold([]string{id}, "second")
	w.save(a[:segTokens])
	if got := w.names("tmp"); len(got) != 0 {
		t.Errorf("in tmp: %v", got)
	}
	w.s.Convict([]string{id}, "second")
	if _, err := w.trySave(a[:segTokens]); !errors.Is(err, kvstore.ErrRefused) {
		t.Errorf("convicted twice and stored again: %v", err)
	}
}

// TestRenewalFails: without the copy everything is as it was without renewal.
func TestRenewalFails(t *testing.T) {
	for _, rule := range []string{"kv.fsync=eio:times=1", "kv.rename=eio:times=1"} {
		t.Run(rule, func(t *testing.T) {
			w, a, id := onProbation(t)
			w.arm(rule)
			w.save(a[:segTokens])
			w.s.Convict([]string{id}, "test")
			if fired(0) != 1 || w.restore(a) != 0 || len(w.names("tmp")) != 0 || len(w.quarantined()) != 1 {
				t.Errorf("fired %d, in tmp %v\n%s", fired(0), w.names("tmp"), w.dumpLog())
			}
			w.advance(kvBackoff)
			w.save(a)
			if n := w.restore(a); n != len(a) {
				t.Errorf("restored %d\n%s", n, w.dumpLog())
			}
		})
	}
}
