package kvstore

import (
	"container/heap"
	"path"
	"time"

	"ds4/runtime/kvstore/segment"
)

// What the budget keeps free for lock file, markers and a journal that grows.
const (
	overheadBytes   = 64 << 10 // at least
	markerAllowance = 16 << 10 // beyond the journal
)

// used returns the bytes under the folder. The caller holds mu.
func (s *Store) used() int64 {
	if s.opt.Unsafe.NoBudget {
		return s.ix.bytes
	}
	return s.ix.bytes + s.fixed()
}

// fixed returns the bytes that evicting segments does not free.
func (s *Store) fixed() int64 {
	return s.tmpBytes + s.jailBytes + s.foreign + s.calls + max(overheadBytes, s.journalBytes+markerAllowance)
}

// evictable reports whether a node may go: nothing on disk or in the queue
// continues it and nobody is about to restore it. The caller holds mu.
func (s *Store) evictable(n *node) bool {
	if n.pins > 0 || n.leaving || !s.ix.isLeaf(n.id) {
		return false
	}
	for _, j := range s.pending {
		if j.seg.Parent == n.id {
			return false
		}
	}
	return true
}

// candidate orders what may be evicted: what no lookup can reach goes first,
// then the lowest score, then what was not used for the longest time.
type candidate struct {
	n        *node
	orphan   bool
	score    float64
	lastUsed time.Time
}

type candidates []candidate

func (c candidates) Len() int { return len(c) }
func (c candidates) Less(i, j int) bool {
	a, b := c[i], c[j]
	if a.orphan != b.orphan {
		return a.orphan
	}
	if a.score != b.score {
		return a.score < b.score
	}
	return a.lastUsed.Before(b.lastUsed)
}
func (c candidates) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *candidates) Push(x any)   { *c = append(*c, x.(candidate)) }
func (c *candidates) Pop() any {
	old := *c
	x := old[len(old)-1]
	*c = old[:len(old)-1]
	return x
}

// choose marks nodes that free at least so many bytes, leaves before their
// parents, and returns them in the order in which they must go. The caller holds
// mu.
func (s *Store) choose(free int64) []*node {
	if s.opt.Unsafe.EvictOldest {
		return s.chooseOldest(free)
	}
	return s.chooseOf(free, nil)
}

// chooseOf is choose among the nodes that wants accepts; nil: all. The caller
// holds mu.
func (s *Store) chooseOf(free int64, wants func(*node) bool) []*node {
	wanted := map[segment.ID]bool{} // parents of what is in the queue
	for _, j := range s.pending {
		wanted[j.seg.Parent] = true
	}
	return s.ix.choose(free, s.opt.Now(), func(n *node) bool {
		return n.pins == 0 && !n.leaving && !wanted[n.id] && (wants == nil || wants(n))
	})
}

// choose marks nodes as leaving until free bytes are found among those that may
// go. A node goes only when all that continues it goes.
func (ix *index) choose(free int64, now time.Time, may func(*node) bool) []*node {
	reached := ix.reached()
	var open candidates
	add := func(n *node) {
		if may(n) {
			heap.Push(&open, candidate{n, !reached[n.id], n.score(now), n.lastUsed})
		}
	}
	for _, n := range ix.nodes {
		if ix.isLeaf(n.id) {
			add(n)
		}
	}
	var list []*node
	gone := map[segment.ID]int{} // chosen children, by parent
	for free > 0 && len(open) > 0 {
		n := heap.Pop(&open).(candidate).n
		n.leaving = true
		list = append(list, n)
		free -= n.bytes
		gone[n.parent]++
		if p := ix.nodes[n.parent]; p != nil && ix.families[p.id].live() == gone[p.id] {
			add(p)
		}
	}
	return list
}

// makeRoom evicts until need bytes fit into the budget, and reports whether they
// do. The quarantine goes last, and no segment goes for one that is too big on
// its own.
func (s *Store) makeRoom(need int64) bool {
	for {
		s.mu.Lock()
		over := s.used() + need - s.opt.BudgetBytes
		if over <= 0 {
			s.mu.Unlock()
			return true
		}
		var list []*node
		if s.fixed()+need <= s.opt.BudgetBytes {
			list = s.choose(over)
		}
		s.mu.Unlock()
		if len(list) == 0 && !s.releaseOldest() {
			return false
		}
		for _, n := range list {
			s.drop(n, "disk-cache-full")
		}
	}
}

// shrink answers a full disk: a tenth of what is used, and at least the room
// that the segment needs.
func (s *Store) shrink(j *job) {
	s.mu.Lock()
	free := max(int64(float64(s.ix.bytes)*(1-keepOnFullDisk)), s.opt.Layout.FileBytes(j.seg.From, j.seg.To, len(j.seg.Text)))
	list := s.choose(free)
	s.mu.Unlock()
	for _, n := range list {
		s.drop(n, "device-full")
	}
}

// drop unlinks a segment that was marked as leaving. If that fails the file is
// nobody's any more: it counts, but is neither offered nor tried again.
func (s *Store) drop(n *node, reason string) {
	name := s.dir.segment(n.id)
	err := s.remove(name, n.id.String())
	s.mu.Lock()
	s.ix.remove(n)
	if err != nil {
		s.foreign += n.bytes
		s.count.unlinkFailures++
	} else {
		s.count.evicted(reason)
	}
	hits := n.decayedHits(s.opt.Now())
	s.mu.Unlock()
	s.dismiss(n)
	if err != nil {
		s.opt.Log("kv cache cannot remove %s: %s; ignored from now on", path.Base(name), errnoText(err))
		return
	}
	s.opt.Log("kv cache evicted reason=%s tokens=%d hits=%.0f size=%.2f MiB file=%s", reason, n.to, hits, inMiB(n.bytes), name)
}

// Freed says what Clear or Purge removed.
type Freed struct {
	Segments    int   // valid ones
	Quarantined int   // files of the quarantine
	Others      int   // everything else of ours
	Bytes       int64 // of all of them
	Failed      int   // files that could not be removed
}

// Clear removes all segments, the quarantine and the statistics. What is being
// restored at the moment stays readable for the restore.
func (s *Store) Clear() (Freed, error) {
	s.mu.Lock()
	if err := s.writable(); err != nil {
		s.mu.Unlock()
		return Freed{}, err
	}
	var list []*node
	for _, n := range s.ix.nodes {
		if !n.leaving {
			n.leaving = true
			list = append(list, n)
		}
	}
	s.mu.Unlock()
	var f Freed
	cleared := func() {
		for _, n := range list {
			err := s.remove(s.dir.segment(n.id), n.id.String())
			s.mu.Lock()
			s.ix.remove(n)
			if err != nil {
				s.foreign += n.bytes
			}
			s.mu.Unlock()
			s.dismiss(n)
			f.add(&f.Segments, n.bytes, err)
		}
		for _, q := range s.takeJail() {
			f.add(&f.Quarantined, q.bytes, s.removeJailed(q))
		}
		s.mu.Lock()
		clear(s.convicted)
		s.mu.Unlock()
		s.rewriteJournal()
		s.opt.Log("kv cache cleared segments=%d quarantined=%d size=%.2f MiB failed=%d", f.Segments, f.Quarantined, inMiB(f.Bytes), f.Failed)
	}
	if !s.keep(true, cleared) {
		return Freed{}, ErrBusy // it goes on behind the scenes
	}
	return f, nil
}

func (f *Freed) add(to *int, bytes int64, err error) {
	if err != nil {
		f.Failed++
		return
	}
	*to++
	f.Bytes += bytes
}
