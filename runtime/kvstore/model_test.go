package kvstore_test

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/segment"
)

// piece is one segment of a small universe of conversations. All of them are
// known, so that whatever a store brings back can be compared with the truth.
type piece struct {
	at     int // in the universe
	parent *piece
	talk   talk // from the root on
	seg    *kvstore.Segment
}

func (p *piece) from() int { return p.seg.From }
func (p *piece) to() int   { return p.seg.To }

// path returns the chain from the root to the piece.
func (p *piece) path() []*piece {
	var list []*piece
	for ; p != nil; p = p.parent {
		list = append(list, p)
	}
	slices.Reverse(list)
	return list
}

const universeDepth = 4

// universe is a forest: two roots, two continuations of every segment, and one
// tail that the first of them replaces.
var universe = sync.OnceValue(func() []*piece {
	var all []*piece
	var grow func(parent *piece, talk talk, seed uint64, depth int)
	add := func(parent *piece, t talk) *piece {
		from := 0
		if parent != nil {
			from = parent.to()
		}
		p := &piece{at: len(all), parent: parent, talk: t, seg: t.segment("", from, len(t))}
		all = append(all, p)
		return p
	}
	grow = func(parent *piece, t talk, seed uint64, depth int) {
		for i := range uint64(2) {
			next := t.then(newTalk(10*seed+i, segTokens))
			p := add(parent, next)
			if i == 0 {
				add(parent, next[:len(next)-segTokens/2])
			}
			if depth > 1 {
				grow(p, next, 10*seed+i, depth-1)
			}
		}
	}
	grow(nil, nil, 7, universeDepth)
	return all
})

// idsOf returns the names of all pieces for an identity.
func idsOf(identity [32]byte) []string {
	ids := make([]segment.ID, len(universe()))
	list := make([]string, len(ids))
	for i, p := range universe() {
		var parent segment.ID
		if p.parent != nil {
			parent = ids[p.parent.at]
		}
		ids[i] = segment.MakeID(identity, parent, p.from(), p.seg.Text)
		list[i] = ids[i].String()
	}
	return list
}

var identities = [2][32]byte{{1}, {2}}

var universeIDs = sync.OnceValue(func() [2][]string { return [2][]string{idsOf(identities[0]), idsOf(identities[1])} })

// model is what a simple mind knows about a store: which segments were flushed
// to the disk and what has been done to them since.
type model struct {
	*world
	fs   *errfs.FS
	mem  *errfs.Mem
	who  int // index of the identity
	read int // log lines that were looked at

	promised []bool // by piece: stored, flushed, and not given up in a log line since
	damaged  []bool // by piece: its file was changed behind the store's back
	hurt     []bool // by piece: it was, once
	strikes  []int  // by piece, of promised ones
	dim      []bool // by piece: strikes are not known
	judged   []int  // by piece: went to quarantine for what it did
	withheld []bool
	guilty   []int  // convictions by piece
	stored   []bool // by piece: the log has said so

	calm    bool // no errors are injected, and everything is synced
	faulty  bool // errors are, or were in this life, injected
	blind   bool // the last recovery may not have seen every segment
	unsized bool // nor every byte
	vague   bool // nor are strikes and verdicts, until the next start
	loose   bool // something was not synced that should have been: a power cut may take anything
	swapped bool // a good file has lain under another's name
	tight   bool // the budget may evict
	reason  string
}

func newModel(t tester) *model {
	n := len(universe())
	m := &model{mem: errfs.NewMem(), promised: make([]bool, n), damaged: make([]bool, n), strikes: make([]int, n),
		withheld: make([]bool, n), guilty: make([]int, n), stored: make([]bool, n), hurt: make([]bool, n), dim: make([]bool, n), judged: make([]int, n)}
	m.fs = errfs.Wrap(m.mem)
	m.world = newWorld(t, m.fs, func(o *kvstore.Options) { o.Readers = 2 })
	return m
}

func (m *model) id(p *piece) string { return universeIDs()[m.who][p.at] }

// pieceOf returns the piece with an id of the present identity.
func (m *model) pieceOf(id string) *piece {
	if i := slices.Index(universeIDs()[m.who], id); i >= 0 {
		return universe()[i]
	}
	return nil
}

// forget gives up what was promised about a piece.
func (m *model) forget(p *piece) {
	m.promised[p.at], m.strikes[p.at], m.withheld[p.at] = false, 0, false
}

// lose gives up what was known of strikes and verdicts.
func (m *model) lose() {
	m.vague = true
	for i := range m.dim {
		m.dim[i] = true
	}
}

// learn takes the strikes of a piece from the store: of a new file, or after a
// start, when they are what the disk has.
func (m *model) learn(p *piece) {
	for _, e := range m.s.List() {
		if e.ID == m.id(p) {
			m.strikes[p.at], m.dim[p.at] = e.Strikes, false
		}
	}
}

