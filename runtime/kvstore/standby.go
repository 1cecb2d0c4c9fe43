package kvstore

import (
	"fmt"
	"path"
)

// While a segment is on probation, a cold attempt computes it again. What that
// saves is another file than the one under suspicion: it is written beside it,
// under a temporary name, and takes its place if the verdict is guilty. Without
// it, what the cold attempt saves next would follow a segment that is gone. After
// an acquittal it is not needed. A death before the verdict leaves a temporary
// file, which the next start removes, and the strike.

// standby is a fresh copy of a segment on probation.
type standby struct {
	name string // temporary
	node *node  // what it will be in the index
}

// renewable reports whether a segment that is stored should be written again: it
// is on probation, and would be stored again after its conviction. The caller
// holds mu.
func (s *Store) renewable(j *job) bool {
	n := s.ix.nodes[j.id]
	return n != nil && n.withheld && !n.leaving && n.standby == nil && s.pending[j.id] == nil && s.readOnly == "" &&
		s.convicted[j.id].count+1 < maxConvictions && !s.opt.Now().Before(s.backoff.until) && !s.opt.Unsafe.NoRename
}

// standBy keeps a written copy for the case that its segment is found guilty.
// Neither true nor an error: that has happened already, the name is free.
func (s *Store) standBy(fresh *node, tmp string) (bool, error) {
	leaving := s.tryStandBy(fresh, tmp)
	if leaving && s.keep(true, func() {}) { // then the keeper has moved it
		s.tryStandBy(fresh, tmp)
	}
	s.mu.Lock()
	n := s.ix.nodes[fresh.id]
	free, kept := n == nil, n != nil && n.standby != nil && n.standby.node == fresh
	s.mu.Unlock()
	if free || kept {
		return kept, nil
	}
	s.discard(tmp, fresh.id.String())
	return false, fmt.Errorf("%w: %v needs no copy any more", errSkip, fresh.id)
}

// tryStandBy sets the copy if its segment is still on probation, and reports
// whether the segment is on its way out instead.
func (s *Store) tryStandBy(fresh *node, tmp string) (leaving bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.ix.nodes[fresh.id]
	if n != nil && n.withheld && !n.leaving && n.standby == nil {
		n.standby = &standby{tmp, fresh}
		s.tmpBytes += fresh.bytes
	}
	return n != nil && n.leaving
}

// takeStandby takes the copy from a node; nil if there is none.
func (s *Store) takeStandby(n *node) *standby {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := n.standby
	if n.standby = nil; b != nil {
		s.tmpBytes -= b.node.bytes
	}
	return b
}

// promote gives the copy of a node whose file is gone the name of the segment, and
// returns what goes into the index; nil if there is no copy. Only the keeper
// calls it.
func (s *Store) promote(n *node) *node {
	b := s.takeStandby(n)
	if b == nil {
		return nil
	}
	name := s.dir.segment(n.id)
	err := ptRename.Hit(s.scope(n.id, 0))
	if err == nil {
		err = s.fs.Rename(b.name, name)
	}
	if err != nil {
		s.discard(b.name, n.id.String())
	} else if s.durable() {
		if err = s.fs.SyncDir(path.Dir(name)); err != nil {
			s.discard(name, n.id.String()) // as after any write
		}
	}
	if err != nil {
		s.opt.Log("kv cache cannot renew %v: %s", n.id, errnoText(err))
		return nil
	}
	s.opt.Log("kv cache renewed key=%v tokens=%d", n.id, n.to)
	b.node.lastUsed = s.opt.Now()
	return b.node
}

// dismiss removes the copies of nodes that go, or stay, without being found
// guilty.
func (s *Store) dismiss(nodes ...*node) {
	for _, n := range nodes {
		if b := s.takeStandby(n); b != nil {
			if err := s.remove(b.name, n.id.String()); err != nil {
				s.addForeign(b.node.bytes) // until the next start
			}
		}
	}
}

// dismissAll is part of the end of the store.
func (s *Store) dismissAll() {
	s.mu.Lock()
	var list []*node
	for _, n := range s.ix.nodes {
		if n.standby != nil {
			list = append(list, n)
		}
	}
	s.mu.Unlock()
	s.dismiss(list...)
}
