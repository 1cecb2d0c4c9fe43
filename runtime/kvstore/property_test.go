package kvstore_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore"
)

const (
	propertyOps   = 100_000 // of TestProperty; DS4_KVSTORE_OPS asks for more
	propertySteps = 150     // of one history, on average
	stuckAfter    = time.Minute
)

// TestProperty drives a store through everything that can happen to it and
// compares it with a model. After every step: nothing wrong was ever restored;
// what was flushed is there unless the store has said, with a good reason, that it
// gave it up; the budget holds, and so does the book-keeping of bytes; nothing
// temporary is left; nothing hangs.
//
// The operations are the same in every run, so that a change is to blame for what
// it breaks; with DS4_KVSTORE_OPS they are others each time.
func TestProperty(t *testing.T) {
	target, seed := propertyOps, uint64(1)
	if text := os.Getenv("DS4_KVSTORE_OPS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("DS4_KVSTORE_OPS=%s: %v", text, err)
		}
		target, seed = n, rand.Uint64()
	}
	if testing.Short() {
		target /= 40
	}
	setDefaultFlag(t, "rapid.steps", fmt.Sprint(propertySteps))
	once := isSet("rapid.seed") || isSet("rapid.failfile")
	count := map[string]int{}
	total := 0
	for ; total < target; seed++ {
		setDefaultFlag(t, "rapid.seed", fmt.Sprint(seed))
		rapid.Check(rerunner{t}, func(rt *rapid.T) {
			m := newModel(rt)
			actions := m.actions()
			// On a good disk everything is known exactly, strikes included.
			if m.calm = rapid.Bool().Draw(rt, "good disk"); m.calm {
				delete(actions, "inject")
				delete(actions, "fill the disk")
			}
			if rapid.Bool().Draw(rt, "good neighbours") {
				delete(actions, "damage")
				delete(actions, "delete")
				delete(actions, "swap")
			}
			for name, act := range actions {
				actions[name] = func(rt *rapid.T) {
					if name != "" {
						total++
						count[name]++
					}
					m.watched(name, func() { act(rt) })
				}
			}
			rt.Repeat(actions)
		})
		if once {
			break
		}
	}
	t.Logf("%d operations: %v", total, count)
}

// rerunner completes what rapid says about a failure to a command.
type rerunner struct{ *testing.T }

var reproduce = regexp.MustCompile(`-rapid\.failfile="[^"]*"|-rapid\.seed=\d+`)

func (r rerunner) Errorf(format string, args ...any) {
	r.Helper()
	text := fmt.Sprintf(format, args...)
	for _, how := range reproduce.FindAllString(text, -1) {
		text += fmt.Sprintf("\nrun again: go test ./runtime/kvstore -run '^%s$' %s", r.Name(), how)
	}
	r.Error(text)
}

func isSet(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// setDefaultFlag changes a flag for the length of a test, unless it was given.
func setDefaultFlag(t *testing.T, name, value string) {
	if isSet(name) {
		return
	}
	old := flag.Lookup(name).Value.String()
	if err := flag.Lookup(name).Value.Set(value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flag.Lookup(name).Value.Set(old) })
}

// watched ends the process if a step does not come back: then a stack of every
// goroutine says where it hangs.
func (m *model) watched(name string, step func()) {
	alarm := time.AfterFunc(stuckAfter, func() { panic("stuck in step " + name + "\n" + m.dumpLog()) })
	defer alarm.Stop()
	step()
}

func anyPiece(t *rapid.T) *piece {
	return universe()[rapid.IntRange(0, len(universe())-1).Draw(t, "piece")]
}

func (m *model) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"":                 func(t *rapid.T) { m.check() },
		"save":             func(t *rapid.T) { m.savePath(t, anyPiece(t)) },
		"save more":        func(t *rapid.T) { m.savePath(t, anyPiece(t)) },
		"save and close":   m.saveAndClose,
		"restore":          func(t *rapid.T) { m.use(anyPiece(t)) },
		"restore again":    func(t *rapid.T) { m.use(anyPiece(t)) },
		"lookup":           m.lookup,
		"strike":           m.strike,
		"withhold":         m.withhold,
		"release":          m.release,
		"convict":          m.convict,
		"marker":           m.marker,
		"die in a restore": m.dieInRestore,
		"clear":            m.clear,
		"crash":            func(t *rapid.T) { m.crash(t, m.disk(t)) },
		"crash in a save":  m.crashInSave,
		"inject":           m.inject,
		"mend":             func(t *rapid.T) { m.mend() },
		"fill the disk":    m.fillDisk,
		"jump":             m.jump,
		"damage":           m.damage,
		"swap":             m.swap,
		"delete":           m.remove,
		"restart":          func(t *rapid.T) { m.restart(t, nil) },
		"other options":    m.otherOptions,
		"foreign files":    m.foreignFiles,
		"second process":   m.secondProcess,
	}
}

