package kvstore

import (
	"math/rand/v2"
	"testing"

	"ds4/runtime/kvstore/segment"
)

// TestSums compares checksums of stretches with those of the bytes themselves,
// for short stretches and for such as are derived from prefixes.
func TestSums(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	text := make([]byte, 8*jumpBytes+77)
	for i := range text {
		text[i] = byte(rng.Uint32())
	}
	s := sums{text: text}
	for range 2000 {
		from := rng.IntN(len(text))
		mid := from + rng.IntN(len(text)-from+1)
		to := mid + rng.IntN(len(text)-mid+1)
		got := s.extend(segment.Checksum(text[from:mid]), from, mid, to)
		if want := segment.Checksum(text[from:to]); got != want {
			t.Fatalf("seed %d: checksum of [%d, %d) from %d is %08x, want %08x", seed, from, to, mid, got, want)
		}
	}
	if got := s.extend(0, 0, 0, len(text)); got != segment.Checksum(text) {
		t.Errorf("of all: %08x", got)
	}
}
