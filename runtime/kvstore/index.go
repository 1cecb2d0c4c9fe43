package kvstore

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"time"

	"ds4/runtime/kvstore/segment"
)

// hitHalfLife is how long a hit takes to count half.
const hitHalfLife = 6 * time.Hour

// node is a segment that is on disk.
type node struct {
	id, parent segment.ID
	from, to   int
	sampled    bool // its last token was
	textLen    int
	textCRC    uint32 // from the section table: finds the node without the text
	tokensCRC  uint32 // likewise: one text may be cut into tokens in several ways
	bytes      int64
	createdNS  int64

	hits     float64 // decayed, as of lastUsed
	lastUsed time.Time
	strikes  int
	withheld bool // on probation
	leaving  bool // its file is being removed
	pins     int  // restores and waiting requests that want it
	standby  *standby
}

// decayedHits returns what the hits are worth now. A time in the future does not
// decay.
func (n *node) decayedHits(now time.Time) float64 {
	h := n.hits
	if age := now.Sub(n.lastUsed); age > 0 {
		h *= math.Exp2(-float64(age) / float64(hitHalfLife))
	}
	if h < 0.01 {
		return 0
	}
	return h
}

// score says how much is lost with the node: lowest goes first.
func (n *node) score(now time.Time) float64 {
	return (n.decayedHits(now) + 1) * float64(n.to-n.from) / float64(n.bytes)
}

// offered reports whether a lookup may use the node.
func (n *node) offered() bool { return !n.withheld && !n.leaving }

// family is the children of one segment, which may be gone itself.
type family struct {
	kids   []*node // by text length, then checksum, if sorted; some may be gone
	sorted bool
	gone   int // of kids: in the index no more
}

// live is the number of children.
func (f *family) live() int { return len(f.kids) - f.gone }

// order sorts the children. It is put off until somebody looks: a start adds them
// in the order of the folder.
func (f *family) order() {
	if !f.sorted {
		slices.SortFunc(f.kids, func(a, b *node) int {
			return cmp.Or(cmp.Compare(a.textLen, b.textLen), cmp.Compare(a.textCRC, b.textCRC))
		})
		f.sorted = true
	}
}

// index is the radix tree over text. Its edges are the texts of segments; they
// are not kept: a child is found by length and checksum of the next bytes of the
// prompt, and proven by its id, which is a cryptographic hash of them. One pass
// of checksumming over the prompt finds all children of a node, whatever their
// number.
type index struct {
	nodes    map[segment.ID]*node
	families map[segment.ID]*family // by parent
	bytes    int64                  // of all nodes
}

func newIndex() *index {
	return &index{nodes: map[segment.ID]*node{}, families: map[segment.ID]*family{}}
}

func (ix *index) add(n *node) {
	ix.nodes[n.id] = n
	ix.bytes += n.bytes
	f := ix.families[n.parent]
	if f == nil {
		f = &family{}
		ix.families[n.parent] = f
	}
	f.kids = append(f.kids, n)
	f.sorted = len(f.kids) == 1
}

func (ix *index) remove(n *node) {
	if ix.nodes[n.id] != n {
		return
	}
	delete(ix.nodes, n.id)
	ix.bytes -= n.bytes
	f := ix.families[n.parent]
	switch f.gone++; {
	case f.live() == 0:
		delete(ix.families, n.parent)
	case f.gone > f.live(): // so that removing many costs a pass now and then, not one each
		f.kids = slices.DeleteFunc(f.kids, func(k *node) bool { return ix.nodes[k.id] != k })
		f.gone = 0
	}
}

// children calls visit for each segment that follows the one with this id, until
// visit returns false.
func (ix *index) children(id segment.ID) iter.Seq[*node] {
	return func(visit func(*node) bool) {
		f := ix.families[id]
		if f == nil {
			return
		}
		for _, n := range f.kids {
			if ix.nodes[n.id] == n && !visit(n) {
				return
			}
		}
	}
}

// isLeaf reports whether no segment on disk continues this one.
func (ix *index) isLeaf(id segment.ID) bool { return ix.families[id] == nil }

// isOrphan reports whether the node's parent is gone, so that no lookup from the
// root reaches it until the parent is written again.
func (ix *index) isOrphan(n *node) bool {
	return !n.parent.IsZero() && ix.nodes[n.parent] == nil
}

// reached returns what a lookup from the root can reach: every segment before it
// is there and ends where the next one begins.
func (ix *index) reached() map[segment.ID]bool {
	reached := make(map[segment.ID]bool, len(ix.nodes))
	open := []segment.ID{{}}
	for len(open) > 0 {
		id := open[len(open)-1]
		open = open[:len(open)-1]
		end := 0
		if n := ix.nodes[id]; n != nil {
			end = n.to
		}
		for n := range ix.children(id) {
			if n.from == end {
				reached[n.id] = true
				open = append(open, n.id)
			}
		}
	}
	return reached
}

// chain returns the nodes from the one that follows segment after to n; nil if
// one is missing. The zero id is the root.
func (ix *index) chain(after segment.ID, n *node) []*node {
	var list []*node
	for {
		list = append(list, n)
		if n.parent == after {
			slices.Reverse(list)
			return list
		}
		if n = ix.nodes[n.parent]; n == nil {
			return nil
		}
	}
}
