package sample

// A heap instead of a sort: top-p usually needs a handful out of a hundred
// thousand candidates.

type order bool

const (
	moreLikely order = true  // the most likely on top
	lessLikely order = false // the least likely on top
)

func (o order) above(a, b candidate) bool {
	if o == moreLikely {
		return a.before(b)
	}
	return b.before(a)
}

func heapify(h []candidate, o order) {
	for i := len(h)/2 - 1; i >= 0; i-- {
		siftDown(h, i, o)
	}
}

func siftDown(h []candidate, i int, o order) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && o.above(h[child+1], h[child]) {
			child++
		}
		if !o.above(h[child], h[i]) {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// pop removes the top and returns the shorter heap, in the same memory.
func pop(h []candidate, o order) []candidate {
	last := len(h) - 1
	h[0] = h[last]
	h = h[:last]
	siftDown(h, 0, o)
	return h
}
