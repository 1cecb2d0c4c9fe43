package fault

import "bytes"

// A kernel's bindings do not say what it writes. Scrambling therefore compares:
// every buffer that could be written is copied before the execution, and the
// bytes that differ afterwards are what was written. Bytes that were written
// with the value they had stay as they are; nobody can tell them apart.

// snapshotPage is the unit of copying. Pages of zeros are not kept, so that a
// large buffer that is mostly untouched costs little.
const snapshotPage = 64 << 10

var zeroPage [snapshotPage]byte

// snapshot is a buffer and its bytes at an earlier time.
type snapshot struct {
	buf   *buffer
	pages [][]byte // nil for a page of zeros
}

// takeSnapshots copies the writable buffers that dispatches bind, each once.
func takeSnapshots(work []dispatch) []snapshot {
	var list []snapshot
	seen := map[*buffer]bool{}
	for _, d := range work {
		for _, b := range d.buffers {
			if seen[b] {
				continue
			}
			seen[b] = true
			s := snapshot{buf: b}
			eachPage(b.Bytes(), func(_ int, page []byte) {
				var kept []byte
				if !bytes.Equal(page, zeroPage[:len(page)]) {
					kept = bytes.Clone(page)
				}
				s.pages = append(s.pages, kept)
			})
			list = append(list, s)
		}
	}
	return list
}

func eachPage(data []byte, f func(i int, page []byte)) {
	for i := 0; len(data) > 0; i++ {
		n := min(len(data), snapshotPage)
		f(i, data[:n])
		data = data[n:]
	}
}

// scramble overwrites every byte that changed since the snapshots. Runs of 64
// bytes alternate between 0xFF, which is NaN in every float format of the
// engine, and noise, which looks like values. seed picks the noise.
func scramble(list []snapshot, seed uint64) {
	for _, s := range list {
		eachPage(s.buf.Bytes(), func(i int, page []byte) {
			old := s.pages[i]
			if old == nil {
				old = zeroPage[:len(page)]
			}
			if !bytes.Equal(old, page) {
				scramblePage(page, old, seed+uint64(i))
			}
		})
	}
}

func scramblePage(page, old []byte, seed uint64) {
	const run = 64
	noise := seed*0x9E3779B97F4A7C15 + 1
	for i := range page {
		noise ^= noise << 13
		noise ^= noise >> 7
		noise ^= noise << 17
		if page[i] == old[i] {
			continue
		}
		garbage := byte(0xFF)
		if i/run%2 == 1 {
			garbage = byte(noise)
		}
		if garbage == page[i] {
			garbage ^= 0x80 // the right value would be no damage
		}
		page[i] = garbage
	}
}
