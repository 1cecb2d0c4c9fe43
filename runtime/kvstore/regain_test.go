package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore"
)

// soon makes a store look at once whether it can be more than it is.
func soon(o *kvstore.Options) { o.RetryAfter = time.Millisecond }

// await polls a condition.
func (w *world) await(what string, cond func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			ok, why := w.s.Health()
			w.t.Fatalf("waited for %s; health %t %q\n%s", what, ok, why, w.dumpLog())
		}
	}
}

func (w *world) healthy() bool { ok, _ := w.s.Health(); return ok }

// TestReaderBecomesWriter: when the writer of a folder has ended, the process that
// only read takes its place, finds what was written meanwhile, and says so once.
func TestReaderBecomesWriter(t *testing.T) {
	m := errfs.NewMem()
	first := newWorld(t, m)
	a, b, c := newTalk(1, 2*segTokens), newTalk(2, 2*segTokens), newTalk(3, segTokens)
	first.save(a)
	second := newWorld(t, m, soon)
	second.s.Announce("http://127.0.0.1:4711")
	if n := second.restore(a); n != len(a) {
		t.Errorf("the reader restored %d", n)
	}
	first.save(b)
	if second.s.HoldingKey() != "" || second.healthy() {
		t.Error("the reader holds the folder")
	}
	first.close()
	second.await("the folder", second.healthy)
	if n := second.restore(b); n != len(b) {
		t.Errorf("of what the first process wrote %d tokens are restored", n)
	}
	second.save(c)
	st := second.s.Stats()
	if n := second.logged("is used again; it was read-only: in use by pid"); n != 1 || st.Regained != 1 || st.ReadOnly {
		t.Errorf("said %d times, %+v\n%s", n, st, second.dumpLog())
	}
	h, used, err := kvstore.WhoHas(m, dir)
	if err != nil || !used || h.URL != "http://127.0.0.1:4711" || h.Key != second.s.HoldingKey() || h.Key == "" {
		t.Errorf("the lock file says %+v, %t, %v", h, used, err)
	}
	third := newWorld(t, m)
	if ro, why := third.s.ReadOnly(); !ro {
		t.Errorf("a third process writes, too: %q", why)
	}
	third.close()
	second.reopen()
	for _, talk := range []talk{a, b, c} {
		if n := second.restore(talk); n != len(talk) {
			t.Errorf("after a restart %d of %d", n, len(talk))
		}
	}
}

// TestFolderThatCanBeUsedLater: what was off, or write-protected, at the start works
// when the reason has gone.
func TestFolderThatCanBeUsedLater(t *testing.T) {
	old := newTalk(1, 2*segTokens)
	full := func(t *testing.T) *errfs.Mem {
		m := errfs.NewMem()
		w := newWorld(t, m)
		w.save(old)
		w.close()
		return m
	}
	for name, c := range map[string]struct {
		rules []string // of a file system that is used until it is cured
		point string
		was   string
	}{
		"no folder":       {rules: []string{"mkdir:every:enospc", "lstat:every:eio"}, was: "off: "},
		"write-protected": {rules: []string{"create:every:eacces", "rename:every:eacces"}, was: "read-only: create "},
		"no lock":         {rules: []string{"lock:every:eacces"}, was: "read-only: lock "},
		"unreadable":      {rules: []string{"readdir:every:eio"}, was: "off: "},
		"fault point":     {point: "kv.open=eacces:times=3", was: "off: kv.open: permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := errfs.Wrap(full(t))
			var rules []errfs.Rule
			for _, text := range c.rules {
				rules = append(rules, errfs.MustParse(text))
			}
			fsys.SetRules(rules...)
			w := &world{t: t}
			if c.point != "" {
				w.arm(c.point)
			}
			w = newWorld(t, fsys, soon)
			if c.point == "" && w.healthy() {
				t.Fatal("nothing is wrong with the folder")
			}
			fsys.SetRules()
			w.await("the folder", w.healthy)
			if n := w.restore(old); n != len(old) {
				t.Errorf("restored %d of %d\n%s", n, len(old), w.dumpLog())
			}
			w.save(newTalk(2, segTokens))
			if n := w.logged("is used again; it was " + c.was); n != 1 || w.s.Stats().Regained != 1 {
				t.Errorf("said %d times\n%s", n, w.dumpLog())
			}
		})
	}
}

// TestWritersTakeTurns: several processes share a folder and end at any time, with
// requests going on: there is never more than one writer, everybody restores only what
// is true, and in the end one writes.
func TestWritersTakeTurns(t *testing.T) {
	m := errfs.NewMem()
	const processes = 4
	var worlds []*world
	for range processes {
		worlds = append(worlds, newWorld(t, m, soon))
	}
	var wg sync.WaitGroup
	for p, w := range worlds {
		wg.Go(func() {
			parent := ""
			mine := newTalk(uint64(10+p), 6*segTokens)
			for i := range 6 {
				id, err := w.s.Save(context.Background(), mine.segment(parent, i*segTokens, (i+1)*segTokens))
				if err == nil {
					parent = id
					_ = w.s.Flush(context.Background())
				} else if !errors.Is(err, kvstore.ErrReadOnly) && !errors.Is(err, kvstore.ErrUnavailable) && !errors.Is(err, kvstore.ErrNoParent) {
					t.Errorf("process %d: %v", p, err)
				}
				if err != nil {
					break
				}
			}
			for q := range processes {
				talk := newTalk(uint64(10+q), 6*segTokens)
				if n, err := w.tryRestore(talk); err == nil && n%segTokens != 0 {
					t.Errorf("process %d restored %d tokens of %d", p, n, q)
				}
			}
			if p < processes-1 {
				w.close()
			}
		})
	}
	wg.Wait()
	last := worlds[processes-1]
	last.await("the folder", last.healthy)
	last.save(newTalk(99, segTokens))
	if err := checkIntact(last); err != nil {
		t.Error(err)
	}
}

// checkIntact says what is damaged in the folder.
func checkIntact(w *world) error {
	list, err := kvstore.LookAt(context.Background(), w.fs, dir, kvstore.SurveyOptions{Full: true})
	if err != nil {
		return err
	}
	for _, f := range list.Segments {
		if f.Verdict == kvstore.VerdictDamaged {
			return fmt.Errorf("%v: %s", f.ID, f.Reason)
		}
	}
	return nil
}

// TestFolderRemovedUnderReader: somebody removes the folder, and the writer ends. The
// reader makes it again, as a writer does.
func TestFolderRemovedUnderReader(t *testing.T) {
	m := errfs.NewMem()
	first := newWorld(t, m)
	second := newWorld(t, m, soon)
	if second.healthy() {
		t.Fatal("two writers")
	}
	if err := m.Rename(dir, "/elsewhere"); err != nil {
		t.Fatal(err)
	}
	first.close()
	second.await("a folder", second.healthy)
	talk := newTalk(1, 2*segTokens)
	second.save(talk)
	if n := second.restore(talk); n != len(talk) {
		t.Errorf("restored %d of %d", n, len(talk))
	}
}
