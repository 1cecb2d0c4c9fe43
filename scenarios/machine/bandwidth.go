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
			pages := max(size/cores/pageBytes, 2) &^ 1 // two equal halves
			part := make([]byte, pages*pageBytes)
			huge(part)
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

// pass reads every part once, its two halves side by side: comparing them is the
// read loop of the standard library that gets most out of memory, in assembler on
// every processor. What beats it is possible, so the ceiling may be a little higher.
func (b *Bandwidth) pass() float64 {
	var read atomic.Int64
	var all sync.WaitGroup
	start := time.Now()
	for _, part := range b.parts {
		all.Go(func() {
			half := len(part) / 2
			if bytes.Equal(part[:half], part[half:2*half]) { // they are, so all is read
				read.Add(int64(2 * half))
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
