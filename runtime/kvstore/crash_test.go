package kvstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
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
				text := fmt.Sprintf("%s:nth=%d:kill9", op, rapid.IntRange(1, 12).Draw(t, "nth"))
				if rapid.Bool().Draw(t, "short") {
					text = strings.Replace(text, ":kill9", ":part=50%:kill9", 1)
				}
				m.fs.SetRules(errfs.MustParse(text).Then(func() { after = disk(t, m.mem) }))
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
				m.fs.SetRules(errfs.MustParse("sync:path=*.kv:nth=2:kill9").Then(func() { after = m.mem.CrashClone(rng) }))
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
	m.fs.SetRules(errfs.MustParse("syncdir:path=" + shard + ":nth=1:kill9").Then(func() { after = m.mem.KillClone() }))
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
