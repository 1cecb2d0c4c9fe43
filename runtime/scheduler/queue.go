package scheduler

import (
	"slices"
	"sync"
)

// queue holds waiting requests in the order of their arrival. Any goroutine may
// put and remove; only the worker takes.
type queue struct {
	mu     sync.Mutex
	items  []*job
	limit  int
	closed error // why nothing is accepted any more
}

// put appends j, or says why not.
func (q *queue) put(j *job) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed != nil:
		return q.closed
	case len(q.items) >= q.limit:
		return ErrQueueFull
	}
	q.items = append(q.items, j)
	return nil
}

// take removes the oldest request that does not wait, nil if there is none. nil
// for waits means that none does.
func (q *queue) take(waits func(*job) bool) *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, j := range q.items {
		if waits == nil || !waits(j) {
			q.items = slices.Delete(q.items, i, i+1)
			return j
		}
	}
	return nil
}

// remove takes j out if it still waits; whoever gets true owns it.
func (q *queue) remove(j *job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, x := range q.items {
		if x == j {
			q.items = append(q.items[:i:i], q.items[i+1:]...)
			return true
		}
	}
	return false
}

// drain takes everything out.
func (q *queue) drain() []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items = nil
	return items
}

// close makes every later put fail with err, and drains.
func (q *queue) close(err error) []*job {
	q.mu.Lock()
	q.closed = err
	q.mu.Unlock()
	return q.drain()
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}
