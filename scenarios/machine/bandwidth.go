package machine

import (
	"bytes"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"ds4/reports"
)

// Bandwidth measures how fast all cores together can read memory. It holds its
// buffer between measurements, because making one takes longer than reading it.
type Bandwidth struct {
	parts [][]byte // one for each core
}

const (
	// bandwidthBytes is read by each pass: more than most caches hold.
	bandwidthBytes = 512 << 20
	memoryShare    = 16      // of the machine's memory, one part at most
	pageBytes      = 4 << 10 // or a part of one
	// passes of one measurement: the fastest counts, because it is a ceiling that
	// is asked for.
	passes = 4
)

// NewBandwidth makes the buffer, on small machines a part of their memory.
func NewBandwidth() *Bandwidth {
	size := uint64(bandwidthBytes)
	if all := reports.ThisHost().MemoryBytes; all > 0 {
		size = min(size, all/memoryShare)
	}
	return newBandwidth(int(size))
}

func newBandwidth(size int) *Bandwidth {
	cores := runtime.GOMAXPROCS(0)
	b := &Bandwidth{parts: make([][]byte, cores)}
	var all sync.WaitGroup
	for i := range b.parts {
		all.Go(func() {
			part := make([]byte, max(size/cores, 1))
			for j := 0; j < len(part); j += pageBytes { // untouched pages are all the same page of zeros
				part[j] = 1
			}
			b.parts[i] = part
		})
	}
	all.Wait()
	return b
}

// Measure returns bytes per second. It takes some tenths of a second, in which
// nothing else should run.
func (b *Bandwidth) Measure() float64 {
	best := 0.0
	for range passes {
		best = max(best, b.pass())
	}
	return best
}

// pass reads every part once. The search for a byte that is not there is the
// fastest read loop of the standard library, in assembler on every processor.
func (b *Bandwidth) pass() float64 {
	var read atomic.Int64
	var all sync.WaitGroup
	start := time.Now()
	for _, part := range b.parts {
		all.Go(func() {
			if bytes.IndexByte(part, 2) < 0 {
				read.Add(int64(len(part)))
			}
		})
	}
	all.Wait()
	elapsed := time.Since(start).Seconds()
	if elapsed <= 0 {
		return 0
	}
	return float64(read.Load()) / elapsed
}
