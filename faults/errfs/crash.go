package errfs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"sort"
	"strings"
)

// What the medium may hold of a block that was written and not synced.
const (
	blockOld  = iota // what was synced there, if anything
	blockNew         // what is there now
	blockTorn        // its beginning new, its end old
	blockHole        // the file has grown over it, and it is zeros
)

// Loose is something that was not synced, of which the medium may hold one of
// several values: what a name stands for, or the contents of a block.
type Loose struct {
	Path   string
	Block  int // number of a file's block; -1 for the name itself
	Values int // how many different ones; 0 is what was synced
	Value  int // the one that a fate picks
}

// String says what is loose and which of its values was picked.
func (l Loose) String() string {
	if l.Block < 0 {
		return fmt.Sprintf("%s=%d/%d", l.Path, l.Value, l.Values)
	}
	return fmt.Sprintf("%s[%d]=%s", l.Path, l.Block, [...]string{"old", "new", "torn", "hole"}[l.Value])
}

// Fate is one outcome of a power cut: a value for everything that was loose and
// that can be reached in it.
type Fate []Loose

// String lists the picked values, for a message that says how to get there again.
func (f Fate) String() string {
	words := make([]string, len(f))
	for i, l := range f {
		words[i] = l.String()
	}
	return strings.Join(words, " ")
}

// Values returns the picked values, for CrashAs.
func (f Fate) Values() []int {
	list := make([]int, len(f))
	for i, l := range f {
		list[i] = l.Value
	}
	return list
}

// CrashClone returns what the disk may hold if the machine stops now: everything
// that was synced, and of the rest what rng picks. With rng nil only what was
// synced. Locks are free: their process is dead.
func (m *Mem) CrashClone(rng *rand.Rand) *Mem {
	c := &cloner{pick: func(Loose) int { return 0 }, cut: half}
	if rng != nil {
		c.pick = func(l Loose) int { return rng.IntN(l.Values) }
		c.cut = rng.IntN
	}
	return m.clone(c)
}

// Unsynced lists everything that is loose now and has a name.
func (m *Mem) Unsynced() Fate {
	var list Fate
	m.clone(&cloner{cut: half, pick: func(l Loose) int {
		if l.Value = l.Values - 1; l.Block >= 0 {
			l.Value = blockNew
		}
		list = append(list, l)
		return l.Value
	}})
	return list
}

// CrashAs returns the disk that a fate's values describe. Values that are missing
// at the end are 0: nothing of it arrived.
func (m *Mem) CrashAs(values []int) *Mem {
	return m.clone(&cloner{cut: half, pick: func(l Loose) int {
		if len(values) == 0 {
			return 0
		}
		v := values[0]
		values = values[1:]
		return min(v, l.Values-1)
	}})
}

// Crashes calls visit for every disk that the machine may leave if it stops now,
// at most limit of them, and stops at its first error. A torn block is torn in its
// middle. What fixed reports true for is not varied: it is taken as it was synced.
// It returns how many disks there were, and whether those were all.
func (m *Mem) Crashes(limit int, fixed func(path string) bool, visit func(Fate, *Mem) error) (n int, all bool, err error) {
	var fate Fate
	for n < limit {
		at := 0
		disk := m.clone(&cloner{cut: half, pick: func(l Loose) int {
			if fixed != nil && fixed(l.Path) {
				return 0
			}
			if at == len(fate) {
				fate = append(fate, l)
			}
			at++
			return fate[at-1].Value
		}})
		n++
		if err := visit(slices.Clone(fate), disk); err != nil {
			return n, false, err
		}
		// The last value that can be changed is, and what comes behind it depends on
		// it: it is found anew.
		for len(fate) > 0 && fate[len(fate)-1].Value == fate[len(fate)-1].Values-1 {
			fate = fate[:len(fate)-1]
		}
		if len(fate) == 0 {
			return n, true, nil
		}
		fate[len(fate)-1].Value++
	}
	return n, false, nil
}

// KillClone returns what the next process finds when this one is killed but the
// machine goes on: everything, synced or not.
func (m *Mem) KillClone() *Mem {
	return m.clone(&cloner{whole: true})
}

func half(n int) int { return n / 2 }

