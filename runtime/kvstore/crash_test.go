package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore"
)

// machine is the model of a store that crashes: what was promised, and to which
// talk.
type machine struct {
	*world
	fs      *errfs.FS
	mem     *errfs.Mem
	durable map[string]talk // by text: stored and flushed
	strikes map[string]int  // by id: told to the store and acknowledged
	ids     map[string][]string
}

func newMachine(t tester, mem *errfs.Mem, change ...func(*kvstore.Options)) *machine {
	m := &machine{mem: mem, fs: errfs.Wrap(mem), durable: map[string]talk{}, strikes: map[string]int{}, ids: map[string][]string{}}
	m.world = newWorld(t, m.fs, change...)
	return m
}

// crash ends the process and, with a power cut, the machine: the store goes on
// with what the disk may hold then.
func (m *machine) crash(after *errfs.Mem) {
	m.fs.Crash()
	_ = m.s.Close(context.Background()) // a dead process: nothing of it reaches the disk
	m.mem, m.fs = after, errfs.Wrap(after)
	m.world.fs, m.opt.FS = m.fs, m.fs
	m.open()
	m.check()
}

// check is what must hold after every recovery.
func (m *machine) check() {
	m.t.Helper()
	if ok, why := m.s.Health(); !ok {
		m.t.Fatalf("after recovery: %s\n%s", why, m.dumpLog())
	}
	if v := m.s.Stats().Recovery; v.Corrupt > 0 || v.Stale > 0 || v.Unreadable > 0 {
		m.t.Fatalf("recovery found %+v: something unfinished had a segment's name\n%s", v, m.dumpLog())
	}
	if got := m.names("tmp"); len(got) > 0 {
		m.t.Fatalf("temporary files stay: %v", got)
	}
	if got := m.names("inflight"); len(got) > 0 {
		m.t.Fatalf("markers stay: %v", got)
	}
	for _, a := range m.durable {
		if n := m.restore(a); n != len(a) {
			m.t.Fatalf("%d tokens were stored and flushed, %d come back\n%s", len(a), n, m.dumpLog())
		}
	}
	for _, e := range m.s.List() {
		if want := m.strikes[e.ID]; e.Strikes != want {
			m.t.Fatalf("segment %s has %d strikes, want %d", e.ID, e.Strikes, want)
		}
	}
}

// TestCrashes saves, restores, strikes, and crashes at any operation; power cuts
// keep any part of what was not synced. What was flushed is there afterwards,
// whatever is there is right, and nothing unfinished has a name.
func TestCrashes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(rt, errfs.NewMem())
		talks := rapid.Custom(func(t *rapid.T) talk {
			a := newTalk(rapid.Uint64Range(1, 2).Draw(t, "root"), 32*rapid.IntRange(1, 3).Draw(t, "root segments"))
			return a.then(newTalk(rapid.Uint64Range(3, 5).Draw(t, "branch"), 32*rapid.IntRange(0, 2).Draw(t, "branch segments")))
		})
		disk := func(t *rapid.T, mem *errfs.Mem) *errfs.Mem {
			if rapid.Bool().Draw(t, "power cut") {
				return mem.CrashClone(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "luck"), 0)))
			}
			return mem.KillClone()
		}
		saved := func(a talk, ids []string) {
			m.durable[string(a.text())] = a
			m.ids[string(a.text())] = ids
		}
		rt.Repeat(map[string]func(*rapid.T){
			"save": func(t *rapid.T) {
				a := talks.Draw(t, "talk")
				saved(a, m.save(a))
			},
			"save and crash": func(t *rapid.T) {
				a := talks.Draw(t, "talk")
				var after *errfs.Mem
				op := rapid.SampledFrom([]errfs.Op{errfs.OpCreate, errfs.OpWrite, errfs.OpSync, errfs.OpClose, errfs.OpRename, errfs.OpSyncDir, errfs.OpMkdir}).Draw(t, "op")
				m.fs.SetRules(errfs.Rule{Op: op, Nth: rapid.IntRange(1, 12).Draw(t, "nth"), Crash: true, Short: rapid.Bool().Draw(t, "short"),
					OnFire: func() { after = disk(t, m.mem) }})
				ids, err := m.trySave(a)
				fired := m.fs.Fired() > 0
				m.fs.SetRules()
				if !fired {
					if err != nil {
						t.Fatal(err)
					}
					saved(a, ids)
					return
				}
				m.crash(after)
			},
			"restore": func(t *rapid.T) { m.restore(talks.Draw(t, "talk")) },
			"strike": func(t *rapid.T) {
				if len(m.ids) == 0 {
					return
				}
				ids := m.ids[rapid.SampledFrom(keys(m.ids)).Draw(t, "talk")]
				for _, id := range ids {
					if m.strikes[id] > 0 {
						return
					}
				}
				m.s.Strike(ids, "test")
				for _, id := range ids {
					m.strikes[id]++
				}
			},
			"clear of strikes": func(t *rapid.T) {
				if len(m.ids) == 0 {
					return
				}
				ids := m.ids[rapid.SampledFrom(keys(m.ids)).Draw(t, "talk")]
				in, err := m.s.BeginInflight(kvstore.Chain{IDs: ids})
				if err != nil {
					t.Fatal(err)
				}
				in.Done()
				for _, id := range ids {
					m.strikes[id] = 0
				}
				m.reopen() // Done is not waited for
			},
			"restart": func(t *rapid.T) { m.reopen(); m.check() },
			"crash":   func(t *rapid.T) { m.crash(disk(t, m.mem)) },
		})
	})
}

