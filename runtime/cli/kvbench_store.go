package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/blank"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// What start and lookup are measured with. The segments have the layout of the
// model, so that header and table are what a server reads; their rows are zeros,
// which take no room on disk. Most are short: what is in them is not read.
const (
	segmentsPerChat   = 10
	shortTokens       = 128
	shortTextBytes    = 500
	lookupPromptBytes = 1 << 20
	lookupTextBytes   = 8 << 10 // of each of the prompt's segments
	openRounds        = 3
	lookupRounds      = 51
	smallFiles        = 32 // of which the allocations are compared

	startBoundS    = 2
	lookupBoundMS  = 5
	allocRatioMost = 1.1 // what start allocates with a thousand times the text
	crowdSeed      = 1
)

// crowd is a folder with many segments.
type crowd struct {
	opt    kvstore.Options
	prompt []byte // cache text of the long conversation
}

// layout is that of the model.
func (b *bench) layout(ctx context.Context) (segment.Layout, error) {
	st, err := b.open(ctx, "")
	if err != nil {
		return segment.Layout{}, err
	}
	return st.eng.Layout(), st.close(ctx)
}

// storeOptions open a folder below the bench's own that no model uses.
func (b *bench) storeOptions(ctx context.Context, name string) (kvstore.Options, error) {
	l, err := b.layout(ctx)
	return kvstore.Options{FS: vfs.OS, Dir: filepath.Join(b.dir, name), Identity: sha256.Sum256([]byte("bench")), Layout: l,
		BudgetBytes: 1 << 50, MinTokens: 1, Validate: kvstore.Validate(b.s.kv.Validate), Sync: kvstore.SyncData}, err
}

// fillFolder lets a store write blank segments into a folder and closes it.
func fillFolder(ctx context.Context, opt kvstore.Options, fill func(*kvstore.Store) error) error {
	opt.FS, opt.Sync = blank.FS, kvstore.SyncNone
	s, err := kvstore.Open(opt)
	if err != nil {
		return err
	}
	err = fill(s)
	if err2 := s.Close(ctx); err == nil {
		err = err2
	}
	return err
}

// makeCrowd fills the folder, once: conversations of ten short segments, and one
// of 1 MB of text.
func (b *bench) makeCrowd(ctx context.Context) (*crowd, error) {
	if b.crowd != nil {
		return b.crowd, nil
	}
	opt, err := b.storeOptions(ctx, "crowd")
	if err != nil {
		return nil, err
	}
	c := &crowd{opt: opt}
	long := min(lookupPromptBytes/lookupTextBytes, b.s.segments)
	chats := (b.s.segments - long) / segmentsPerChat
	long = b.s.segments - chats*segmentsPerChat
	err = fillFolder(ctx, opt, func(s *kvstore.Store) error {
		_, err := blank.Fill(ctx, s, opt.Layout, blank.Plan{Conversations: chats, Segments: segmentsPerChat,
			Tokens: shortTokens, TextBytes: shortTextBytes, Seed: crowdSeed},
			func(done int) { b.progress("writing segments", done*segmentsPerChat, b.s.segments) })
		if err != nil {
			return err
		}
		parent := ""
		rng := rand.New(rand.NewPCG(crowdSeed, 1))
		for i := range long {
			text := blank.Text(rng, lookupPromptBytes*(i+1)/long-len(c.prompt))
			c.prompt = append(c.prompt, text...)
			if parent, err = s.Save(ctx, blank.Segment(opt.Layout, parent, i*shortTokens, (i+1)*shortTokens, text)); err != nil {
				return err
			}
		}
		return s.Flush(ctx)
	})
	if err == nil {
		b.crowd = c
	}
	return b.crowd, err
}