// save gives one piece to the store.
func (m *model) save(p *piece) error {
	seg := *p.seg
	if p.parent != nil {
		seg.Parent = m.id(p.parent)
	}
	id, err := m.s.Save(context.Background(), &seg)
	if err == nil && id != m.id(p) {
		m.t.Fatalf("saved as %s, want %s", id, m.id(p))
	}
	return err
}

// savePath stores a piece and what comes before it, and waits for the disk.
func (m *model) savePath(t *rapid.T, p *piece) {
	before := m.excused(p)
	for _, q := range p.path() {
		if err := m.save(q); err != nil {
			if !m.mayRefuse(q, err) {
				t.Fatalf("save of %s: %v\n%s", m.id(q), err, m.dumpLog())
			}
			break
		}
	}
	if err := m.s.Flush(context.Background()); err != nil && m.working() {
		t.Fatalf("flush: %v", err)
	}
	m.listen()
	m.promise(p)
	if last := p.path(); !before && !m.tight && !m.faulty && m.working() && !m.s.Has(m.id(last[len(last)-1])) && !m.excused(p) {
		t.Fatalf("%s was saved without a fault and is not there\n%s", m.id(p), m.dumpLog())
	}
}

// excused reports whether there is a reason for which a piece may not be stored
// although nothing fails: a conviction, an end below the minimum, or a longer
// segment in its place.
func (m *model) excused(p *piece) bool {
	for _, q := range p.path() {
		if m.guilty[q.at]+m.judged[q.at] > 0 || m.withheld[q.at] || m.vague || q.to() < m.opt.MinTokens || m.damaged[q.at] {
			return true
		}
	}
	return m.replaced(p, func(q *piece) bool { return m.s.Has(m.id(q)) })
}

func (m *model) mayRefuse(p *piece, err error) bool {
	switch {
	case errors.Is(err, kvstore.ErrTooShort):
		return p.to() < m.opt.MinTokens
	case errors.Is(err, kvstore.ErrBackoff):
		return m.faulty
	case errors.Is(err, kvstore.ErrRefused):
		return m.guilty[p.at] > 1 || m.judged[p.at] > 1 || m.vague
	case errors.Is(err, kvstore.ErrNoParent):
		return m.tight || m.faulty || m.excused(p)
	case errors.Is(err, kvstore.ErrUnavailable), errors.Is(err, kvstore.ErrReadOnly):
		return !m.working()
	}
	return false
}

// promise notes what of a chain is on disk now.
func (m *model) promise(p *piece) {
	created := map[string]bool{}
	for _, e := range m.s.List() {
		created[e.ID] = true
	}
	for _, q := range p.path() {
		if !created[m.id(q)] || m.damaged[q.at] {
			return
		}
		if !m.promised[q.at] && m.opt.Sync == kvstore.SyncData {
			m.promised[q.at] = true
			m.learn(q) // it may be an old one that was never promised
			m.dim[q.at] = m.faulty
		}
	}
}

// saveAndClose leaves it to Close to write what is queued.
func (m *model) saveAndClose(t *rapid.T) {
	p := anyPiece(t)
	for _, q := range p.path() {
		if err := m.save(q); err != nil {
			if !m.mayRefuse(q, err) {
				t.Fatalf("save of %s: %v\n%s", m.id(q), err, m.dumpLog())
			}
			break
		}
	}
	m.restart(t, nil)
	m.promise(p)
}

// lookup asks for a text that goes on beyond, or parts from, a piece.
func (m *model) lookup(t *rapid.T) {
	p := anyPiece(t)
	if !m.working() {
		return
	}
	text := append(p.talk.text(), 0xff, vocab)
	if got, want := m.s.Lookup(text).Tokens, m.longest(p); got != want && !m.trusting() {
		t.Fatalf("a longer prompt finds %d tokens, want %d", got, want)
	}
	if got := m.s.Lookup([]byte{1, 2, 3}); !got.Empty() {
		t.Fatalf("another prompt finds %+v", got)
	}
}

