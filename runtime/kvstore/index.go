package kvstore

import (
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
	textLen    int
	textCRC    uint32 // from the section table: finds the node without the text
	bytes      int64
	createdNS  int64

	hits     float64 // decayed, as of lastUsed
	lastUsed time.Time
	strikes  int
	withheld bool // on probation
	leaving  bool // its file is being removed
	pins     int  // restores and waiting requests that want it
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

// textKey finds the children of a node whose text could come next.
type textKey struct {
	len int
	crc uint32
}

// family is the children of one segment, which may be gone itself.
type family struct {
	byText   map[textKey][]*node
	lengths  []int // distinct text lengths, ascending
	ofLength map[int]int
	count    int
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
		f = &family{byText: map[textKey][]*node{}, ofLength: map[int]int{}}
		ix.families[n.parent] = f
	}
	k := textKey{n.textLen, n.textCRC}
	f.byText[k] = append(f.byText[k], n)
	f.count++
	if f.ofLength[n.textLen]++; f.ofLength[n.textLen] == 1 {
		i, _ := slices.BinarySearch(f.lengths, n.textLen)
		f.lengths = slices.Insert(f.lengths, i, n.textLen)
	}
}

func (ix *index) remove(n *node) {
	if ix.nodes[n.id] != n {
		return
	}
	delete(ix.nodes, n.id)
	ix.bytes -= n.bytes
	f := ix.families[n.parent]
	k := textKey{n.textLen, n.textCRC}
	f.byText[k] = slices.DeleteFunc(f.byText[k], func(o *node) bool { return o == n })
	if len(f.byText[k]) == 0 {
		delete(f.byText, k)
	}
	if f.ofLength[n.textLen]--; f.ofLength[n.textLen] == 0 {
		delete(f.ofLength, n.textLen)
		i, _ := slices.BinarySearch(f.lengths, n.textLen)
		f.lengths = slices.Delete(f.lengths, i, i+1)
	}
	if f.count--; f.count == 0 {
		delete(ix.families, n.parent)
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
		f := ix.families[id]
		if f == nil {
			continue
		}
		for _, list := range f.byText {
			for _, n := range list {
				if n.from == end {
					reached[n.id] = true
					open = append(open, n.id)
				}
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

// longest returns the offered node that covers the longest prefix of text within
// maxTokens (0: any), or nil, and the length of its text. The text begins where
// segment after ends, at position from; the zero id and 0 are the root.
func (ix *index) longest(identity [32]byte, after segment.ID, from int, text []byte, maxTokens int) (best *node, textLen int) {
	type place struct {
		id       segment.ID
		pos, tok int
	}
	open := []place{{id: after, tok: from}}
	for len(open) > 0 {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		f := ix.families[at.id]
		if f == nil {
			continue
		}
		rest := text[at.pos:]
		var sum uint32
		done := 0
		for _, l := range f.lengths {
			if l > len(rest) {
				break
			}
			sum = segment.AddChecksum(sum, rest[done:l])
			done = l
			for _, n := range f.byText[textKey{l, sum}] {
				if !n.offered() || n.from != at.tok || maxTokens > 0 && n.to > maxTokens ||
					segment.MakeID(identity, at.id, at.tok, rest[:l]) != n.id {
					continue
				}
				if end := at.pos + l; best == nil || end > textLen || end == textLen && n.to > best.to {
					best, textLen = n, end
				}
				open = append(open, place{n.id, at.pos + l, n.to})
			}
		}
	}
	return best, textLen
}
