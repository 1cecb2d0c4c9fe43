package kvstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore"
)

// crashLimit bounds the disks that are looked at for one moment of a crash. The
// protocol keeps so little unsynced that no moment reaches it, which the test
// checks: every subset is tried.
const crashLimit = 20_000

// TestEveryCrashPoint stops the machine before, within and after each operation of
// a save of three segments, and opens the store on every disk that this may leave:
// each name and each block of what was not synced old, new or torn in all
// combinations. What had been acknowledged comes back, nothing unfinished has a
// name, what is there is right, and nothing temporary stays.
func TestEveryCrashPoint(t *testing.T) {
	a := newTalk(1, 3*segTokens)
	base := errfs.NewMem()
	newWorld(t, base).close()
	points, disks, most, seen := 0, 0, 0, map[int]int{}
	for n := 1; ; n += stride {
		fired := false
		for _, part := range []string{"", ":part=50%"} {
			mem, acknowledged, op := crashAt(t, base, a, fmt.Sprintf("any:nth=%d%s:kill9", n, part))
			if fired = mem != nil; !fired {
				break
			}
			if part != "" && op != errfs.OpWrite {
				continue
			}
			points++
			tried, all, err := mem.Crashes(crashLimit, isLock, func(f errfs.Fate, disk *errfs.Mem) error {
				got, err := survives(disk, a, acknowledged)
				if err != nil {
					return fmt.Errorf("%w\ndisk: %v = CrashAs(%v)", err, f, f.Values())
				}
				seen[got]++
				return nil
			})
			if err != nil {
				t.Fatalf("crash at operation %d%s (%s) with %d tokens acknowledged: %v", n, part, op, acknowledged, err)
			}
			if !all {
				t.Errorf("operation %d%s: more than %d disks", n, part, crashLimit)
			}
			disks += tried
			most = max(most, tried)
		}
		if !fired {
			break
		}
	}
	t.Logf("%d crash points, %d disks, at most %d for one point; tokens that came back: %v", points, disks, most, seen)
	for _, want := range []int{0, 32, 64, 96} {
		if seen[want] == 0 && stride == 1 {
			t.Errorf("no crash left %d tokens: the sweep does not reach what it should", want)
		}
	}
}

// isLock names what a crash may do anything to without anybody looking.
func isLock(name string) bool { return name == dir+"/LOCK" }

// crashAt saves a talk under a rule and returns the disk at the moment of the
// crash, how many tokens had been acknowledged as durable by then, and the
// operation that was the last; nil if the rule did not fire.
func crashAt(t *testing.T, base *errfs.Mem, a talk, rule string) (disk *errfs.Mem, acknowledged int, last errfs.Op) {
	mem := base.KillClone()
	fsys := errfs.Wrap(mem)
	w := newWorld(t, fsys)
	fsys.SetRules(errfs.MustParse(rule))
	parent := ""
	for from := 0; from < len(a); from += segTokens {
		id, err := w.s.Save(context.Background(), a.segment(parent, from, from+segTokens))
		if err != nil {
			break
		}
		must(t, w.s.Flush(context.Background()))
		if fsys.Fired() > 0 {
			break
		}
		acknowledged, parent = from+segTokens, id
	}
	fired := fsys.Fired() > 0
	w.close()
	if !fired {
		return nil, 0, ""
	}
	return mem, acknowledged, fsys.Last()
}

// survives opens a store on a disk and says how many tokens of a talk come back,
// and what is wrong.
func survives(disk *errfs.Mem, a talk, acknowledged int) (tokens int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	w := newWorld(&panicker{}, disk, func(o *kvstore.Options) { o.Readers = 1 })
	defer w.close()
	tokens = w.restore(a)
	v := w.s.Stats().Recovery
	switch {
	case tokens < acknowledged:
		err = fmt.Errorf("%d tokens were acknowledged, %d come back", acknowledged, tokens)
	case v.Corrupt+v.Stale+v.Unreadable > 0:
		err = fmt.Errorf("something unfinished had a name: %+v", v)
	case len(w.names("tmp"))+len(w.names("quarantine")) > 0:
		err = fmt.Errorf("left over: %v %v", w.names("tmp"), w.names("quarantine"))
	}
	return tokens, err
}

// panicker lets a world run where a failure is a value.
type panicker struct{}

func (*panicker) Helper()                      {}
func (*panicker) Cleanup(func())               {}
func (*panicker) Fatal(args ...any)            { panic(fmt.Sprint(args...)) }
func (*panicker) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

// TestSafeguards takes the safeguards away one by one, mostly by a disk that says
// that something was done which was not, and wants to see the harm. Each is needed,
// and the checks above would notice its absence.
func TestSafeguards(t *testing.T) {
	a := newTalk(1, 2*segTokens)
	for _, c := range []struct {
		name, rule string
		change     func(*kvstore.Options)
	}{
		{name: "nothing missing"},
		{name: "file sync", rule: "sync:path=" + dir + "/tmp/*:every:lie"},
		{name: "name of a segment", rule: "syncdir:path=" + dir + "/segments/??:every:lie"},
		{name: "name of a shard", rule: "syncdir:path=" + dir + "/segments:every:lie"},
		{name: "names of the folders", rule: "syncdir:path=" + dir + ":every:lie"},
		{name: "sync mode", change: func(o *kvstore.Options) { o.Sync = kvstore.SyncNone }},
		{name: "journal sync", rule: "sync:path=" + dir + "/journal*:every:lie"},
		{name: "marker", change: func(o *kvstore.Options) { o.Unsafe.NoInflight = true }},
		{name: "marker sync", rule: "sync:path=" + dir + "/inflight/*:every:lie"},
		{name: "marker name", rule: "syncdir:path=" + dir + "/inflight:every:lie"},
	} {
		t.Run(c.name, func(t *testing.T) {
			harm := map[string]int{}
			for seed := range uint64(40) {
				harm[historyOf(t, c.rule, c.change, seed, a)]++
			}
			hurt := len(harm) > 1 || harm[""] == 0
			if want := c.name != "nothing missing"; hurt != want {
				t.Errorf("harm of 40 power cuts: %v", harm)
			}
			t.Log(harm)
		})
	}
}

// historyOf stores a talk, has it struck, begins to restore it, and loses power.
// It returns what the next process finds wrong.
func historyOf(t *testing.T, rule string, change func(*kvstore.Options), seed uint64, a talk) string {
	mem := errfs.NewMem()
	fsys := errfs.Wrap(mem)
	if rule != "" {
		fsys.SetRules(errfs.MustParse(rule))
	}
	if change == nil {
		change = func(*kvstore.Options) {}
	}
	w := newWorld(t, fsys, change)
	ids := w.save(a)
	other := w.save(newTalk(2, segTokens))
	w.s.Strike(other, "test")
	w.begin(a)
	disk := mem.CrashClone(rand.New(rand.NewPCG(seed, 0)))
	fsys.Crash()
	w.close()
	next := newWorld(t, disk, change)
	defer next.close()
	n := next.restore(a) // never wrong, whatever was taken away
	v := next.s.Stats().Recovery
	switch {
	case v.Corrupt > 0:
		return "something unfinished had a name"
	case n < len(a):
		return "what was acknowledged is gone"
	case next.strikes(other[0]) != 1:
		return "a strike is forgotten"
	case next.strikes(ids[1]) != 1:
		return "a death in a restore is forgotten"
	case !strings.Contains(next.dumpLog(), "kv recovery"):
		return "no recovery line"
	}
	return ""
}