// chain returns the ids on the way to a piece, and those pieces that the store
// has.
func (m *model) chain(p *piece) (ids []string, there []*piece) {
	listed := map[string]bool{}
	for _, e := range m.s.List() {
		listed[e.ID] = true
	}
	for _, q := range p.path() {
		ids = append(ids, m.id(q))
		if listed[m.id(q)] {
			there = append(there, q)
		}
	}
	return ids, there
}

// verdict applies what a step did to the strikes of the pieces that were there.
func (m *model) verdict(there []*piece, strikes func(*piece) int, guilty func(*piece) bool) {
	for _, q := range there {
		if m.strikes[q.at] = strikes(q); guilty(q) {
			m.guilty[q.at]++
		}
		m.dim[q.at] = m.dim[q.at] || !m.promised[q.at] || m.faulty
	}
}

func (m *model) strike(t *rapid.T) {
	ids, there := m.chain(anyPiece(t))
	m.verdict(there, func(q *piece) int { return m.strikes[q.at] + 1 }, func(q *piece) bool { return m.strikes[q.at] >= 2 })
	m.s.Strike(ids, "test")
}

func (m *model) withhold(t *rapid.T) {
	ids, there := m.chain(anyPiece(t))
	m.verdict(there, func(q *piece) int {
		if m.withheld[q.at] {
			return m.strikes[q.at]
		}
		return m.strikes[q.at] + 1
	}, func(*piece) bool { return false })
	for _, q := range there {
		m.withheld[q.at] = true
	}
	m.s.Withhold(ids, "test")
}

func (m *model) release(t *rapid.T) {
	ids, there := m.chain(anyPiece(t))
	m.verdict(there, func(q *piece) int {
		if m.withheld[q.at] {
			return m.strikes[q.at] - 1
		}
		return m.strikes[q.at]
	}, func(*piece) bool { return false })
	for _, q := range there {
		m.withheld[q.at] = false
	}
	m.s.Release(ids)
}

func (m *model) convict(t *rapid.T) {
	p := anyPiece(t)
	ids, there := m.chain(p)
	m.verdict(there, func(q *piece) int {
		if m.withheld[q.at] {
			return m.strikes[q.at]
		}
		return m.strikes[q.at] + 1
	}, func(q *piece) bool { return q == p || m.strikes[q.at] >= 2 })
	for _, q := range there {
		m.withheld[q.at] = false
	}
	m.s.Convict(ids, "test")
}

// marker begins a restore and ends it well, or is cancelled.
func (m *model) marker(t *rapid.T) {
	ids, there := m.chain(anyPiece(t))
	good := rapid.Bool().Draw(t, "good")
	in, err := m.s.BeginInflight(kvstore.Chain{IDs: ids})
	if err != nil {
		if !m.faulty {
			t.Fatal(err)
		}
		return
	}
	in.Phase("forward")
	if good {
		m.verdict(there, func(q *piece) int {
			if m.withheld[q.at] {
				return m.strikes[q.at]
			}
			return 0
		}, func(*piece) bool { return false })
		in.Done()
		return
	}
	in.Cancel()
}

// dieInRestore leaves a marker behind, as a process does that dies between the
// restore and the first work on it.
func (m *model) dieInRestore(t *rapid.T) {
	p := anyPiece(t)
	ids, there := m.chain(p)
	if _, err := m.s.BeginInflight(kvstore.Chain{IDs: ids}); err != nil {
		if !m.faulty {
			t.Fatal(err)
		}
		return
	}
	disk := m.disk(t)
	otherBoot := rapid.Bool().Draw(t, "the machine, too")
	if otherBoot {
		m.opt.BootID += "x"
	}
	m.verdict(there, func(q *piece) int {
		if otherBoot {
			return 2
		}
		return m.strikes[q.at] + 1
	}, func(q *piece) bool { return m.strikes[q.at] >= 2 })
	for _, q := range p.path() {
		if !slices.Contains(there, q) {
			m.guilty[q.at]++ // a file that was removed may come back, and be judged
		}
	}
	m.crash(t, disk)
}

func (m *model) clear(t *rapid.T) {
	if rapid.IntRange(0, 4).Draw(t, "really") > 0 {
		return
	}
	if _, err := m.s.Clear(); err != nil && m.working() {
		t.Fatal(err)
	}
	if st := m.s.Stats(); m.working() && !m.faulty && st.Segments+st.QuarantineFiles+len(m.names("quarantine")) > m.foreignJail() {
		t.Fatalf("after a clear: %+v, %v", st, m.names("quarantine"))
	}
	m.listen()
}

