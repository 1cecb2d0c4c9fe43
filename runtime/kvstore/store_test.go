package kvstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"ds4/faults/errfs"
	"ds4/runtime/failpoint"
	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

func TestSaveAndRestore(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	a := newTalk(1, 100)
	ids := w.save(a)
	if len(ids) != 4 {
		t.Fatalf("%d segments", len(ids))
	}
	if n := w.restore(a); n != 100 {
		t.Errorf("restored %d of 100", n)
	}
	if n := w.restore(a.then(newTalk(2, 50))); n != 100 {
		t.Errorf("a longer prompt restored %d", n)
	}
	if n := w.restore(a[:70]); n != 64 {
		t.Errorf("a prompt that ends inside restored %d", n)
	}
	if n := w.restore(a[:40].then(newTalk(3, 60))); n != 32 {
		t.Errorf("a prompt that differs at 40 restored %d", n)
	}
	if n := w.restore(newTalk(9, 100)); n != 0 {
		t.Errorf("another prompt restored %d", n)
	}
	w.reopen()
	if n := w.restore(a); n != 100 {
		t.Errorf("after a restart %d", n)
	}
	if got := w.logged("kv recovery scanned=4 ok=4 stale=0 corrupt=0 orphan=0 poisoned=0 freed=0.00 MiB"); got != 1 {
		t.Errorf("recovery line:\n%s", w.dumpLog())
	}
	for _, line := range []string{"kv cache stored tokens=100 trimmed=0 reason=continued key=" + ids[3] + " size=",
		"kv cache hit text tokens=100 text=200 quant=0 key=" + ids[3] + " load="} {
		if w.logged(line) == 0 {
			t.Errorf("no line %q in\n%s", line, w.dumpLog())
		}
	}
}

// TestSharedPrefix: conversations share the segments of their common prefix, and
// the same segment is written once.
func TestSharedPrefix(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	a := newTalk(1, 64)
	b, c := a.then(newTalk(2, 64)), a.then(newTalk(3, 64))
	idsB, idsC := w.save(b), w.save(c)
	if idsB[1] != idsC[1] || idsB[2] == idsC[2] {
		t.Errorf("ids %v and %v", idsB, idsC)
	}
	if st := w.s.Stats(); st.Stored != 6 || st.Segments != 6 {
		t.Errorf("stored %d, on disk %d, want 6", st.Stored, st.Segments)
	}
	for _, x := range []talk{a, b, c} {
		if n := w.restore(x); n != len(x) {
			t.Errorf("restored %d of %d", n, len(x))
		}
	}
}

// TestTailIsReplaced: a tail goes when a longer segment begins with it, and stays
// when the conversation went another way.
func TestTailIsReplaced(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	a := newTalk(1, 64)
	tail := w.save(a[:50])[1]
	fork := w.save(a[:40].then(newTalk(5, 8)))[1]
	full := w.save(a)[1]
	if w.exists(file(tail)) || !w.exists(file(fork)) || !w.exists(file(full)) {
		t.Errorf("tail %v fork %v full %v", w.exists(file(tail)), w.exists(file(fork)), w.exists(file(full)))
	}
	if n := w.restore(a); n != 64 {
		t.Errorf("restored %d", n)
	}
}

func TestLimitsOfLookup(t *testing.T) {
	w := newWorld(t, errfs.NewMem(), func(o *kvstore.Options) { o.ContextTokens = 96 })
	a := newTalk(1, 96)
	w.save(a)
	if n := w.restore(a); n != 64 {
		t.Errorf("a context of 96 needs a free slot: restored %d, want 64", n)
	}
	w.reopen(func(o *kvstore.Options) { o.ContextTokens = 97 })
	if n := w.restore(a); n != 96 {
		t.Errorf("a larger context hits again: %d", n)
	}
	w.reopen(func(o *kvstore.Options) { o.MinTokens = 80 })
	if n := w.restore(a[:64]); n != 0 {
		t.Errorf("below the minimum: %d", n)
	}
	if _, err := w.s.Save(context.Background(), newTalk(2, 40).segment("", 0, 40)); !errors.Is(err, kvstore.ErrTooShort) {
		t.Errorf("save below the minimum: %v", err)
	}
}

