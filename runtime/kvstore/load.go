package kvstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"ds4/runtime/failpoint"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

const (
	// readPiece is what a reader reads at once: small enough to be checked and
	// copied while it is in the processor's cache.
	readPiece = 512 << 10
	// gapBytes is how much between two wanted sections is read rather than
	// skipped.
	gapBytes = 32 << 10
)

// readBuffers are the readers' pieces; a restore needs a few of them for a moment.
var readBuffers = sync.Pool{New: func() any { return new([readPiece]byte) }}

// load is one attempt to read a chain into a target. The readers put rows into
// the target only under mu and only while the load lives, so that the target is
// nobody's any more as soon as run returns, even if a read of a dead disk has
// not.
type load struct {
	s      *Store
	nodes  []*node
	tokens [][]int32    // per segment
	bytes  atomic.Int64 // read

	tasks   chan task
	feeding sync.WaitGroup // the feeder and the readers

	mu     sync.RWMutex
	dead   bool
	target Target
	bad    *badSegment // lowest failed segment
	err    error       // any other failure
}

// task is one stretch of a file: sections that lie close together, or one large
// section.
type task struct {
	at       int // segment of the chain
	file     *openSegment
	sections []segment.Section
}

// openSegment is a file that several tasks read; the last one closes it.
type openSegment struct {
	r    segment.Reader
	f    vfs.File
	in   *segment.Info
	uses atomic.Int32
}

func (o *openSegment) release() {
	if o.uses.Add(-1) == 0 {
		_ = o.f.Close() // only read from
	}
}

func newLoad(s *Store, nodes []*node) *load {
	return &load{s: s, nodes: nodes, tokens: make([][]int32, len(nodes)), tasks: make(chan task, 2*s.opt.Readers)}
}

// run reads everything and commits, or aborts and says why: a *badSegment, an
// error that wraps ErrAbandoned, or an error of the target.
func (l *load) run(ctx context.Context, begin func(to int) (Target, error)) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrAbandoned, err)
	}
	target, err := begin(l.nodes[len(l.nodes)-1].to)
	if err != nil {
		return fmt.Errorf("kvstore: restore: begin: %w", err)
	}
	l.target = target
	l.feeding.Add(1 + l.s.opt.Readers)
	go l.feed()
	for range l.s.opt.Readers {
		go l.read()
	}
	done := make(chan struct{})
	go func() {
		l.feeding.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		l.kill()
		target.Abort()
		l.s.stuck.Add(1)
		go func() {
			<-done
			l.s.stuck.Add(-1)
		}()
		return fmt.Errorf("%w: %w", ErrAbandoned, ctx.Err())
	}
	switch {
	case l.bad != nil:
		target.Abort()
		return l.bad
	case l.err != nil:
		target.Abort()
		return l.err
	}
	if err := target.Commit(l.allTokens()); err != nil {
		return fmt.Errorf("kvstore: restore: commit: %w", err)
	}
	return nil
}

// kill makes the target unreachable for the readers.
func (l *load) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
}

func (l *load) allTokens() []int32 {
	var all []int32
	for _, t := range l.tokens {
		all = append(all, t...)
	}
	return all
}

// fail records why segment at cannot be used.
func (l *load) fail(at int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var own *targetError
	if errors.As(err, &own) && !errors.Is(err, segment.ErrCorrupt) {
		if l.err == nil {
			l.err = err
		}
	} else if l.bad == nil || at < l.bad.at {
		l.bad = &badSegment{at, err}
	}
}

// wanted reports whether reading segment at still makes sense. Segments before a
// bad one are read on: a damage there would be the first one.
func (l *load) wanted(at int) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return !l.dead && l.err == nil && (l.bad == nil || at < l.bad.at)
}

// targetError is what Put returned, or that there is no target any more: no file
// is to blame, unless the rows are such that no state has them.
type targetError struct{ err error }

func (e *targetError) Error() string { return "kvstore: restore: " + e.err.Error() }
func (e *targetError) Unwrap() error { return e.err }

// errDead means that the restore was given up while rows were on their way.
var errDead = errors.New("abandoned")