// foreignJail returns how many files of the quarantine are somebody else's.
func (m *model) foreignJail() (n int) {
	for _, base := range m.names("quarantine") {
		if base == "x" {
			n++
		}
	}
	return n
}

// disk draws what a crash leaves: everything, or any part of what was not synced.
func (m *model) disk(t *rapid.T) *errfs.Mem {
	m.s.Settle()
	if rapid.Bool().Draw(t, "power cut") {
		m.cut()
		return m.mem.CrashClone(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "luck"), 0)))
	}
	return m.mem.KillClone()
}

// cut gives up what was never safe from a power cut.
func (m *model) cut() {
	for _, p := range universe() { // a damaged file that was removed may come back
		m.damaged[p.at] = m.damaged[p.at] || m.hurt[p.at] && !m.promised[p.at]
	}
	if !m.loose {
		return
	}
	for _, p := range universe() {
		m.forget(p)
	}
	m.lose()
}

// crash ends the process; the store goes on with what is on the disk then.
func (m *model) crash(t *rapid.T, after *errfs.Mem) {
	m.fs.Crash()
	_ = m.s.Close(context.Background()) // a dead process: nothing of it reaches the disk
	m.mem = after
	m.mem.SetCapacity(0)
	m.fs = errfs.Wrap(after)
	m.world.fs, m.opt.FS = m.fs, m.fs
	m.started(t)
}

// started opens the store on a disk without faults and checks what it finds.
func (m *model) started(t *rapid.T) {
	m.listen()
	m.faulty = false
	for i, held := range m.withheld {
		m.withheld[i] = false
		if held && m.strikes[i] >= 2 {
			m.guilty[i]++ // two strikes, and no verdict before the end
		}
	}
	m.open()
	m.listen()
	v := m.s.Stats().Recovery
	m.blind, m.unsized = v.Unreadable > 0, false
	broken := false
	for i := range m.damaged {
		broken = broken || m.damaged[i]
	}
	if v.Corrupt > 0 && !broken && !m.loose || v.Unreadable > 0 {
		t.Fatalf("recovery found %+v\n%s", v, m.dumpLog())
	}
	if left := append(m.temps(), m.names("inflight")...); len(left) > 0 {
		t.Fatalf("left over after a start: %v", left)
	}
	m.vague = false
	for _, p := range universe() {
		if m.promised[p.at] && m.dim[p.at] {
			m.learn(p)
		}
	}
	m.check()
}

// restart closes the store well and opens it again, perhaps with other options.
func (m *model) restart(t *rapid.T, change func(*kvstore.Options)) {
	if err := m.s.Close(context.Background()); err != nil {
		t.Fatalf("close: %v", err)
	}
	m.fs.SetRules()
	m.mem.SetCapacity(0)
	if change != nil {
		change(&m.opt)
	}
	m.started(t)
}

func (m *model) crashInSave(t *rapid.T) {
	p := anyPiece(t)
	var after *errfs.Mem
	op := rapid.SampledFrom([]errfs.Op{errfs.OpCreate, errfs.OpWrite, errfs.OpSync, errfs.OpClose, errfs.OpRename, errfs.OpRemove,
		errfs.OpSyncDir, errfs.OpMkdir}).Draw(t, "op")
	part := rapid.SampledFrom([]string{"", ":part=50%"}).Draw(t, "part")
	cut, luck := rapid.Bool().Draw(t, "power cut"), rapid.Uint64().Draw(t, "luck")
	rule := errfs.MustParse(fmt.Sprintf("%s:nth=%d%s:kill9", op, rapid.IntRange(1, 12).Draw(t, "nth"), part))
	words := 0
	m.fs.SetRules(rule.Then(func() {
		m.mu.Lock()
		words = len(m.log)
		m.mu.Unlock()
		if after = m.mem.KillClone(); cut {
			after = m.mem.CrashClone(rand.New(rand.NewPCG(luck, 0)))
		}
	}))
	was := m.faulty
	m.faulty = true // the store sees errors in the moment of its death
	for _, q := range p.path() {
		if m.save(q) != nil {
			break
		}
	}
	_ = m.s.Flush(context.Background())
	m.s.Settle()
	if after == nil {
		m.fs.SetRules()
		m.check()
		m.promise(p)
		m.faulty = was
		return
	}
	if cut {
		m.cut()
	}
	m.mu.Lock()
	m.log = m.log[:words] // what the dead say does not count
	m.mu.Unlock()
	m.crash(t, after)
}