// cloner makes one clone. It walks the names in their order, so that it asks the
// same questions in the same order each time.
type cloner struct {
	pick  func(Loose) int // which value does the medium hold?
	cut   func(n int) int // where in n bytes is a block torn?
	whole bool            // keep everything and what is synced of it
	done  map[*inode]*inode
}

func (m *Mem) clone(c *cloner) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.done = map[*inode]*inode{}
	out := &Mem{root: c.clone("/", m.root)}
	if c.whole {
		out.used, out.capacity = m.used, m.capacity
		return out
	}
	for _, n := range c.done {
		if !n.isDir() {
			out.used += int64(len(n.data))
		}
	}
	return out
}

func (c *cloner) clone(name string, n *inode) *inode {
	if n == nil {
		return nil
	}
	if out := c.done[n]; out != nil {
		if !c.whole {
			out.links++ // one file under two names
		}
		return out
	}
	out := &inode{mod: n.mod, links: 1}
	c.done[n] = out
	switch {
	case c.whole:
		out.links, out.data, out.syncedData = n.links, n.data, n.syncedData
		if n.isDir() {
			c.cloneWhole(name, n, out)
		}
	case n.isDir():
		out.names, out.synced, out.past = map[string]*inode{}, map[string]*inode{}, map[string][]*inode{}
		for _, base := range n.everyName() {
			at := path.Join(name, base)
			values := n.values(base)
			v := 0
			if len(values) > 1 {
				v = c.pick(Loose{Path: at, Block: -1, Values: len(values)})
			}
			if child := c.clone(at, values[v]); child != nil {
				out.names[base], out.synced[base] = child, child
			}
		}
	default:
		out.data = c.mix(name, n.syncedData, n.data)
		out.syncedData = out.data
	}
	return out
}

func (c *cloner) cloneWhole(name string, n, out *inode) {
	out.names, out.synced, out.past = map[string]*inode{}, map[string]*inode{}, map[string][]*inode{}
	for base, child := range n.names {
		out.names[base] = c.clone(name, child)
	}
	for base, child := range n.synced {
		out.synced[base] = c.clone(name, child)
	}
	for base, list := range n.past {
		for _, child := range list {
			out.past[base] = append(out.past[base], c.clone(name, child))
		}
	}
}

// values returns what a name may stand for on the medium: what was synced first,
// what it stands for now last. Nil: there is no such name.
func (n *inode) values(base string) []*inode {
	var list []*inode
	for _, v := range append(append([]*inode{n.synced[base]}, n.past[base]...), n.names[base]) {
		if !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
}

// everyName returns the names that a folder has or may have on the medium.
func (n *inode) everyName() []string {
	seen := map[string]bool{}
	for base := range n.names {
		seen[base] = true
	}
	for base := range n.synced {
		seen[base] = true
	}
	for base := range n.past {
		seen[base] = true
	}
	list := make([]string, 0, len(seen))
	for base := range seen {
		list = append(list, base)
	}
	sort.Strings(list)
	return list
}

// mix returns the contents that the medium may hold of a file, block by block.
// What never arrived below something that did reads as zeros.
func (c *cloner) mix(name string, synced, now []byte) []byte {
	if bytes.Equal(synced, now) {
		return synced
	}
	out := make([]byte, 0, max(len(synced), len(now)))
	for at := 0; at < cap(out); at += BlockBytes {
		old, new := block(synced, at), block(now, at)
		b := old
		if !bytes.Equal(old, new) {
			b = c.mixBlock(Loose{Path: name, Block: at / BlockBytes}, old, new, at+BlockBytes >= cap(out))
		}
		if len(b) > 0 {
			out = append(out, make([]byte, at-len(out))...)
			out = append(out, b...)
		}
	}
	return out
}

func (c *cloner) mixBlock(l Loose, old, new []byte, last bool) []byte {
	l.Values = blockTorn + 1
	if last && len(old) == 0 {
		l.Values = blockHole + 1
	}
	b := make([]byte, max(len(old), len(new)))
	copy(b, old)
	switch c.pick(l) {
	case blockOld:
		return old
	case blockNew:
		return new
	case blockTorn:
		copy(b, new[:c.cut(max(len(new), 1))])
	}
	return b
}

func block(data []byte, at int) []byte {
	if at >= len(data) {
		return nil
	}
	return data[at:min(at+BlockBytes, len(data))]
}
