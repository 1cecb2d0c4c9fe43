package kvstore_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore"
)

// TestPhaseSurvivesPowerCut: whatever a power cut leaves of a marker whose phase was
// just changed, it is a marker: a death is never forgotten.
func TestPhaseSurvivesPowerCut(t *testing.T) {
	a := newTalk(1, 64)
	m := errfs.NewMem()
	w := newWorld(t, m)
	ids := w.save(a)
	w.begin(a).Phase(kvstore.PhaseFirstChunk)
	// A second marker of a chain that nobody knows: when it is there, the phase is.
	_, err := w.s.BeginInflight(kvstore.Chain{IDs: []string{strings.Repeat("cd", 20)}})
	must(t, err)
	for seed := range uint64(50) {
		after := newWorld(t, m.CrashClone(rand.New(rand.NewPCG(seed, 7))))
		if n := after.strikes(ids[0]); n != 1 || after.logged("phase first-chunk") != 1 {
			t.Fatalf("seed %d: %d strikes\n%s", seed, n, after.dumpLog())
		}
		after.close()
	}
}
