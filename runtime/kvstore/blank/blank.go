// Package blank fills cache folders with segments that have the size and the
// form of real ones and no content, so that a store of any size can be measured
// without the model that would have to compute it.
//
// Promises. Every file is one that the store itself wrote and that passes its
// full check: only the rows are zero. With FS, zeros take no room on disk. What
// Fill writes is the same every time.
//
// Not promised: that a session restored from such a segment makes sense.
package blank

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"

	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// Segment returns a segment of zeros. The store owns it from then on.
func Segment(l segment.Layout, parent string, from, to int, text []byte) *kvstore.Segment {
	s := &kvstore.Segment{Parent: parent, From: from, To: to, Text: text,
		Tokens: make([]int32, to-from)}
	for _, y := range l.Layers {
		closed := 0
		if y.Ratio > 0 {
			closed = to/y.Ratio - from/y.Ratio
		}
		s.Raw = append(s.Raw, make([]byte, min(to, l.Window)*y.RowBytes))
		s.Comp = append(s.Comp, make([]byte, closed*y.RowBytes))
		s.Index = append(s.Index, make([]byte, closed*y.IndexRowBytes))
		s.Frontier = append(s.Frontier, make([]byte, y.FrontierBytes(to)))
	}
	return s
}

// Plan says what Fill stores: conversations that share nothing, each a chain of
// segments.
type Plan struct {
	Conversations int
	Segments      int // of each
	Tokens        int // of each segment
	TextBytes     int // of each segment, about: lengths differ by up to a fifth
	Seed          uint64
}

// Fill stores what the plan says and waits for the disk. It returns the text of
// the first conversation. progress, if not nil, hears of every conversation.
func Fill(ctx context.Context, s *kvstore.Store, l segment.Layout, p Plan, progress func(done int)) (first []byte, err error) {
	rng := rand.New(rand.NewPCG(p.Seed, 0))
	for i := range p.Conversations {
		parent := ""
		for j := range p.Segments {
			text := Text(rng, p.TextBytes*4/5+rng.IntN(p.TextBytes*2/5+1))
			if i == 0 {
				first = append(first, text...)
			}
			if parent, err = s.Save(ctx, Segment(l, parent, j*p.Tokens, (j+1)*p.Tokens, text)); err != nil {
				return nil, fmt.Errorf("blank: conversation %d: %w", i, err)
			}
		}
		if progress != nil {
			progress(i + 1)
		}
	}
	if err := s.Flush(ctx); err != nil {
		return nil, err
	}
	if st := s.Stats(); st.StoreFailed+st.StoreSkipped > 0 {
		return nil, fmt.Errorf("blank: %d segments could not be stored: %s", st.StoreFailed+st.StoreSkipped, st.HealthReason)
	}
	return first, nil
}

// Text returns n bytes of words.
func Text(rng *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+maxWord)
	for len(b) < n {
		b = append(b, words[rng.IntN(len(words))]...)
	}
	return b[:n]
}

var words = strings.SplitAfter("the list of a value return func string map and type error len range for if nil struct in bytes copy ", " ")

const maxWord = 8

// FS is the operating system's file system, except that new files keep what is
// written as zeros as holes.
var FS vfs.FS = sparse{vfs.OS}

type sparse struct{ vfs.FS }

func (sparse) Create(name string) (vfs.File, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, vfs.FileMode)
	if err != nil {
		return nil, err
	}
	return &sparseFile{File: f}, nil
}

// sparseFile leaves out writes that hold nothing but zeros.
type sparseFile struct {
	*os.File
	at   int64 // where the next write goes
	hole bool  // the last write was left out
}

func (f *sparseFile) Write(b []byte) (int, error) {
	if f.hole = isZero(b); !f.hole {
		if n, err := f.WriteAt(b, f.at); err != nil {
			f.at += int64(n)
			return n, err
		}
	}
	f.at += int64(len(b))
	return len(b), nil
}

func (f *sparseFile) Size() (int64, error) { return f.at, nil }

// Close gives a file that ends in a hole its length.
func (f *sparseFile) Close() error {
	if f.hole {
		if err := f.Truncate(f.at); err != nil {
			f.File.Close()
			return err
		}
	}
	return f.File.Close()
}

var zeros [16 << 10]byte

func isZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}