// feed opens the segments in their order and hands out the tasks.
func (l *load) feed() {
	defer l.feeding.Done()
	defer close(l.tasks)
	for at, n := range l.nodes {
		if !l.wanted(at) {
			return
		}
		if err := l.feedSegment(at, n); err != nil {
			l.fail(at, err)
			return
		}
	}
}

func (l *load) feedSegment(at int, n *node) error {
	f, err := l.s.fs.Open(l.s.dir.segment(n.id))
	if err != nil {
		return err
	}
	o := &openSegment{f: f}
	o.uses.Store(1)
	if l.s.opt.Unsafe.LeakFiles {
		o.uses.Add(1)
		l.s.keepOpen(f)
	}
	defer o.release()
	if o.in, err = l.open(o, n); err != nil {
		return err
	}
	if l.tokens[at], err = l.head(o, n); err != nil {
		return err
	}
	for _, t := range group(l.s.wantedSections(o.in, at == len(l.nodes)-1)) {
		o.uses.Add(1)
		l.tasks <- task{at: at, file: o, sections: t}
	}
	return nil
}

// open checks header, table and footer, and every byte if the segment has a
// strike.
func (l *load) open(o *openSegment, n *node) (*segment.Info, error) {
	size, err := o.f.Size()
	if err != nil {
		return nil, err
	}
	id := n.id.String()
	o.r = segment.Reader{R: tap{o.f, id, ptHeaderRead}, Size: size, NoChecksum: l.s.opt.Unsafe.NoChecksum}
	h, err := o.r.Header()
	if err != nil {
		return nil, err
	}
	if h.Identity != l.s.opt.Identity {
		return nil, fmt.Errorf("%w: %x", segment.ErrIdentity, h.Identity[:6])
	}
	if h.From != n.from || h.To != n.to || h.Parent != n.parent || h.Sampled != n.sampled {
		return nil, fmt.Errorf("%w: tokens [%d, %d) after %v, sampled %t; the index says [%d, %d) after %v, %t",
			segment.ErrCorrupt, h.From, h.To, h.Parent, h.Sampled, n.from, n.to, n.parent, n.sampled)
	}
	in, err := o.r.Info(h, &l.s.opt.Layout)
	if err != nil {
		return nil, err
	}
	l.s.mu.Lock()
	struck := n.strikes > 0
	l.s.mu.Unlock()
	if struck {
		o.r.R = tap{o.f, id, ptPayloadRead}
		if _, err := o.r.Verify(in, &l.s.opt.Layout); err != nil {
			return nil, fmt.Errorf("full check after a strike: %w", err)
		}
	}
	return in, nil
}

// head reads text and tokens and proves the segment's name.
func (l *load) head(o *openSegment, n *node) ([]int32, error) {
	in := o.in
	o.r.R = tap{o.f, n.id.String(), ptTextRead}
	text := make([]byte, in.Table[0].Bytes)
	raw := make([]byte, in.Table[1].Bytes)
	for i, b := range [][]byte{text, raw} {
		if err := o.r.Read(in.Table[i], b); err != nil {
			return nil, err
		}
		l.bytes.Add(int64(len(b)))
	}
	o.r.R = tap{o.f, n.id.String(), ptPayloadRead}
	if got := segment.MakeID(in.Identity, in.Parent, in.From, text); got != n.id && !o.r.NoChecksum {
		return nil, fmt.Errorf("%w: text hashes to %v", segment.ErrCorrupt, got)
	}
	return segment.DecodeTokens(raw, l.s.opt.Layout.Vocab)
}

// wantedSections are those that a target gets of a segment.
func (s *Store) wantedSections(in *segment.Info, last bool) []segment.Section {
	var list []segment.Section
	for _, sec := range in.Table {
		switch sec.Kind {
		case segment.Compressed, segment.Indexer:
		case segment.Raw, segment.Frontier:
			if !last || sec.Kind == segment.Frontier && s.opt.Unsafe.NoFrontier {
				continue
			}
		default:
			continue
		}
		if sec.Bytes > 0 {
			list = append(list, sec)
		}
	}
	return list
}