func keys[V any](m map[string]V) []string {
	var list []string
	for k := range m {
		list = append(list, k)
	}
	// rapid wants the same list each time
	for i := range list {
		for j := i + 1; j < len(list); j++ {
			if list[j] < list[i] {
				list[i], list[j] = list[j], list[i]
			}
		}
	}
	return list
}

// TestProtocolIsNeeded runs the same crashes with a part of the protocol
// switched off and wants to see damage: the checks above can fail.
func TestProtocolIsNeeded(t *testing.T) {
	a := newTalk(1, 64)
	for name, c := range map[string]struct {
		change func(*kvstore.Options)
		hurt   func(v kvstore.Verdicts, restored int) bool
	}{
		"no fsync":  {func(o *kvstore.Options) { o.Sync = kvstore.SyncNone }, func(_ kvstore.Verdicts, n int) bool { return n < 64 }},
		"no rename": {func(o *kvstore.Options) { o.Unsafe.NoRename = true }, func(v kvstore.Verdicts, _ int) bool { return v.Corrupt > 0 }},
	} {
		hurt := 0
		for seed := range uint64(60) {
			t.Run("", func(t *testing.T) {
				m := newMachine(t, errfs.NewMem(), c.change)
				var after *errfs.Mem
				rng := rand.New(rand.NewPCG(seed, 0))
				m.fs.SetRules(errfs.Rule{Op: errfs.OpSync, Path: "*.kv", Nth: 2, Crash: true, OnFire: func() { after = m.mem.CrashClone(rng) }})
				if name == "no fsync" {
					m.fs.SetRules()
				}
				_, err := m.trySave(a)
				if after == nil {
					must(t, err)
					after = m.mem.CrashClone(rng)
				}
				m.fs.Crash()
				m.close()
				w := newWorld(t, after, func(o *kvstore.Options) { c.change(o) })
				n := w.restore(a) // never wrong, even so
				if c.hurt(w.s.Stats().Recovery, n) {
					hurt++
				}
			})
		}
		if hurt == 0 {
			t.Errorf("%s: no crash of 60 did any harm", name)
		}
	}
}

// TestFoundIsDurable: a process is killed after a segment got its name and before
// the folder was synced; the next one finds the segment, builds on it, and calls
// the whole stored. So a power cut may not take it any more.
func TestFoundIsDurable(t *testing.T) {
	a := newTalk(1, 64)
	m := newMachine(t, errfs.NewMem())
	var after *errfs.Mem
	id := func() string { // which shard it will be in
		other := newWorld(t, errfs.NewMem())
		defer other.close()
		return other.save(a[:32])[0]
	}()
	shard := dir + "/segments/" + id[:2]
	m.fs.SetRules(errfs.Rule{Op: errfs.OpSyncDir, Path: shard, Nth: 1, Crash: true, OnFire: func() { after = m.mem.KillClone() }})
	_, _ = m.trySave(a[:32])
	if after == nil {
		t.Fatal("never got to the folder's sync")
	}
	m.crash(after)
	if n := m.restore(a); n != 32 {
		t.Fatalf("the next process restored %d", n)
	}
	m.save(a)
	m.durable[string(a.text())] = a
	m.crash(m.mem.CrashClone(nil)) // checks
}