func TestSaveRefuses(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	a := newTalk(1, 64)
	ctx := context.Background()
	if _, err := w.s.Save(ctx, a.segment(strings.Repeat("ab", 20), 32, 64)); !errors.Is(err, kvstore.ErrNoParent) {
		t.Errorf("unknown parent: %v", err)
	}
	for name, change := range map[string]func(*kvstore.Segment){
		"parent":      func(s *kvstore.Segment) { s.Parent = "zz" },
		"no text":     func(s *kvstore.Segment) { s.Text = nil },
		"bad token":   func(s *kvstore.Segment) { s.Tokens[0] = vocab },
		"few tokens":  func(s *kvstore.Segment) { s.Tokens = s.Tokens[1:] },
		"from beyond": func(s *kvstore.Segment) { s.From = 40 },
	} {
		s := a.segment("", 0, 32)
		change(s)
		if _, err := w.s.Save(ctx, s); !errors.Is(err, kvstore.ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What only the encoder sees is skipped, with a line.
	s := a.segment("", 0, 32)
	s.Raw[0] = s.Raw[0][1:]
	if _, err := w.s.Save(ctx, s); err != nil {
		t.Error(err)
	}
	if err := w.s.Flush(ctx); err != nil || w.logged("kv cache store skipped (continued)", "raw of layer 0") != 1 {
		t.Errorf("%v\n%s", err, w.dumpLog())
	}
	if ok, why := w.s.Health(); !ok {
		t.Errorf("a bad segment is no failure of the disk: %s", why)
	}
}

func TestOptions(t *testing.T) {
	for name, change := range map[string]func(*kvstore.Options){
		"no fs":       func(o *kvstore.Options) { o.FS = nil },
		"no dir":      func(o *kvstore.Options) { o.Dir = "" },
		"no layout":   func(o *kvstore.Options) { o.Layout = segment.Layout{} },
		"validate":    func(o *kvstore.Options) { o.Validate = "some" },
		"sync":        func(o *kvstore.Options) { o.Sync = "maybe" },
		"budget":      func(o *kvstore.Options) { o.BudgetBytes = -1 },
		"context < 0": func(o *kvstore.Options) { o.ContextTokens = -1 },
	} {
		o := kvstore.Options{FS: errfs.NewMem(), Dir: dir, Layout: layout()}
		change(&o)
		if s, err := kvstore.Open(o); !errors.Is(err, kvstore.ErrOptions) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
}

// TestTwoStores: the second one on a folder finds everything and changes
// nothing.
func TestTwoStores(t *testing.T) {
	m := errfs.NewMem()
	first := newWorld(t, m)
	a := newTalk(1, 64)
	ids := first.save(a)
	second := newWorld(t, m)
	if ro, why := second.s.ReadOnly(); !ro || !strings.Contains(why, "in use by pid") {
		t.Fatalf("read-only %v: %q", ro, why)
	}
	if ok, why := second.s.Health(); ok || !strings.HasPrefix(why, "read-only: in use by pid") {
		t.Errorf("health %v %q", ok, why)
	}
	if n := second.restore(a); n != 64 {
		t.Errorf("the reader restored %d", n)
	}
	if _, err := second.s.Save(context.Background(), newTalk(2, 32).segment("", 0, 32)); !errors.Is(err, kvstore.ErrReadOnly) {
		t.Errorf("save: %v", err)
	}
	if _, err := second.s.Clear(); !errors.Is(err, kvstore.ErrReadOnly) {
		t.Errorf("clear: %v", err)
	}
	in, err := second.s.BeginInflight(second.s.Lookup(a.text()))
	if err != nil {
		t.Fatal(err)
	}
	second.s.Convict(ids, "test")
	second.s.Strike(ids, "test")
	in.Cancel()
	second.overwrite(file(ids[1]), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	if n := second.restore(a); n > 32 {
		t.Errorf("damaged: %d", n)
	}
	second.close()
	if got := second.quarantined(); len(got) != 0 || !second.exists(file(ids[0])) || len(second.names("inflight")) != 0 {
		t.Errorf("the reader changed the folder: %v", got)
	}
	first.close()
	third := newWorld(t, m)
	if ro, _ := third.s.ReadOnly(); ro {
		t.Error("the lock outlives its holder")
	}
}

// TestUnusableFolder: the store says why and harms nobody.
func TestUnusableFolder(t *testing.T) {
	a := newTalk(1, 64)
	for name, c := range map[string]struct {
		fs   func() vfs.FS
		rule string
		want string
	}{
		"a file in the way": {fs: func() vfs.FS { m := errfs.NewMem(); put(t, m, dir, nil); return m }, want: "off: mkdir /cache: not a directory"},
		"mkdir denied": {fs: func() vfs.FS {
			return errfs.Wrap(errfs.NewMem(), errfs.MustParse("mkdir:every:eacces"))
		}, want: "permission denied"},
		"fault point": {fs: func() vfs.FS { return errfs.NewMem() }, rule: "kv.open=eacces", want: "off: kv.open: permission denied"},
		"lock denied": {fs: func() vfs.FS {
			return errfs.Wrap(errfs.NewMem(), errfs.MustParse("lock:every:eacces"))
		}, want: "read-only: lock /cache/LOCK: permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.rule != "" {
				(&world{t: t}).arm(c.rule)
			}
			w := newWorld(t, c.fs())
			if ok, why := w.s.Health(); ok || !strings.Contains(why, c.want) {
				t.Errorf("health %v %q, want %q", ok, why, c.want)
			}
			if _, err := w.trySave(a); !errors.Is(err, kvstore.ErrUnavailable) && !errors.Is(err, kvstore.ErrReadOnly) {
				t.Errorf("save: %v", err)
			}
			if n := w.restore(a); n != 0 {
				t.Errorf("restored %d", n)
			}
			if _, err := w.s.BeginInflight(kvstore.Chain{IDs: []string{strings.Repeat("ab", 20)}}); err != nil && !errors.Is(err, kvstore.ErrUnavailable) {
				t.Errorf("marker: %v", err)
			}
			w.s.Convict([]string{strings.Repeat("ab", 20)}, "x")
		})
	}
}

// TestHungDisk: a disk that hangs during recovery, a write or a read keeps
// nobody for longer than it may.
func TestHungDisk(t *testing.T) {
	a := newTalk(1, 160)
	t.Run("recovery", func(t *testing.T) {
		m := errfs.NewMem()
		w := newWorld(t, m)
		w.save(a)
		w.close()
		w.arm("kv.scan=hang:nth=1")
		w = newWorld(t, m, func(o *kvstore.Options) { o.RecoverTimeout = 20 * time.Millisecond })
		if ok, why := w.s.Health(); ok || why != "recovering" {
			t.Errorf("health %v %q", ok, why)
		}
		if n := w.restore(a); n != 0 {
			t.Errorf("restored %d", n)
		}
		failpoint.Disarm()
		for deadline := time.Now().Add(30 * time.Second); w.restore(a) != 160; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("recovery never ended")
			}
		}
	})
	t.Run("close while recovering", func(t *testing.T) {
		m := errfs.NewMem()
		w := newWorld(t, m)
		w.save(a)
		w.close()
		w.arm("kv.scan=hang:nth=1")
		w = newWorld(t, m, func(o *kvstore.Options) { o.RecoverTimeout = time.Millisecond })
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		if err := w.s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v", err)
		}
		failpoint.Disarm()
	})
	t.Run("write", func(t *testing.T) {
		w := newWorld(t, errfs.NewMem(), func(o *kvstore.Options) { o.SaveTimeout = 20 * time.Millisecond })
		w.arm("kv.write.payload=hang:nth=1")
		_, err := w.trySave(a)
		if !errors.Is(err, kvstore.ErrBusy) {
			t.Errorf("save: %v", err)
		}
		if st := w.s.Stats(); st.SaveStall < 20*time.Millisecond {
			t.Errorf("stall of %v", st.SaveStall)
		}
		failpoint.Disarm()
		if w.save(a); w.restore(a) != 160 {
			t.Error("not stored after the disk came back")
		}
	})
	t.Run("read", func(t *testing.T) {
		w := newWorld(t, errfs.NewMem())
		w.save(a)
		w.arm("kv.payload.read=hang:nth=2")
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
		defer cancel()
		var target *session
		_, err := w.s.Restore(ctx, w.s.Lookup(a.text()), func(to int) (kvstore.Target, error) {
			target = newSession(to)
			return target, nil
		})
		if !errors.Is(err, kvstore.ErrAbandoned) || target.ended != "abort" {
			t.Errorf("%v, target %q", err, target.ended)
		}
		if st := w.s.Stats(); st.HungReads != 1 || st.RestoreAbandoned != 1 {
			t.Errorf("stats %+v", st)
		}
		failpoint.Disarm() // the read comes back, and must leave the target alone
		for deadline := time.Now().Add(30 * time.Second); w.s.Stats().HungReads > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the read never came back")
			}
		}
		for _, bufs := range [][][]byte{target.comp, target.index, target.raw, target.frontier} {
			for _, b := range bufs {
				if len(bytes.Trim(b, "\x00")) > 0 {
					t.Error("written after Abort")
				}
			}
		}
		if n := w.restore(a); n != 160 {
			t.Errorf("then restored %d: a slow disk is no reason to drop segments", n)
		}
		if got := w.quarantined(); len(got) != 0 {
			t.Errorf("quarantined %v", got)
		}
	})
	t.Run("marker", func(t *testing.T) {
		w := newWorld(t, errfs.NewMem())
		w.save(a)
		w.arm("kv.inflight=hang:nth=1")
		start := time.Now()
		if _, err := w.s.BeginInflight(w.s.Lookup(a.text())); !errors.Is(err, kvstore.ErrBusy) {
			t.Errorf("marker: %v", err)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("waited %v", d)
		}
		failpoint.Disarm()
		w.close()
		if got := w.names("inflight"); len(got) != 0 {
			t.Errorf("markers stay: %v", got)
		}
	})
	t.Run("close beside a flush", func(t *testing.T) {
		w := newWorld(t, errfs.NewMem())
		w.arm("kv.write.payload=hang:nth=1")
		_, err := w.s.Save(context.Background(), a.segment("", 0, 32))
		must(t, err)
		flushed := make(chan error)
		go func() { flushed <- w.s.Flush(context.Background()) }()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		if err := w.s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v", err)
		}
		failpoint.Disarm()
		<-flushed
	})
	t.Run("close while writing", func(t *testing.T) {
		m := errfs.NewMem()
		w := newWorld(t, m)
		w.arm("kv.write.payload=delay(200ms):nth=1")
		if _, err := w.s.Save(context.Background(), a.segment("", 0, 32)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		if err := w.s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v", err)
		}
		if got := w.names("tmp"); len(got) != 0 {
			t.Errorf("temps stay: %v", got)
		}
	})
}

