package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore"
	"ds4/runtime/vfs"
)

// onDisk is a world on the real file system.
func onDisk(t *testing.T, change ...func(*kvstore.Options)) (*world, string) {
	t.Helper()
	at := filepath.Join(t.TempDir(), "parent", "cache")
	w := newWorld(t, vfs.OS, append([]func(*kvstore.Options){func(o *kvstore.Options) { o.Dir = at }}, change...)...)
	return w, at
}

func (w *world) wantHealth(word string) {
	w.t.Helper()
	ok, why := w.s.Health()
	if ok != (word == "") || !strings.Contains(why, word) {
		w.t.Fatalf("health %t %q, want %q\n%s", ok, why, word, w.dumpLog())
	}
}

// saveAgain saves a talk in a store that may be opening its folder again: until
// that is done, saves are refused.
func (w *world) saveAgain(t talk) {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		ids, err := w.trySave(t)
		if err == nil && w.s.Has(ids[len(ids)-1]) {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("save: %v\n%s", err, w.dumpLog())
		}
	}
}

// TestFolderGoesAway: whatever happens to the folder, saving goes on, what was in
// it is missed and no error, and the lock is ours again.
func TestFolderGoesAway(t *testing.T) {
	for name, away := range map[string]func(at string) error{
		"removed":        os.RemoveAll,
		"with parent":    func(at string) error { return os.RemoveAll(filepath.Dir(at)) },
		"moved":          func(at string) error { return os.Rename(at, at+".old") },
		"emptied":        func(at string) error { return errors.Join(os.RemoveAll(at), os.Mkdir(at, 0o700)) },
		"file in place":  func(at string) error { return errors.Join(os.RemoveAll(at), os.MkdirAll(at+"/LOCK.d", 0o700)) },
		"without tmp":    func(at string) error { return os.RemoveAll(at + "/tmp") },
		"without shards": func(at string) error { return os.RemoveAll(at + "/segments") },
	} {
		t.Run(name, func(t *testing.T) {
			w, at := onDisk(t)
			old, fresh := newTalk(1, 3*segTokens), newTalk(2, 3*segTokens)
			w.save(old)
			if err := away(at); err != nil {
				t.Fatal(err)
			}
			w.wantHealth("")
			w.saveAgain(fresh)
			w.wantHealth("")
			if n := w.restore(fresh); n != len(fresh) {
				t.Errorf("restored %d of %d tokens saved afterwards\n%s", n, len(fresh), w.dumpLog())
			}
			want := 0
			if name == "without tmp" {
				want = len(old) // nothing was lost
			}
			if c := w.s.Lookup(old.text()); c.Tokens != want {
				t.Errorf("%d tokens of before are on offer, want %d", c.Tokens, want)
			}
			if n := w.restore(old); n != want {
				t.Errorf("restored %d tokens of before, want %d", n, want)
			}
			if st := w.s.Stats(); st.RestoreFailed > 0 || st.StoreFailed > 0 || st.Corrupt > 0 || st.QuarantineFiles > 0 {
				t.Errorf("a loss counts as a failure: %+v", st)
			}
			second, err := kvstore.Open(w.opt)
			if err != nil {
				t.Fatal(err)
			}
			if readOnly, why := second.ReadOnly(); !readOnly || !strings.Contains(why, "in use") {
				t.Errorf("a second process is read-only: %t %q", readOnly, why)
			}
			if err := second.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			w.reopen()
			if n := w.restore(fresh); n != len(fresh) {
				t.Errorf("restored %d of %d tokens after a restart", n, len(fresh))
			}
		})
	}
}