// TestNthOperationFails lets the 1st, 2nd, 3rd ... operation of each kind fail
// over a whole life of a store, until one life passes without a failure. Nothing
// is ever wrong, nobody waits, and when the fault is over the store works.
func TestNthOperationFails(t *testing.T) {
	type fault struct {
		err          error
		short, every bool
	}
	runs := 0
	for _, op := range errfs.Ops() {
		faults := []fault{{err: errfs.ErrIO}, {err: errfs.ErrIO, every: true}}
		switch op {
		case errfs.OpWrite, errfs.OpSync, errfs.OpClose, errfs.OpCreate, errfs.OpRename:
			faults = append(faults, fault{err: errfs.ErrNoSpace, short: true})
		case errfs.OpRead:
			faults[0].short = true
		}
		for _, f := range faults {
			for n := 1; ; n++ {
				rule := errfs.Rule{Op: op, Nth: n, Err: f.err, Short: f.short, Every: f.every}
				fired := false
				t.Run(rule.String(), func(t *testing.T) { fired = life(t, rule) })
				runs++
				if t.Failed() {
					return
				}
				if !fired {
					break
				}
				if f.every || stride > 1 {
					n += n / 2 // a coarser sweep will do
				}
			}
		}
	}
	t.Logf("%d lives", runs)
	if runs < 150/stride {
		t.Errorf("only %d lives: the sweep does not reach the operations", runs)
	}
}

// life opens, saves, restores, strikes, evicts, recovers; some of it fails. Then
// the fault ends, and everything must work. It reports whether the rule fired.
func life(t *testing.T, rule errfs.Rule) bool {
	mem := errfs.NewMem()
	fsys := errfs.Wrap(mem, rule)
	w := newWorld(t, fsys, func(o *kvstore.Options) {
		o.BudgetBytes = 76 << 10 // room for a few segments
		o.QuarantineBytes = 8 << 10
	})
	a, b := newTalk(1, 96), newTalk(1, 32).then(newTalk(2, 64))
	ids, _ := w.trySave(a)
	_, _ = w.tryRestore(a)
	if in, err := w.s.BeginInflight(w.s.Lookup(a.text())); err == nil {
		in.Phase("forward")
		in.Done()
	}
	if len(ids) > 0 {
		w.s.Withhold(ids, "test")
		w.s.Convict(ids, "test")
	}
	w.advance(kvBackoff)
	_, _ = w.trySave(b)
	_, _ = w.tryRestore(b)
	for i := range uint64(6) { // over the budget
		w.advance(kvBackoff)
		_, _ = w.trySave(newTalk(10+i, 64))
	}
	_ = w.s.Close(context.Background())
	w.open() // recovery, with the fault or without
	_, _ = w.tryRestore(b)
	if _, err := w.s.Clear(); err != nil && !errors.Is(err, kvstore.ErrReadOnly) && !errors.Is(err, kvstore.ErrUnavailable) {
		t.Error(err)
	}
	_ = w.s.Close(context.Background())
	fired := fsys.Fired() > 0

	fsys.SetRules()
	w.open()
	if ok, why := w.s.Health(); !ok {
		t.Fatalf("after the fault: %s\n%s", why, w.dumpLog())
	}
	if got := append(w.names("tmp"), w.names("inflight")...); len(got) > 0 {
		t.Errorf("left over: %v", got)
	}
	w.advance(kvBackoff)
	c := newTalk(99, 96)
	w.save(c)
	if n := w.restore(c); n != 96 {
		t.Errorf("after the fault a new talk restored %d\n%s", n, w.dumpLog())
	}
	w.restore(a)
	w.restore(b)
	if st := w.s.Stats(); st.UsedBytes > st.BudgetBytes || mem.Used() > st.BudgetBytes {
		t.Errorf("used %d, on disk %d, budget %d", st.UsedBytes, mem.Used(), st.BudgetBytes)
	}
	w.close()
	return fired
}

const kvBackoff = 61e9 // more than the longest pause after a failed write

// TestKillAtEveryByte stops a segment's write at every offset, by a power cut
// and by a kill. Nothing unfinished is found, and nothing stays.
func TestKillAtEveryByte(t *testing.T) {
	a := newTalk(1, 64)
	base, ids := stored(t, a[:32])
	w := newWorld(t, base.KillClone())
	length := size(t, w.fs, file(w.save(a)[1]))
	w.close()
	for n := int64(0); n <= length; n += 13 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			mem := base.KillClone()
			w := newWorld(t, mem)
			w.arm(fmt.Sprintf("kv.write.payload(after=%d)=enospc", n))
			if n == 0 {
				w.arm("kv.write.header=enospc")
			}
			_, _ = w.s.Save(context.Background(), a.segment(ids[0], 32, 64))
			must(t, w.s.Flush(context.Background()))
			if got := w.names("tmp"); len(got) > 0 {
				t.Errorf("temps %v", got)
			}
			if ok, why := w.s.Health(); ok || w.logged("kv cache store failed (continued)", "no space left") != 1 {
				t.Errorf("health %v %s\n%s", ok, why, w.dumpLog())
			}
			if n := w.restore(a); n != 32 {
				t.Errorf("restored %d", n)
			}
			w.close()
		})
	}
}