// TestTargetErrors blame no segment.
func TestTargetErrors(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	a := newTalk(1, 64)
	w.save(a)
	c := w.s.Lookup(a.text())
	no := errors.New("no memory")
	if _, err := w.s.Restore(context.Background(), c, func(int) (kvstore.Target, error) { return nil, no }); !errors.Is(err, no) {
		t.Errorf("begin: %v", err)
	}
	if _, err := w.s.Restore(context.Background(), c, func(to int) (kvstore.Target, error) {
		s := newSession(to)
		s.frontier[1] = s.frontier[1][1:]
		return s, nil
	}); err == nil || !strings.Contains(err.Error(), "frontier of layer 1: 17 bytes for row 0") {
		t.Errorf("short table: %v", err)
	}
	if _, err := w.s.Restore(context.Background(), c, func(to int) (kvstore.Target, error) {
		s := newSession(to)
		s.refuse = no
		return s, nil
	}); !errors.Is(err, no) || !strings.Contains(err.Error(), "commit") {
		t.Errorf("commit: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.s.Restore(ctx, c, func(int) (kvstore.Target, error) { panic("not asked") }); !errors.Is(err, kvstore.ErrAbandoned) {
		t.Errorf("cancelled: %v", err)
	}
	if n := w.restore(a); n != 64 || len(w.quarantined()) != 0 {
		t.Errorf("restored %d, quarantined %v", n, w.quarantined())
	}
}

// TestTargetRefusesRows: rows that pass their checksum and are those of no state
// blame their segment, as a wrong checksum does.
func TestTargetRefusesRows(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	a := newTalk(1, 96)
	ids := w.save(a)
	var last *session
	r, err := w.s.Restore(context.Background(), w.s.Lookup(a.text()), func(to int) (kvstore.Target, error) {
		last = newSession(to)
		return picky{last, 32 / 4}, nil
	})
	if err != nil || r.Chain.Tokens != 32 || last.wrong(a) != nil {
		t.Errorf("restored %d, %v, %v", r.Chain.Tokens, err, last.wrong(a))
	}
	got := w.quarantined()
	if len(got) != 1 || !strings.HasPrefix(got[0], ids[1]) || !strings.Contains(got[0], ".corrupt.") {
		t.Errorf("quarantined %v, want %s", got, ids[1])
	}
}

// picky refuses an indexer row.
type picky struct {
	*session
	row int
}

func (p picky) Put(kind segment.Kind, layer, row int, b []byte) error {
	if kind == segment.Indexer && row <= p.row && row+len(b)/layout().Layers[layer].IndexRowBytes > p.row {
		return fmt.Errorf("%w: row %d", segment.ErrCorrupt, p.row)
	}
	return p.session.Put(kind, layer, row, b)
}

// TestConcurrent lets everything run at once, for the race detector.
func TestConcurrent(t *testing.T) {
	w := newWorld(t, errfs.NewMem(), func(o *kvstore.Options) { o.BudgetBytes = 150 << 10 })
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 12 {
				a := newTalk(1, 32).then(newTalk(uint64(g*100+i), 64))
				_, _ = w.trySave(a)
				c := w.s.Lookup(a.text())
				unpin := w.s.Pin(c)
				in, err := w.s.BeginInflight(c)
				if err != nil {
					t.Error(err)
					return
				}
				var last *session
				_, err = w.s.Restore(context.Background(), c, func(to int) (kvstore.Target, error) {
					last = newSession(to)
					return last, nil
				})
				if err == nil {
					if err := last.wrong(a); err != nil {
						t.Error(err)
					}
				}
				unpin()
				switch i % 4 {
				case 0:
					in.Done()
				case 1:
					in.Cancel()
				case 2:
					w.s.Withhold(c.IDs, "test")
					w.s.Release(c.IDs)
					in.Phase("forward")
					in.Cancel()
				case 3:
					w.s.Withhold(c.IDs, "test")
					w.s.Convict(c.IDs, "test")
					in.Cancel()
				}
				_, _ = w.s.Stats(), w.s.List()
			}
		}()
	}
	wg.Wait()
	if _, err := w.s.Clear(); err != nil {
		t.Error(err)
	}
	if st := w.s.Stats(); st.Segments != 0 || st.QuarantineFiles != 0 {
		t.Errorf("after clear: %+v", st)
	}
}

func TestClosed(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	a := newTalk(1, 64)
	w.save(a)
	w.close()
	if err := w.s.Close(context.Background()); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, err := w.trySave(newTalk(2, 32)); !errors.Is(err, kvstore.ErrUnavailable) {
		t.Errorf("save: %v", err)
	}
	if n := w.restore(a); n != 0 {
		t.Errorf("restored %d", n)
	}
	w.s.Convict([]string{strings.Repeat("ab", 20)}, "x")
	if ok, why := w.s.Health(); ok || why != "closed" {
		t.Errorf("health %v %q", ok, why)
	}
}

func ExampleStore_Health() {
	s, err := kvstore.Open(kvstore.Options{FS: errfs.NewMem(), Dir: "/cache", Layout: layout()})
	if err != nil {
		panic(err)
	}
	ok, why := s.Health()
	fmt.Printf("%v %q\n", ok, why)
	_ = s.Close(context.Background())
	ok, why = s.Health()
	fmt.Printf("%v %q\n", ok, why)
	// Output:
	// true ""
	// false "closed"
}
