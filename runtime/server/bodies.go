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
	most int64
	used atomic.Int64
}

// bodyShare is one body's part of the budget.
type bodyShare struct {
	of   *bodyBudget
	took int64
}

func (b *bodyBudget) open() *bodyShare { return &bodyShare{of: b} }

// add counts bytes that have arrived; false if they are too many.
func (s *bodyShare) add(n int64) bool {
	if s.of.used.Add(n) > s.of.most {
		s.of.used.Add(-n) // at once: another one that adds now should not be refused for it
		return false
	}
	s.took += n
	return true
}

// release gives the bytes back.
func (s *bodyShare) release() {
	s.of.used.Add(-s.took)
	s.took = 0
}
