package kvstore

import (
	"cmp"
	"fmt"
	"slices"

	"ds4/runtime/kvstore/segment"
)

// maxTwinBytes bounds the text that one start reads to tell twins apart.
const maxTwinBytes = 16 << 20

// twins returns the segments that no checksum tells from another one: same parent,
// same length and checksum of the text. By accident that does not happen; a file
// under many names does it, and could hide good segments from lookups.
func (ix *index) twins() []*node {
	same := func(a, b *node) bool { return a.textLen == b.textLen && a.textCRC == b.textCRC }
	var list []*node
	for _, f := range ix.families {
		f.order()
		for i, n := range f.kids {
			if i > 0 && same(n, f.kids[i-1]) || i+1 < len(f.kids) && same(n, f.kids[i+1]) {
				list = append(list, n)
			}
		}
	}
	slices.SortFunc(list, func(a, b *node) int { return cmp.Compare(a.id.String(), b.id.String()) })
	return list
}

// exposeTwins reads the texts of twins. Whose text does not hash to its name is a
// file under another's name.
func (s *Store) exposeTwins() {
	s.mu.Lock()
	list := s.ix.twins()
	s.mu.Unlock()
	left := maxTwinBytes
	for _, n := range list {
		err := fmt.Errorf("%w: one of too many with the same text", segment.ErrCorrupt)
		if left -= n.textLen; left >= 0 {
			err = s.proveName(n)
		}
		if err != nil {
			s.expose(n, err)
		}
	}
}

// expose takes a segment out of the index whose name could not be proven.
func (s *Store) expose(n *node, err error) {
	s.mu.Lock()
	s.ix.remove(n)
	s.mu.Unlock()
	if !isFormat(err) {
		s.verdicts.Unreadable++
		s.addForeign(n.bytes) // it may be read another time
		return
	}
	s.verdicts.Corrupt++
	s.isolate(n, "misnamed", err)
}

// exposeParents proves the names of segments that do not end where others say that
// they do: a file under another's name must not cost what continues that.
func (s *Store) exposeParents() {
	s.mu.Lock()
	doubtful := map[*node]bool{}
	for _, n := range s.ix.nodes {
		if p := s.ix.nodes[n.parent]; p != nil && p.to != n.from {
			doubtful[p] = true
		}
	}
	s.mu.Unlock()
	for p := range doubtful {
		if err := s.proveName(p); err != nil {
			s.expose(p, err)
		}
	}
}

// sortOrphans counts the segments that no lookup can reach, because one before
// them is gone. They stay, as the first to be evicted: when the missing one is
// evaluated and written again, they continue it, so damage costs the damaged
// segment and not what follows it. What does not begin where its parent ends can
// never be of use, provided that the parent is what its name says.
func (s *Store) sortOrphans() {
	s.exposeParents()
	s.mu.Lock()
	reached := s.ix.reached()
	var useless []*node
	for id, n := range s.ix.nodes {
		if reached[id] {
			continue
		}
		s.verdicts.Orphan++
		if p := s.ix.nodes[n.parent]; n.from > 0 && p != nil && p.to != n.from || s.opt.Unsafe.DropOrphans {
			useless = append(useless, n)
		}
	}
	for _, n := range useless {
		s.ix.remove(n)
	}
	s.mu.Unlock()
	for _, n := range useless {
		s.sweep(s.dir.segment(n.id))
	}
}

// proveName reads the text of a segment and compares its hash with the name.
func (s *Store) proveName(n *node) error {
	f, err := s.fs.Open(s.dir.segment(n.id))
	if err != nil {
		return err
	}
	defer f.Close()
	r := segment.Reader{R: tap{f, n.id.String(), ptTextRead}, Size: n.bytes, NoChecksum: s.opt.Unsafe.NoChecksum}
	h, err := r.Header()
	if err != nil {
		return err
	}
	in, err := r.Info(h, &s.opt.Layout)
	if err != nil {
		return err
	}
	text := make([]byte, in.Table[0].Bytes)
	if err := r.Read(in.Table[0], text); err != nil {
		return err
	}
	if got := segment.MakeID(h.Identity, h.Parent, h.From, text); got != n.id {
		return fmt.Errorf("%w: text hashes to %v", segment.ErrCorrupt, got)
	}
	return nil
}
