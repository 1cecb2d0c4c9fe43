package tokenizer

import "math"

// maxShortPiece is the length in bytes up to which merging by repeated search is
// faster than a heap. Nearly every piece of real text is shorter.
const maxShortPiece = 32

const noMerge = math.MaxInt32

// Encode returns the ids of ordinary text. Text that spells a control token
// becomes ordinary tokens. Bytes that are not UTF-8 are kept as they are.
func (t *Tokenizer) Encode(text string) []int32 {
	if text == "" {
		return nil
	}
	var e encoder
	// English text has about four bytes to a token.
	return e.encode(t, make([]int32, 0, len(text)/3+1), text)
}

// stepsPerLook are the pieces, or merges within a piece, between two looks at whether
// the result is still wanted: below a millisecond.
const stepsPerLook = 1 << 12

// encoder is the scratch memory of one Encode.
type encoder struct {
	done       <-chan struct{} // closed: the result is not wanted any more; may be nil
	stopped    bool            // it was closed
	steps      int             // since the last look
	ids        []int32         // token by position; -1: swallowed by a merge
	prev, next []uint32        // neighbours by position
	heap       []uint64        // rank<<32 | position, a binary min-heap
}

func (e *encoder) encode(t *Tokenizer, dst []int32, text string) []int32 {
	s := splitter{text: text}
	for !e.stop() {
		piece, ok := s.next()
		if !ok {
			return dst
		}
		switch n := len(piece); {
		case n == 1:
			dst = append(dst, t.byteID[piece[0]])
		case n <= maxShortPiece:
			dst = t.mergeShort(dst, piece)
		default:
			dst = e.mergeLong(t, dst, piece)
		}
	}
	return dst
}

// stop says, once in a while, whether to give up.
func (e *encoder) stop() bool {
	if e.steps++; e.steps >= stepsPerLook {
		e.steps = 0
		select {
		case <-e.done:
			e.stopped = true
		default:
		}
	}
	return e.stopped
}

func (t *Tokenizer) rank(left, right int32) int32 {
	if r, ok := t.pairs[pairKey(left, right)]; ok {
		return r
	}
	return noMerge
}

// mergeShort applies the lowest-ranked merge, leftmost first, until none is left.
func (t *Tokenizer) mergeShort(dst []int32, piece string) []int32 {
	var ids, ranks [maxShortPiece]int32 // ranks[i]: of the pair ids[i], ids[i+1]
	n := len(piece)
	for i := range n {
		ids[i] = t.byteID[piece[i]]
	}
	for i := range n - 1 {
		ranks[i] = t.rank(ids[i], ids[i+1])
	}
	for n > 1 {
		at, low := -1, int32(noMerge)
		for i, r := range ranks[:n-1] {
			if r < low {
				at, low = i, r
			}
		}
		if at < 0 {
			break
		}
		ids[at] = t.merges[low].id
		copy(ids[at+1:n-1], ids[at+2:n])
		copy(ranks[at:n-2], ranks[at+1:n-1])
		n--
		if at > 0 {
			ranks[at-1] = t.rank(ids[at-1], ids[at])
		}
		if at < n-1 {
			ranks[at] = t.rank(ids[at], ids[at+1])
		}
	}
	return append(dst, ids[:n]...)
}

// mergeLong gives the same result in n log n time: a linked list of tokens and a
// heap of possible merges, in which outdated ones are recognised when they come up.
func (e *encoder) mergeLong(t *Tokenizer, dst []int32, piece string) []int32 {
	n := uint32(len(piece))
	e.ids, e.prev, e.next, e.heap = e.ids[:0], e.prev[:0], e.next[:0], e.heap[:0]
	for i := range n {
		e.ids = append(e.ids, t.byteID[piece[i]])
		e.prev = append(e.prev, i-1) // of 0: never used
		e.next = append(e.next, i+1) // n: the end
	}
	for i := range n - 1 {
		if r := t.rank(e.ids[i], e.ids[i+1]); r != noMerge {
			e.heap = append(e.heap, heapEntry(r, i))
		}
	}
	for i := len(e.heap)/2 - 1; i >= 0; i-- {
		e.siftDown(i)
	}
	for len(e.heap) > 0 && !e.stop() {
		top := e.heap[0]
		m, at := t.merges[top>>32], uint32(top)
		e.pop()
		right := e.next[at]
		if right == n || e.ids[at] != m.left || e.ids[right] != m.right {
			continue // outdated
		}
		e.ids[at], e.ids[right] = m.id, -1
		after := e.next[right]
		e.next[at] = after
		if after < n {
			e.prev[after] = at
			e.push(t.rank(m.id, e.ids[after]), at)
		}
		if at > 0 {
			before := e.prev[at]
			e.push(t.rank(e.ids[before], m.id), before)
		}
	}
	for i := uint32(0); i < n; i = e.next[i] {
		dst = append(dst, e.ids[i])
	}
	return dst
}

// heapEntry orders by rank, then by position.
func heapEntry(rank int32, at uint32) uint64 { return uint64(rank)<<32 | uint64(at) }

func (e *encoder) push(rank int32, at uint32) {
	if rank == noMerge {
		return
	}
	e.heap = append(e.heap, heapEntry(rank, at))
	h := e.heap
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if h[parent] <= h[i] {
			return
		}
		h[parent], h[i] = h[i], h[parent]
		i = parent
	}
}

func (e *encoder) pop() {
	last := len(e.heap) - 1
	e.heap[0] = e.heap[last]
	e.heap = e.heap[:last]
	if last > 1 {
		e.siftDown(0)
	}
}

func (e *encoder) siftDown(i int) {
	h := e.heap
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1] < h[child] {
			child++
		}
		if h[i] <= h[child] {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}
