package kvstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"ds4/runtime/kvstore/journal"
	"ds4/runtime/kvstore/segment"
)

// maxAttempts bounds how often one Restore starts again with a shorter chain.
const maxAttempts = 8

// Restore reads a chain into the target that begin returns for a length in
// tokens; the target of a chain that begins at From holds what comes before. A bad segment goes to quarantine and begin is asked again, for the
// chain before it. A restored state was verified bit by bit against its
// checksums; the target gets Commit exactly then.
//
// When ctx ends first (give it the time that a cold prefill would take), the
// error wraps ErrAbandoned, and reads that still hang write nothing to the
// target. ErrMiss: nothing of the chain is left. Errors of begin and Commit come
// back as they are and blame no segment.
func (s *Store) Restore(ctx context.Context, c Chain, begin func(to int) (Target, error)) (Restored, error) {
	start := time.Now()
	var out Restored
	nodes, unpin, err := s.claim(c)
	if err != nil {
		return out, err
	}
	defer unpin()
	vanished := true // all that went wrong: then it is a miss like any other
	for attempt := 0; len(nodes) > 0 && nodes[len(nodes)-1].to >= s.opt.MinTokens && attempt < maxAttempts; attempt++ {
		l := newLoad(s, nodes)
		err := l.run(ctx, begin)
		out.Bytes += l.bytes.Load()
		if err == nil {
			out.Tokens, out.Time = l.allTokens(), time.Since(start)
			out.Chain = newChain(nodes, textLen(nodes))
			s.restored(nodes, out)
			return out, nil
		}
		var bad *badSegment
		if !errors.As(err, &bad) {
			out.Time = time.Since(start)
			s.addRestoreFailure(errors.Is(err, ErrAbandoned))
			return out, err
		}
		vanished = vanished && errors.Is(bad.err, fs.ErrNotExist)
		s.blame(nodes[bad.at], bad.err, time.Since(start))
		nodes = nodes[:bad.at]
	}
	out.Time = time.Since(start)
	if vanished {
		return out, ErrVanished
	}
	s.addRestoreFailure(false)
	return out, ErrMiss
}

// badSegment says which segment of a chain ended an attempt.
type badSegment struct {
	at  int
	err error
}

func (b *badSegment) Error() string { return b.err.Error() }
func (b *badSegment) Unwrap() error { return b.err }

// claim pins the part of a chain that is still there and offered.
func (s *Store) claim(c Chain) ([]*node, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return nil, nil, err
	}
	if n := s.stuck.Load(); n >= maxStuckReads {
		return nil, nil, fmt.Errorf("%w: %d reads hang", ErrBusy, n)
	}
	var list []*node
	parent := segment.ID{}
	if c.After != "" {
		var err error
		if parent, err = segment.ParseID(c.After); err != nil {
			return nil, nil, fmt.Errorf("%w: after: %v", ErrInput, err)
		}
	}
	for _, id := range c.IDs {
		key, err := segment.ParseID(id)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %v", ErrInput, err)
		}
		n := s.ix.nodes[key]
		if n == nil || !n.offered() || n.parent != parent {
			break
		}
		list = append(list, n)
		parent = key
	}
	return list, s.unpinner(s.pin(list)), nil
}

func textLen(nodes []*node) int {
	sum := 0
	for _, n := range nodes {
		sum += n.textLen
	}
	return sum
}

// restored counts a hit and notes it.
func (s *Store) restored(nodes []*node, r Restored) {
	now := s.opt.Now()
	s.mu.Lock()
	var recs []journal.Record
	for _, n := range nodes {
		n.hits = n.decayedHits(now) + 1
		n.lastUsed = now
		recs = append(recs, touchRecord(n))
	}
	s.count.hits++
	s.count.tokensRestored += int64(r.Chain.Tokens)
	s.count.bytesRead += r.Bytes
	s.count.readTime += r.Time
	readOnly := s.readOnly != ""
	s.mu.Unlock()
	last := nodes[len(nodes)-1]
	if !readOnly {
		s.keep(false, func() { s.note(false, recs...) })
		if s.opt.Unsafe.TouchInPlace {
			s.keep(true, func() { s.touchInPlace(last.id) })
		}
		if s.opt.Unsafe.ConsumeOnHit {
			s.keep(true, func() { s.drop(last, "consumed") })
		}
	}
	s.opt.Log("kv cache hit text tokens=%d text=%d quant=%d key=%v load=%.1f ms file=%s",
		r.Chain.Tokens, r.Chain.TextLen, s.opt.QuantBits, last.id, millis(r.Time), s.dir.segment(last.id))
}

func (s *Store) addRestoreFailure(abandoned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count.restoreFailures++
	if abandoned {
		s.count.abandoned++
	}
}

// blame decides what a failed read says about a file: gone, out of reach for
// now, or bad.
func (s *Store) blame(n *node, err error, took time.Duration) {
	if errors.Is(err, fs.ErrNotExist) {
		s.opt.Log("kv cache lost %s: its file is gone", s.dir.segment(n.id))
		s.mu.Lock()
		s.ix.remove(n)
		s.count.missing++
		s.mu.Unlock()
		s.dismiss(n)
		return
	}
	s.opt.Log("kv cache load failed %s: %s load=%.1f ms", s.dir.segment(n.id), oneLine(err.Error()), millis(took))
	switch {
	case isTransient(err):
	case errors.Is(err, segment.ErrTorn):
		s.condemn(n, "torn", err)
	case isFormat(err):
		s.condemn(n, "corrupt", err)
	default:
		s.condemn(n, "unreadable", err)
	}
}

// isTransient reports whether an error is about this process or moment, and not
// about the file.
func isTransient(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EINTR, syscall.EAGAIN, fs.ErrPermission} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// isFormat reports whether an error is a verdict of the segment package.
func isFormat(err error) bool {
	for _, e := range []error{segment.ErrTorn, segment.ErrCorrupt, segment.ErrLayout, segment.ErrLimit, segment.ErrVersion, segment.ErrIdentity} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
