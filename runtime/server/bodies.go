package server

import (
	"errors"
	"sync/atomic"
)

// errBodies: all bodies together are over their limit.
var errBodies = errors.New("too many bytes of request bodies")

// bodyBudget bounds the bytes of all request bodies that are in memory. They count
// as they arrive, not as headers announce them, so that a client which only promises
// a large body takes nothing from the others. Nobody waits: who goes over the limit is
// refused and gives back what it took, and the others go on.
type bodyBudget struct {
	most  int64
	used  atomic.Int64
	large atomic.Bool // they were much since the last time that there was none
	// trim gives memory back to the system. Otherwise what large bodies took, and
	// what reading and parsing them took besides, stays for minutes.
	trim func()
}

// largeBodies together are worth the time that giving their memory back takes.
const largeBodies = 32 << 20

// bodyShare is one body's part of the budget.
type bodyShare struct {
	of   *bodyBudget
	took int64
}

func (b *bodyBudget) open() *bodyShare { return &bodyShare{of: b} }

// add counts bytes that have arrived; false if they are too many.
func (s *bodyShare) add(n int64) bool {
	used := s.of.used.Add(n)
	if used > largeBodies {
		s.of.large.Store(true)
	}
	if used > s.of.most {
		s.of.used.Add(-n) // at once: another one that adds now should not be refused for it
		return false
	}
	s.took += n
	return true
}

// release gives the bytes back.
func (s *bodyShare) release() {
	left := s.of.used.Add(-s.took)
	s.took = 0
	if left == 0 && s.of.large.Swap(false) && s.of.trim != nil {
		go s.of.trim()
	}
}
