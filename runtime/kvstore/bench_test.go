package kvstore_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"testing"

	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/blank"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// smallLayout makes files of some 60 KB, most of it holes.
var smallLayout = segment.Layout{Vocab: 1024, Window: 16, Layers: []segment.Layer{
	{RowBytes: 1024}, {Ratio: 4, RowBytes: 1024, IndexRowBytes: 256, ClosedBytes: 8192}}}

// filled is a folder of n segments of about textBytes of text each, in chains of
// ten.
func filled(t testing.TB, n, textBytes int) (opt kvstore.Options, first []byte) {
	t.Helper()
	opt = kvstore.Options{FS: blank.FS, Dir: t.TempDir(), Identity: [32]byte{1}, Layout: smallLayout, MinTokens: 1,
		BudgetBytes: 1 << 40, Sync: kvstore.SyncNone}
	s, err := kvstore.Open(opt)
	must(t, err)
	first, err = blank.Fill(context.Background(), s, smallLayout, blank.Plan{
		Conversations: n / 10, Segments: 10, Tokens: 32, TextBytes: textBytes, Seed: 1}, nil)
	must(t, err)
	must(t, s.Close(context.Background()))
	opt.FS, opt.Sync = vfs.OS, kvstore.SyncData
	return opt, first
}

// BenchmarkOpen10k is the start-up time with 10,000 segments on disk.
func BenchmarkOpen10k(b *testing.B) {
	opt, _ := filled(b, 10_000, 500)
	b.ReportAllocs()
	for b.Loop() {
		s, err := kvstore.Open(opt)
		must(b, err)
		if n := s.Stats().Segments; n != 10_000 {
			b.Fatalf("%d segments", n)
		}
		b.StopTimer()
		must(b, s.Close(context.Background()))
		b.StartTimer()
	}
}

// BenchmarkLookup is the time to find a prompt of 1 MB among 10,000 segments: a
// thousand conversations that share nothing and whose first texts have many
// lengths, one of them 1 MB long.
func BenchmarkLookup(b *testing.B) {
	opt, _ := filled(b, 9_990, 10_000)
	s, err := kvstore.Open(opt)
	must(b, err)
	defer s.Close(context.Background())
	rng := rand.New(rand.NewPCG(2, 0))
	var prompt []byte
	parent := ""
	for i := range 10 {
		text := blank.Text(rng, 100_000)
		prompt = append(prompt, text...)
		parent, err = s.Save(context.Background(), blank.Segment(smallLayout, parent, i*32, i*32+32, text))
		must(b, err)
	}
	must(b, s.Flush(context.Background()))
	b.SetBytes(int64(len(prompt)))
	b.ReportAllocs()
	for b.Loop() {
		if c := s.Lookup(prompt); c.TextLen != len(prompt) {
			b.Fatalf("found %d bytes", c.TextLen)
		}
	}
}

// TestOpenAllocatesNothingPerByte: what a start in header mode allocates depends
// on the number of files, not on what is in them.
func TestOpenAllocatesNothingPerByte(t *testing.T) {
	if raceDetector {
		t.Skip("under the race detector a sync.Pool drops at random what is put into it, the buffers of os.ReadDir for one, so that the sums are of chance")
	}
	const files = 20
	measure := func(textBytes int) uint64 {
		opt, _ := filled(t, files, textBytes)
		open := func() {
			s, err := kvstore.Open(opt)
			must(t, err)
			if n := s.Stats().Segments; n != files {
				t.Fatalf("%d segments", n)
			}
			must(t, s.Close(context.Background()))
		}
		open()
		least := ^uint64(0)
		for range 5 { // other goroutines of the test binary allocate too
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			open()
			runtime.ReadMemStats(&after)
			least = min(least, after.TotalAlloc-before.TotalAlloc)
		}
		return least
	}
	small, large := measure(1<<10), measure(1<<20)
	if large > small+small/4+files*64 {
		t.Errorf("opening %d files of 1 KB text allocates %d bytes, of 1 MB text %d", files, small, large)
	}
}
