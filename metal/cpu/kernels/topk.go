package kernels

import (
	"math"
	"slices"
	"unsafe"
)

// aboveSlack is how far beyond its last entry a list of aboveLeast is written.
const aboveSlack = rowLanes

// aboveLeast lists first+i for every x[i] > least, in order. list has room for all
// of x and aboveSlack more.
func (s *Set) aboveLeast(list []int32, x []float32, first int, least float32) []int32 {
	n, k := len(x)&^(rowLanes-1), 0
	_ = list[len(x)+aboveSlack-1]
	if n > 0 {
		k = s.above(&list[0], &x[0], first, n, least)
	}
	if n < len(x) {
		k += above(&list[k], &x[n], first+n, len(x)-n, least)
	}
	return list[:k]
}

func above(dst *int32, x *float32, first, n int, least float32) int {
	out, k := unsafe.Slice(dst, n), 0
	for i, v := range unsafe.Slice(x, n) {
		if v > least {
			out[k] = int32(first + i)
			k++
		}
	}
	return k
}

// TopMemory is the memory of Top.
type TopMemory struct {
	keys []uint64
	list []int32
}

// topChunk is how many values Top looks at before it may raise the bar.
const topChunk = 512

// Top writes the indices of the largest scores to dst, ascending; of equal scores
// the lower index wins. A NaN counts as the smallest score. There are at least as
// many scores as places.
func (s *Set) Top(dst []int32, scores []float32, m *TopMemory) {
	k := len(dst)
	room := 2*k + topChunk
	if cap(m.keys) < room || m.list == nil {
		m.keys, m.list = make([]uint64, 0, room), make([]int32, topChunk+aboveSlack)
	}
	keys := m.keys[:0]
	for i, v := range scores[:k] {
		keys = append(keys, topKey(v, i))
	}
	least := keepTop(keys, k)
	for at := k; at < len(scores); at += topChunk {
		x := scores[at:min(at+topChunk, len(scores))]
		if len(keys) > 2*k {
			least = keepTop(keys, k)
			keys = keys[:k]
		}
		if least != least { // every number is better
			for i, v := range x {
				keys = append(keys, topKey(v, at+i))
			}
			continue
		}
		for _, i := range s.aboveLeast(m.list, x, at, least) {
			keys = append(keys, topKey(scores[i], int(i)))
		}
	}
	keepTop(keys, k)
	for i, key := range keys[:k] {
		dst[i] = int32(^uint32(key))
	}
	slices.Sort(dst)
}

// topKey orders scores, and equal ones by descending index.
func topKey(v float32, i int) uint64 {
	bits := math.Float32bits(v + 0) // one zero
	switch {
	case v != v:
		bits = 0
	case bits>>31 != 0:
		bits = ^bits
	default:
		bits |= 1 << 31
	}
	return uint64(bits)<<32 | uint64(^uint32(i))
}

// keyScore is the score of a key.
func keyScore(key uint64) float32 {
	bits := uint32(key >> 32)
	switch {
	case bits == 0:
		return float32(math.NaN())
	case bits>>31 == 0:
		return math.Float32frombits(^bits)
	}
	return math.Float32frombits(bits &^ (1 << 31))
}

// keepTop moves the k largest keys to the front, the least of them last, and
// returns its score.
func keepTop(keys []uint64, k int) float32 {
	lo, hi := 0, len(keys)-1
	for lo < hi {
		a, b, c := keys[lo], keys[(lo+hi)/2], keys[hi]
		pivot := max(min(a, b), min(max(a, b), c)) // their median
		i, j := lo, hi
		for i <= j {
			for keys[i] > pivot {
				i++
			}
			for keys[j] < pivot {
				j--
			}
			if i <= j {
				keys[i], keys[j] = keys[j], keys[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case k-1 <= j:
			hi = j
		case k-1 >= i:
			lo = i
		default:
			lo = hi
		}
	}
	return keyScore(keys[k-1])
}
