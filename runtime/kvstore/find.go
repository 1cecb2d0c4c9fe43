package kvstore

import (
	"cmp"
	"slices"

	"ds4/runtime/kvstore/segment"
)

// maxHashing bounds, in lengths of the prompt, what one lookup hashes. What is
// really there needs one length at most; more is needed only where checksums
// collide, which somebody has to arrange. Beyond the bound there is no hit.
const maxHashing = 4

// match is a segment whose text comes next in a prompt, as far as its checksum
// tells.
type match struct {
	n       *node
	before  int // the match that it follows, -1 at the root
	end     int // of its text in the prompt
	proven  bool
	refuted bool
}

// search is one lookup. It takes time in proportion to the prompt, and to the
// number of segments that follow those that match, whatever their lengths.
type search struct {
	ix        *index
	identity  [32]byte
	text      []byte
	sums      sums
	maxTokens int
	matches   []match
	hashed    int // bytes
}

// longest returns the offered node that covers the longest prefix of text within
// maxTokens (0: any), or nil, and the length of its text. The text begins where
// segment after ends, at position from; the zero id and 0 are the root.
func (ix *index) longest(identity [32]byte, after segment.ID, from int, text []byte, maxTokens int) (best *node, textLen int) {
	s := search{ix: ix, identity: identity, text: text, sums: sums{text: text}, maxTokens: maxTokens}
	return s.longest(after, from)
}

// longest collects what seems to match and returns the longest that does.
func (s *search) longest(after segment.ID, from int) (best *node, textLen int) {
	s.extend(-1, after, 0, from)
	for i := 0; i < len(s.matches); i++ {
		m := s.matches[i]
		s.extend(i, m.n.id, m.end, m.n.to)
	}
	if len(s.matches) == 0 {
		return nil, 0
	}
	first := 0
	order := make([]int, len(s.matches))
	for i := range order {
		order[i] = i
		if s.compare(i, first) < 0 {
			first = i
		}
	}
	if s.prove(first) {
		return s.matches[first].n, s.matches[first].end
	}
	slices.SortFunc(order, s.compare)
	for _, i := range order {
		if s.prove(i) {
			return s.matches[i].n, s.matches[i].end
		}
	}
	return nil, 0
}

// compare orders matches: the one that covers most first.
func (s *search) compare(a, b int) int {
	x, y := &s.matches[a], &s.matches[b]
	return cmp.Or(cmp.Compare(y.end, x.end), cmp.Compare(y.n.to, x.n.to))
}

// extend adds the matches among the children of a place in the prompt: behind the
// segment id, at byte pos and token tok.
func (s *search) extend(at int, id segment.ID, pos, tok int) {
	s.ix.prefixes(id, &s.sums, pos, func(n *node) {
		if n.offered() && n.from == tok && (s.maxTokens <= 0 || n.to <= s.maxTokens) {
			s.matches = append(s.matches, match{n: n, before: at, end: pos + n.textLen})
		}
	})
}

// prefixes calls visit for each child of a segment whose text, as far as its
// checksum tells, stands at pos: shorter ones first.
func (ix *index) prefixes(id segment.ID, text *sums, pos int, visit func(*node)) {
	f := ix.families[id]
	if f == nil {
		return
	}
	f.order()
	var sum uint32
	done := pos
	for kids := f.kids; len(kids) > 0; {
		end := pos + kids[0].textLen
		if end > len(text.text) {
			return
		}
		sum = text.extend(sum, pos, done, end)
		done = end
		same := 1 // children of this length
		for same < len(kids) && kids[same].textLen == kids[0].textLen {
			same++
		}
		first, _ := slices.BinarySearchFunc(kids[:same], sum, func(n *node, sum uint32) int { return cmp.Compare(n.textCRC, sum) })
		for _, n := range kids[first:same] {
			if n.textCRC != sum {
				break
			}
			if ix.nodes[n.id] == n {
				visit(n)
			}
		}
		kids = kids[same:]
	}
}

// prove reports whether a match and all before it are what they seem.
func (s *search) prove(i int) bool {
	for j := i; j >= 0; j = s.matches[j].before {
		m := &s.matches[j]
		if m.proven {
			continue
		}
		if m.refuted || s.hashed+m.n.textLen > maxHashing*len(s.text) {
			return false
		}
		s.hashed += m.n.textLen
		m.proven = segment.MakeID(s.identity, m.n.parent, m.n.from, s.text[m.end-m.n.textLen:m.end]) == m.n.id
		if m.refuted = !m.proven; m.refuted {
			return false
		}
	}
	return true
}