// TestLostBeforeRestore: a request that would use what is gone finds nothing, and
// the folder is there again before the next save.
func TestLostBeforeRestore(t *testing.T) {
	w, at := onDisk(t)
	old := newTalk(1, 3*segTokens)
	w.save(old)
	if err := os.RemoveAll(at); err != nil {
		t.Fatal(err)
	}
	c := w.s.Lookup(old.text())
	if c.Tokens != len(old) {
		t.Fatalf("lookup offers %d tokens", c.Tokens)
	}
	in, err := w.s.BeginInflight(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.restoreChain(c, old); !errors.Is(err, kvstore.ErrMiss) {
		t.Errorf("restore: %v, want a miss", err)
	}
	in.Cancel()
	w.settle()
	if !w.s.Lookup(old.text()).Empty() {
		t.Error("what is gone is still offered")
	}
	if st := w.s.Stats(); st.RestoreFailed != 0 || !st.Healthy {
		t.Errorf("%+v", st)
	}
	for _, sub := range []string{"LOCK", "tmp", "segments", "inflight", "quarantine"} {
		if _, err := os.Lstat(filepath.Join(at, sub)); err != nil {
			t.Error(err)
		}
	}
}

// TestReplacedByAnotherOwner: in the meantime another process has made a cache of
// the same name. It is its cache; this store reads it and writes nothing.
func TestReplacedByAnotherOwner(t *testing.T) {
	w, at := onDisk(t)
	mine, theirs := newTalk(1, 2*segTokens), newTalk(2, 2*segTokens)
	w.save(mine)
	if err := os.Rename(at, at+".old"); err != nil {
		t.Fatal(err)
	}
	other := &world{t: t, fs: vfs.OS, opt: w.opt, now: time.Unix(1_700_000_000, 0)}
	other.opt.Log, other.opt.Now = other.logf, other.clock
	other.open()
	other.save(theirs)
	before := listFiles(t, at)

	if _, err := w.s.Save(context.Background(), newTalk(3, segTokens).segment("", 0, segTokens)); err != nil {
		t.Fatal(err) // it was queued: nothing is known yet
	}
	if err := w.s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.wantHealth("read-only: in use by pid")
	if _, err := w.trySave(newTalk(4, segTokens)); !errors.Is(err, kvstore.ErrReadOnly) {
		t.Errorf("save: %v", err)
	}
	if n := w.restore(theirs); n != len(theirs) {
		t.Errorf("restored %d tokens of the other's, want %d", n, len(theirs))
	}
	if n := w.restore(mine); n != 0 {
		t.Errorf("restored %d tokens of a folder that is gone", n)
	}
	if st := w.s.Stats(); st.StoreFailed != 0 {
		t.Errorf("%d failed saves: it is no failure of the disk", st.StoreFailed)
	}
	w.close()
	if after := listFiles(t, at); after != before {
		t.Errorf("the other's folder was changed:\n%s\nbefore:\n%s", after, before)
	}
	other.wantHealth("")
}

func listFiles(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		fmt.Fprintln(&b, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestLockFileRemoved: only the lock is gone. The segments are found again, and a
// restore that is under way strikes none of them.
func TestLockFileRemoved(t *testing.T) {
	w, at := onDisk(t)
	old := newTalk(1, 3*segTokens)
	w.save(old)
	in, err := w.s.BeginInflight(w.s.Lookup(old.text()))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(at, "LOCK")); err != nil {
		t.Fatal(err)
	}
	w.saveAgain(newTalk(2, segTokens))
	if n := w.restore(old); n != len(old) {
		t.Errorf("restored %d of %d tokens", n, len(old))
	}
	for _, e := range w.s.List() {
		if e.Strikes != 0 {
			t.Errorf("%s has %d strikes", e.ID, e.Strikes)
		}
	}
	if n := len(markersOf(t, at)); n != 1 {
		t.Errorf("%d markers, want the one of the restore under way", n)
	}
	in.Done()
	w.close()
	if left := markersOf(t, at); len(left) != 0 {
		t.Errorf("markers %v stay", left)
	}
}

func markersOf(t *testing.T, at string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(at, "inflight", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// removeAll removes a folder of any file system.
func removeAll(t tester, fsys vfs.FS, name string) {
	t.Helper()
	var names []vfs.Entry
	err := fsys.ReadDir(name, func(e vfs.Entry) error { names = append(names, e); return nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range names {
		if e.Type.IsDir() {
			removeAll(t, fsys, path.Join(name, e.Name))
		} else if err := fsys.Remove(path.Join(name, e.Name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := fsys.Remove(name); err != nil {
		t.Fatal(err)
	}
}

// TestCannotBeMadeAgain: as long as the folder cannot be made the store says so,
// asks for it at growing intervals, and offers nothing. Then it works again.
func TestCannotBeMadeAgain(t *testing.T) {
	mem := errfs.NewMem()
	bad := errfs.Wrap(mem)
	w := newWorld(t, bad)
	old := newTalk(1, 2*segTokens)
	w.save(old)
	removeAll(t, mem, dir)
	bad.SetRules(errfs.MustParse("mkdir:every:eacces"))
	if _, err := w.trySave(newTalk(2, segTokens)); err != nil {
		t.Fatal(err)
	}
	w.wantHealth("not storing: the cache folder was removed or replaced, and cannot be made again: mkdir /cache: permission denied")
	if !w.s.Lookup(old.text()).Empty() {
		t.Error("what is gone is offered")
	}
	if _, err := w.trySave(newTalk(2, segTokens)); !errors.Is(err, kvstore.ErrBackoff) {
		t.Errorf("save at once: %v", err)
	}
	asked := bad.Count(errfs.OpMkdir)
	for range 10 {
		w.settleBadly()
	}
	if n := bad.Count(errfs.OpMkdir); n != asked {
		t.Errorf("asked for the folder %d times in the pause", n-asked)
	}
	w.advance(5 * time.Second)
	// The keeper may have been there first, and have begun the next pause.
	if _, err := w.trySave(newTalk(2, segTokens)); err != nil && !errors.Is(err, kvstore.ErrBackoff) {
		t.Fatal(err)
	}
	w.wantHealth("not storing")
	if st := w.s.Stats(); st.StoreFailed < 1 || st.StoreFailed > 2 || st.RestoreFailed != 0 {
		t.Errorf("%+v", st)
	}
	bad.SetRules()
	w.advance(time.Minute)
	w.saveAgain(old)
	w.wantHealth("")
	if n := w.restore(old); n != len(old) {
		t.Errorf("restored %d of %d tokens", n, len(old))
	}
}

// settleBadly makes the keeper do something, which may fail.
func (w *world) settleBadly() {
	if in, err := w.s.BeginInflight(kvstore.Chain{IDs: []string{strings.Repeat("ab", 20)}}); err == nil {
		in.Cancel()
	}
}

// TestReopenSweep: the n-th operation after the folder has gone fails, for every
// n, once and for good. The store never stops saving for ever, and never makes a
// restore wrong.
func TestReopenSweep(t *testing.T) {
	for _, sticky := range []bool{false, true} {
		for n := 1; ; n++ {
			mem := errfs.NewMem()
			bad := errfs.Wrap(mem)
			w := newWorld(t, bad)
			old, fresh := newTalk(1, 2*segTokens), newTalk(2, 2*segTokens)
			w.save(old)
			removeAll(t, mem, dir)
			rule := fmt.Sprintf("any:nth=%d:eio", n)
			if sticky {
				rule = fmt.Sprintf("any:nth=%d:every:eio", n)
			}
			bad.SetRules(errfs.MustParse(rule))
			_, _ = w.trySave(fresh)
			w.restore(fresh)
			fired := bad.Fired()
			bad.SetRules()
			w.advance(2 * time.Minute)
			w.saveAgain(fresh)
			w.wantHealth("")
			if got := w.restore(fresh); got != len(fresh) {
				t.Fatalf("sticky=%t n=%d: restored %d of %d tokens\n%s", sticky, n, got, len(fresh), w.dumpLog())
			}
			if got := w.restore(old); got != 0 {
				t.Fatalf("sticky=%t n=%d: restored %d tokens that are gone", sticky, n, got)
			}
			w.reopen()
			if got := w.restore(fresh); got != len(fresh) {
				t.Fatalf("sticky=%t n=%d: restored %d of %d tokens after a restart\n%s", sticky, n, got, len(fresh), w.dumpLog())
			}
			w.close()
			if fired == 0 {
				break
			}
		}
	}
}

// TestFolderRace: the folder goes away again and again under saves, restores and
// everything else. The race detector and restoreChain judge.
func TestFolderRace(t *testing.T) {
	w, at := onDisk(t, func(o *kvstore.Options) { o.Sync = kvstore.SyncNone })
	const rounds = 60
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for seed := uint64(1); seed <= 3; seed++ {
		talk := newTalk(seed, 3*segTokens)
		talk.truth()
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, _ = w.trySave(talk)
				c := w.s.Lookup(talk.text())
				if in, err := w.s.BeginInflight(c); err == nil {
					if _, err := w.restoreChain(c, talk); err == nil {
						in.Done()
					}
					in.Cancel()
				}
				w.s.Withhold(c.IDs, "a test")
				w.s.Release(c.IDs)
				w.s.List()
				w.s.Stats()
				w.advance(time.Minute) // no pause is long
			}
		})
	}
	for n := range rounds {
		name := at
		if n%3 == 1 {
			name = filepath.Join(at, "LOCK")
		}
		if n%3 == 2 {
			_ = os.Rename(at, fmt.Sprintf("%s.%d", at, n))
		} else {
			for range 100 {
				if os.RemoveAll(name) == nil {
					break
				}
			}
		}
		w.settleBadly()
	}
	close(stop)
	wg.Wait()
	last := newTalk(9, 2*segTokens)
	w.advance(2 * time.Minute)
	w.saveAgain(last)
	w.wantHealth("")
	if n := w.restore(last); n != len(last) {
		t.Errorf("restored %d of %d tokens at the end\n%s", n, len(last), w.dumpLog())
	}
}

// TestUrgentSave: the last occasion is used even in the pause after a failure.
func TestUrgentSave(t *testing.T) {
	bad := errfs.Wrap(errfs.NewMem())
	w := newWorld(t, bad)
	talk := newTalk(1, segTokens)
	bad.SetRules(errfs.MustParse("create:every:eacces"))
	w.save(talk)
	w.wantHealth("not storing")
	bad.SetRules()
	seg := talk.segment("", 0, segTokens)
	if _, err := w.s.Save(context.Background(), seg); !errors.Is(err, kvstore.ErrBackoff) {
		t.Fatalf("save in the pause: %v", err)
	}
	seg.Urgent = true
	if _, err := w.s.Save(context.Background(), seg); err != nil {
		t.Fatal(err)
	}
	if err := w.s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.wantHealth("")
	if n := w.restore(talk); n != len(talk) {
		t.Errorf("restored %d tokens", n)
	}
}

// TestQuotaExceeded is a full disk, too: something old goes for something new.
func TestQuotaExceeded(t *testing.T) {
	bad := errfs.Wrap(errfs.NewMem())
	w := newWorld(t, bad)
	old := w.save(newTalk(1, segTokens))
	w.advance(time.Hour)
	quota := errfs.MustParse("write:nth=1:eio")
	quota.Err = syscall.EDQUOT
	bad.SetRules(quota)
	fresh := newTalk(2, segTokens)
	w.save(fresh)
	w.wantHealth("")
	if w.exists(file(old[0])) || w.restore(fresh) != len(fresh) {
		t.Errorf("nothing went, or nothing came\n%s", w.dumpLog())
	}
}

// TestTroubleIsRepeated: a cache that is off says so again and again, and one
// whose folder has gone notices without being asked for anything.
func TestTroubleIsRepeated(t *testing.T) {
	often := func(o *kvstore.Options) { o.WarnEvery = time.Millisecond }
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	w := newWorld(t, errfs.Wrap(errfs.NewMem(), errfs.MustParse("mkdir:every:eacces")), often)
	until("said once", func() bool { return w.logged("kv cache degraded: off: ", "permission denied") > 1 })

	// The folder cannot be made for a while, then it can: nobody asks for anything.
	mem := errfs.NewMem()
	bad := errfs.Wrap(mem)
	w = newWorld(t, bad, often)
	bad.SetRules(errfs.MustParse("mkdir:every:eacces"))
	removeAll(t, mem, dir)
	until("the loss is not noticed", func() bool { ok, why := w.s.Health(); return !ok && strings.Contains(why, "cannot be made again") })
	bad.SetRules()
	w.advance(2 * time.Minute)
	until("health does not come back", func() bool { ok, _ := w.s.Health(); return ok })

	idle, at := onDisk(t, often)
	_ = os.RemoveAll(at) // the store may be quicker, and make it again before it is gone
	until("the folder does not come back", func() bool {
		_, err := os.Lstat(filepath.Join(at, "LOCK"))
		return err == nil && idle.logged("was removed or replaced") > 0
	})
}

// TestWriteProtected: a folder in which nothing can be made is read, and said to
// be read-only; a full one is not.
func TestWriteProtected(t *testing.T) {
	mem := errfs.NewMem()
	w := newWorld(t, mem)
	old := newTalk(1, 2*segTokens)
	w.save(old)
	w.close()
	protected := newWorld(t, errfs.Wrap(mem, errfs.MustParse("create:every:eacces"), errfs.MustParse("rename:every:eacces")))
	protected.wantHealth("read-only: create /cache/tmp/probe")
	if n := protected.restore(old); n != len(old) {
		t.Errorf("restored %d of %d tokens", n, len(old))
	}
	if in, err := protected.s.BeginInflight(protected.s.Lookup(old.text())); err != nil {
		t.Errorf("marker: %v", err)
	} else {
		in.Done()
	}
	if _, err := protected.trySave(newTalk(2, segTokens)); !errors.Is(err, kvstore.ErrReadOnly) {
		t.Errorf("save: %v", err)
	}
	protected.close()
	full := newWorld(t, errfs.Wrap(mem, errfs.MustParse("create:times=1:enospc")))
	full.wantHealth("")
	full.save(newTalk(2, segTokens))
	if left := full.names("tmp"); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
}