// group joins sections that one read can fetch.
func group(sections []segment.Section) [][]segment.Section {
	var list [][]segment.Section
	for i := 0; i < len(sections); {
		start := sections[i].Offset
		j := i + 1
		for ; j < len(sections); j++ {
			prev, next := sections[j-1], sections[j]
			if next.Offset-(prev.Offset+prev.Bytes) > gapBytes || next.Offset+next.Bytes-start > readPiece {
				break
			}
		}
		list = append(list, sections[i:j])
		i = j
	}
	return list
}

// read carries out tasks until there are no more.
func (l *load) read() {
	defer l.feeding.Done()
	pooled := readBuffers.Get().(*[readPiece]byte)
	defer readBuffers.Put(pooled)
	buf := pooled[:]
	for t := range l.tasks {
		if l.wanted(t.at) {
			if err := l.readTask(t, buf); err != nil {
				l.fail(t.at, err)
			}
		}
		t.file.release()
	}
}

func (l *load) readTask(t task, buf []byte) error {
	first, last := t.sections[0], t.sections[len(t.sections)-1]
	if span := last.Offset + last.Bytes - first.Offset; len(t.sections) > 1 || span <= int64(len(buf)) {
		return l.readSpan(t, buf[:span])
	}
	return l.readLarge(t, buf)
}

// readSpan fetches several sections with one read.
func (l *load) readSpan(t task, buf []byte) error {
	start := t.sections[0].Offset
	if err := t.file.read(buf, start); err != nil {
		return err
	}
	l.bytes.Add(int64(len(buf)))
	for _, sec := range t.sections {
		b := buf[sec.Offset-start:][:sec.Bytes]
		if err := t.file.r.CheckSum(sec, segment.Checksum(b)); err != nil {
			return err
		}
		if err := l.deliver(t.file.in, sec, 0, b); err != nil {
			return err
		}
	}
	return nil
}

// readLarge fetches one section in pieces of whole rows. They reach the target
// before the checksum is known; a wrong one fails the load, and a failed load is
// aborted.
func (l *load) readLarge(t task, buf []byte) error {
	sec := t.sections[0]
	rowBytes := sec.Bytes / int64(sec.Rows)
	if rowBytes > int64(len(buf)) {
		buf = make([]byte, rowBytes) // at most segment.MaxRowBytes
	}
	buf = buf[:int64(len(buf))/rowBytes*rowBytes]
	var sum uint32
	for at := int64(0); at < sec.Bytes; {
		b := buf[:min(int64(len(buf)), sec.Bytes-at)]
		if err := t.file.read(b, sec.Offset+at); err != nil {
			return err
		}
		l.bytes.Add(int64(len(b)))
		sum = segment.AddChecksum(sum, b)
		if err := l.deliver(t.file.in, sec, int(at/rowBytes), b); err != nil {
			return err
		}
		at += int64(len(b))
	}
	return t.file.r.CheckSum(sec, sum)
}

// deliver hands rows over, the first of which is number row of its section,
// unless the load has ended.
func (l *load) deliver(in *segment.Info, sec segment.Section, row int, b []byte) error {
	if sec.Kind == segment.Compressed || sec.Kind == segment.Indexer {
		row += in.From / l.s.opt.Layout.Layers[sec.Layer].Ratio
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.dead {
		return &targetError{errDead}
	}
	if err := l.target.Put(sec.Kind, sec.Layer, row, b); err != nil {
		return &targetError{fmt.Errorf("%v of layer %d: %w", sec.Kind, sec.Layer, err)}
	}
	return nil
}

// read fills b from the file.
func (o *openSegment) read(b []byte, off int64) error {
	if len(b) == 0 {
		return nil
	}
	n, err := o.r.R.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: file ends at %d", segment.ErrTorn, off+int64(n))
	}
	return fmt.Errorf("kvstore: read %d bytes at %d: %w", len(b), off, err)
}

// tap reads a segment's file through the fault points.
type tap struct {
	f     vfs.File
	id    string
	point *failpoint.Point
}

func (t tap) ReadAt(b []byte, off int64) (int, error) {
	n, err := t.f.ReadAt(b, off)
	scope := failpoint.Scope{Source: "disk", Entry: t.id, N: off}
	for _, p := range []*failpoint.Point{t.point, ptCorrupt} {
		got, err2 := p.Bytes(scope, b[:n])
		if err2 != nil {
			return len(got), err2
		}
	}
	return n, err
}