// idIn returns the id that a line of the log names.
func idIn(line string) string {
	for _, mark := range []string{"key=", "file=", "load failed ", "remove "} {
		if _, rest, ok := strings.Cut(line, mark); ok {
			word, _, _ := strings.Cut(rest, " ")
			return strings.TrimSuffix(strings.Trim(path.Base(word), `:"`), ".kv")
		}
	}
	return ""
}

// listen reads the store's log. What it says about a segment is the only excuse
// for losing it, and has to be a good one.
func (m *model) listen() {
	m.t.Helper()
	m.mu.Lock()
	lines := slices.Clone(m.log[m.read:])
	m.read = len(m.log)
	m.mu.Unlock()
	renewed := map[*piece]bool{} // of which the file goes and a fresh one takes its place
	for _, line := range lines {
		p := m.pieceOf(idIn(line))
		switch {
		case strings.HasPrefix(line, "kv cache cleared"):
			for _, p := range universe() {
				m.forget(p)
				if !m.faulty && !m.loose { // else the journal may not know
					m.guilty[p.at], m.judged[p.at] = 0, 0
				}
			}
		case p == nil:
		case strings.HasPrefix(line, "kv cache renewed"):
			renewed[p] = true
		case strings.HasPrefix(line, "kv cache stored"):
			m.stored[p.at] = true
		case strings.HasPrefix(line, "kv cache evicted"):
			if strings.Contains(line, "disk-cache-full") && !m.tight || strings.Contains(line, "device-full") && !m.faulty {
				m.t.Fatalf("evicted without need: %s", line)
			}
			if strings.Contains(line, "superseded") && !m.replaced(p, func(q *piece) bool { return m.stored[q.at] }) {
				m.t.Fatalf("nothing has replaced it: %s", line)
			}
			for _, q := range universe() {
				if q.parent == p && m.s.Has(m.id(q)) && !m.s.Has(m.id(p)) && !m.trusting() && !m.hurt[q.at] {
					m.t.Fatalf("evicted before %s, which continues it: %s", m.id(q), line)
				}
			}
			m.forget(p)
		case strings.HasPrefix(line, "kv cache quarantined"):
			if m.promised[p.at] && !m.faulty && !m.loose && !m.damaged[p.at] && !m.vague && !m.dim[p.at] && m.strikes[p.at] < 2 && m.guilty[p.at] == 0 {
				m.t.Fatalf("an innocent segment: %s", line)
			}
			if strings.Contains(line, "why=poisoned") || strings.Contains(line, "why=convicted") {
				m.judged[p.at]++
			}
			m.forget(p)
			m.promised[p.at] = renewed[p] && m.opt.Sync == kvstore.SyncData
		case strings.HasPrefix(line, "kv cache cannot"):
			if !m.faulty {
				m.t.Fatalf("without a fault: %s", line)
			}
			m.forget(p)
		case strings.HasPrefix(line, "kv cache load failed"):
			if !m.faulty && !m.damaged[p.at] && !m.loose && !m.vague {
				m.t.Fatalf("a good file: %s", line)
			}
			if strings.Contains(line, "no such file") {
				m.forget(p)
			}
		}
	}
}

// replaced reports whether a longer segment makes a tail superfluous.
func (m *model) replaced(p *piece, there func(*piece) bool) bool {
	for _, q := range universe() {
		if q != p && q.parent == p.parent && q.to() > p.to() && strings.HasPrefix(string(q.seg.Text), string(p.seg.Text)) && there(q) {
			return true
		}
	}
	return false
}

// working reports whether the store is what it was opened to be.
func (m *model) working() bool {
	ok, why := m.s.Health()
	m.reason = why
	return ok || strings.HasPrefix(why, "not storing")
}

// check holds after every step.
func (m *model) check() {
	m.t.Helper()
	if !m.s.Settle() {
		m.t.Fatal("the keeper hangs")
	}
	m.listen()
	if ok, why := m.s.Health(); !ok && !m.faulty {
		m.t.Fatalf("without a fault: %s", why)
	}
	if !m.working() {
		return
	}
	listed := map[string]kvstore.Entry{}
	for _, e := range m.s.List() {
		listed[e.ID] = e
		m.checkEntry(e)
	}
	for _, p := range universe() {
		e, there := listed[m.id(p)]
		if !there {
			m.damaged[p.at] = m.damaged[p.at] && m.blind
			if m.promised[p.at] && !m.blind {
				m.t.Fatalf("%s [%d, %d) was flushed and nothing was said about its loss", m.id(p), p.from(), p.to())
			}
			continue
		}
		if want := m.strikes[p.at]; m.promised[p.at] && !m.dim[p.at] && e.Strikes != want {
			m.t.Fatalf("%s has %d strikes, want %d", e.ID, e.Strikes, want)
		}
	}
	m.checkBytes()
}

// trusting reports whether the index may hold what a damaged header says, because
// the store was told not to look, or that of another file, whose name a start does
// not prove. What comes of it is still never wrong.
func (m *model) trusting() bool {
	return m.swapped || m.opt.Validate == kvstore.ValidateOff && slices.Contains(m.hurt, true)
}