// start measures how long Open takes, and what it allocates.
func (b *bench) start(ctx context.Context) error {
	c, err := b.makeCrowd(ctx)
	if err != nil {
		return err
	}
	var times []float64
	var bytesMost uint64
	for range openRounds {
		took, bytes, err := openOnce(ctx, c.opt, b.s.segments)
		if err != nil {
			return err
		}
		times, bytesMost = append(times, took.Seconds()), max(bytesMost, bytes)
	}
	b.add("start_s", fmt.Sprintf("start with %d segments (%s)", b.s.segments, b.s.kv.Validate), "%.2f s", median(times)).
		note("slowest of %d: %.2f s", openRounds, slices.Max(times)).atMost(startBoundS)
	if dropPageCache(c.opt.Dir) == nil {
		took, _, err := openOnce(ctx, c.opt, b.s.segments)
		if err != nil {
			return err
		}
		b.add("start_uncached_s", "the same, no file in memory", "%.2f s", took.Seconds()).note("once").atMost(startBoundS)
	}
	b.add("start_allocated_per_segment_bytes", "allocated by it, per segment", "%.0f B", float64(bytesMost)/float64(b.s.segments))
	return b.startAllocations(ctx)
}

// startAllocations compares folders that differ in nothing but the length of the
// texts.
func (b *bench) startAllocations(ctx context.Context) error {
	allocated := map[int]uint64{}
	for _, size := range []int{1 << 10, 1 << 20} {
		opt, err := b.storeOptions(ctx, fmt.Sprintf("text-%d", size))
		if err != nil {
			return err
		}
		if err := fillFolder(ctx, opt, func(s *kvstore.Store) error {
			_, err := blank.Fill(ctx, s, opt.Layout, blank.Plan{Conversations: smallFiles, Segments: 1, Tokens: shortTokens, TextBytes: size, Seed: crowdSeed}, nil)
			return err
		}); err != nil {
			return err
		}
		for range openRounds {
			_, bytes, err := openOnce(ctx, opt, smallFiles)
			if err != nil {
				return err
			}
			if least, ok := allocated[size]; !ok || bytes < least {
				allocated[size] = bytes
			}
		}
	}
	small, large := allocated[1<<10], allocated[1<<20]
	b.add("start_allocation_ratio", "allocated for files with 1 MB of text, to 1 KB", "%.2f", float64(large)/float64(small)).
		note("%d files: %d and %d bytes", smallFiles, large, small).atMost(allocRatioMost)
	return nil
}

// openOnce opens and closes a store and returns what Open took and allocated.
func openOnce(ctx context.Context, opt kvstore.Options, want int) (time.Duration, uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begin := time.Now()
	s, err := kvstore.Open(opt)
	took := time.Since(begin)
	if err != nil {
		return 0, 0, err
	}
	runtime.ReadMemStats(&after)
	n := s.Stats().Segments
	if err := s.Close(ctx); err != nil {
		return 0, 0, err
	}
	if n != want {
		return 0, 0, fmt.Errorf("%d segments were found, want %d", n, want)
	}
	return took, after.TotalAlloc - before.TotalAlloc, nil
}

// lookup measures a hit and a miss.
func (b *bench) lookup(ctx context.Context) error {
	c, err := b.makeCrowd(ctx)
	if err != nil {
		return err
	}
	s, err := kvstore.Open(c.opt)
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	other := bytes.Clone(c.prompt)
	slices.Reverse(other)
	for _, x := range []struct {
		name, what string
		prompt     []byte
		found      int
	}{
		{"lookup_ms", "lookup of a prompt of 1 MB, all of it stored", c.prompt, len(c.prompt)},
		{"lookup_miss_ms", "lookup of a prompt of 1 MB, none of it stored", other, 0},
	} {
		var times []float64
		for range lookupRounds {
			if err := ctx.Err(); err != nil {
				return err
			}
			begin := time.Now()
			found := s.Lookup(x.prompt)
			times = append(times, float64(time.Since(begin))/float64(time.Millisecond))
			if found.TextLen != x.found {
				return fmt.Errorf("found %d bytes of %d, want %d", found.TextLen, len(x.prompt), x.found)
			}
		}
		b.add(x.name, x.what, "%.2f ms", median(times)).
			note("slowest of %d: %.2f ms", lookupRounds, slices.Max(times)).atMost(lookupBoundMS)
	}
	return nil
}

// median is the middle one of an odd number of values.
func median(list []float64) float64 {
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}