func (m *model) checkEntry(e kvstore.Entry) {
	p := m.pieceOf(e.ID)
	if m.trusting() || p != nil && m.hurt[p.at] {
		return
	}
	if p == nil || e.From != p.from() || e.To != p.to() || e.Text != len(p.seg.Text) {
		m.t.Fatalf("a segment that nobody wrote: %+v", e)
	}
	if parent := p.parent; parent != nil && e.Parent != m.id(parent) {
		m.t.Fatalf("another parent: %+v", e)
	}
}

// checkBytes: the budget holds, and what the store says about the disk is true.
func (m *model) checkBytes() {
	st := m.s.Stats()
	if st.UsedBytes > st.BudgetBytes {
		m.t.Fatalf("used %d of %d", st.UsedBytes, st.BudgetBytes)
	}
	if m.unsized || slices.Contains(m.damaged, true) {
		return // bytes that it could not see, or that others have written, are on nobody's account
	}
	if real := m.mem.Used() - m.overhead(); real > st.SegmentBytes+st.QuarantineBytes+st.ForeignBytes+st.TempBytes {
		m.t.Fatalf("%d bytes on disk, and the store knows of %d in segments, %d in quarantine, %d foreign, %d temporary:\n%s%s",
			real, st.SegmentBytes, st.QuarantineBytes, st.ForeignBytes, st.TempBytes, m.snapshot(), m.dumpLog())
	}
	if left := m.temps(); len(left) > 0 && !m.faulty {
		m.t.Fatalf("temporary files of nobody: %v", left)
	}
}

// names looks at the disk itself: what is injected is for the store.
func (m *model) names(sub string) []string { return (&world{fs: m.mem}).names(sub) }

// overhead returns the bytes for which the budget has an allowance.
func (m *model) overhead() (sum int64) {
	names := []string{"journal", "LOCK"}
	for _, base := range m.names("inflight") {
		names = append(names, "inflight/"+base)
	}
	for _, name := range names {
		if fi, err := m.mem.Lstat(path.Join(dir, name)); err == nil {
			sum += fi.Size()
		}
	}
	return sum
}

// temps returns the temporary files. A folder among them is somebody else's, and
// the copy of a segment on probation stands by for the verdict.
func (m *model) temps() []string {
	return slices.DeleteFunc(m.names("tmp"), func(base string) bool { return base == foreignFolder || m.standsBy(base) })
}

func (m *model) standsBy(base string) bool {
	id, _, _ := strings.Cut(base, ".")
	for _, e := range m.s.List() {
		if e.ID == id && e.State == kvstore.StateProbation {
			return true
		}
	}
	return false
}

// foreignFolder is a name that the model puts where only files belong.
const foreignFolder = "d"

// longest is what a lookup of a piece's text should find.
func (m *model) longest(p *piece) int {
	ok := map[string]bool{}
	for _, e := range m.s.List() {
		ok[e.ID] = e.State == kvstore.StateOK
	}
	best := 0
	var parent *piece
	for _, q := range p.path() {
		for _, x := range universe() { // the tails of this place, too
			if x.parent == parent && ok[m.id(x)] && strings.HasPrefix(string(p.talk.text()), string(x.talk.text())) && m.fits(x.to()) {
				best = max(best, x.to())
			}
		}
		if !ok[m.id(q)] || !m.fits(q.to()) {
			break
		}
		parent = q
	}
	if best < m.opt.MinTokens {
		return 0
	}
	return best
}

func (m *model) fits(to int) bool { return m.opt.ContextTokens == 0 || to < m.opt.ContextTokens }

// use looks a piece up and restores it. What comes back is right, and as long as
// it should be.
func (m *model) use(p *piece) {
	m.t.Helper()
	if !m.working() {
		if c := m.s.Lookup(p.talk.text()); !c.Empty() && !strings.HasPrefix(m.reason, "read-only") {
			m.t.Fatalf("a store that is %s finds %+v", m.reason, c)
		}
		return
	}
	want := m.longest(p)
	c := m.s.Lookup(p.talk.text())
	if c.Tokens != want && !m.trusting() {
		m.t.Fatalf("lookup finds %d tokens, want %d", c.Tokens, want)
	}
	if c.Empty() {
		return
	}
	got, err := m.restoreChain(c, p.talk)
	m.s.Settle()
	m.listen()
	if excuse := m.faulty || m.loose || slices.Contains(m.damaged, true); !excuse && (err != nil || got != want) {
		m.t.Fatalf("%d of %d tokens come back: %v", got, want, err)
	}
}

func (m *model) String() string {
	var b strings.Builder
	for _, p := range universe() {
		if m.promised[p.at] {
			fmt.Fprintf(&b, "%s [%d, %d) strikes %d\n", m.id(p)[:8], p.from(), p.to(), m.strikes[p.at])
		}
	}
	return b.String()
}
