package engine

import (
	"errors"
	"fmt"
	"sync/atomic"

	"ds4/metal/quant/kvrow"
	"ds4/runtime/kvstore/segment"
)

// Restore fills an empty session with stored state. Rows may be put from several
// goroutines; until Commit the session stays empty.
type Restore struct {
	session *Session
	to      int
	missing atomic.Int64 // rows that have not been put yet
	done    bool
}

// BeginRestore empties the session and prepares it for tokens [0, to).
func (s *Session) BeginRestore(to int) (*Restore, error) {
	if to < 1 || to > s.engine.opt.ContextTokens {
		return nil, fmt.Errorf("%w: %d stored tokens, limit %d", ErrContextFull, to, s.engine.opt.ContextTokens)
	}
	s.Reset()
	r := &Restore{session: s, to: to}
	for i := range s.engine.layout.layers {
		for _, kind := range []segment.Kind{segment.Raw, segment.Compressed, segment.Indexer, segment.Frontier} {
			r.missing.Add(int64(r.rows(kind, i)))
		}
	}
	return r, nil
}

// rows is how many rows of a kind the restored state has in a layer.
func (r *Restore) rows(kind segment.Kind, layer int) int {
	l := &r.session.engine.layout.layers[layer]
	switch {
	case kind == segment.Raw:
		return r.to - r.session.windowStart(r.to)
	case l.ratio == 0:
	case kind == segment.Compressed, kind == segment.Indexer && l.indexRowBytes != 0:
		return r.to / l.ratio
	case kind == segment.Frontier && l.keptFrontier(r.to) > 0:
		return 1
	}
	return 0
}

// Put takes whole packed rows of a layer, the first of which has number row:
// among the compressed or indexer rows of the session, or in the raw window from
// its oldest row on. A frontier is one row. Bytes that no export has made wrap
// segment.ErrCorrupt; what the layout has no place for wraps ErrRestore.
func (r *Restore) Put(kind segment.Kind, layer, row int, b []byte) error {
	s := r.session
	if layer < 0 || layer >= len(s.engine.layout.layers) {
		return fmt.Errorf("%w: layer %d", ErrRestore, layer)
	}
	l := &s.engine.layout.layers[layer]
	packed, table, rowBytes := &l.packed, l.comp, l.rowBytes
	switch kind {
	case segment.Raw:
		table = l.raw
	case segment.Indexer:
		packed, table, rowBytes = &l.indexPacked, l.index, l.indexRowBytes
	case segment.Frontier:
		return r.putFrontier(layer, row, b)
	}
	n, have := 0, r.rows(kind, layer)
	if have > 0 {
		n = len(b) / packed.Bytes()
	}
	if r.done || row < 0 || n < 1 || row > have-n || n*packed.Bytes() != len(b) {
		return fmt.Errorf("%w: %d bytes from row %d on, of %d rows", ErrRestore, len(b), row, have)
	}
	var err error
	if kind == segment.Raw {
		err = r.unpackRaw(l, s.windowStart(r.to)+row, b)
	} else {
		err = packed.Unpack(floats(s.rows(table, rowBytes, row, row+n)), b)
	}
	if errors.Is(err, kvrow.ErrCorrupt) {
		err = fmt.Errorf("%w: %w", segment.ErrCorrupt, err)
	}
	r.missing.Add(int64(-n))
	return err
}

// unpackRaw puts the rows of positions from p on into their places in the ring.
func (r *Restore) unpackRaw(l *layerLayout, p int, b []byte) error {
	size := l.packed.Bytes()
	for len(b) > 0 {
		at := p % l.ring
		n := min(l.ring-at, len(b)/size)
		if err := l.packed.Unpack(floats(r.session.rows(l.raw, l.rowBytes, at, at+n)), b[:n*size]); err != nil {
			return err
		}
		b, p = b[n*size:], p+n
	}
	return nil
}

func (r *Restore) putFrontier(layer, row int, b []byte) error {
	l := &r.session.engine.layout.layers[layer]
	if want := l.keptFrontier(r.to); r.done || row != 0 || len(b) == 0 || len(b) != want {
		return fmt.Errorf("%w: frontier of %d bytes, row %d, want %d", ErrRestore, len(b), row, want)
	}
	if !r.session.importFrontier(layer, r.to, b) {
		return fmt.Errorf("%w: %w", segment.ErrCorrupt, errNotFinite)
	}
	r.missing.Add(-1)
	return nil
}

// Commit makes the restored state the session's. tokens are all of [0, to). The
// session has no logits until it evaluates a token.
func (r *Restore) Commit(tokens []int32) error {
	s := r.session
	if r.done {
		return fmt.Errorf("%w: it has ended", ErrRestore)
	}
	if err := r.check(tokens); err != nil {
		r.Abort()
		return err
	}
	r.done = true
	s.tokens = append(s.tokens[:0], tokens...)
	return nil
}

// check says what is missing or wrong at the end.
func (r *Restore) check(tokens []int32) error {
	if n := r.missing.Load(); n != 0 {
		return fmt.Errorf("%w: %d rows are missing", ErrRestore, n)
	}
	if len(tokens) != r.to {
		return fmt.Errorf("%w: %d tokens, want %d", ErrRestore, len(tokens), r.to)
	}
	for i, t := range tokens {
		if vocab := r.session.engine.model.Vocab; t < 0 || int(t) >= vocab {
			return fmt.Errorf("%w: token %d at position %d, vocabulary %d", ErrRestore, t, i, vocab)
		}
	}
	return nil
}

// Abort leaves the session empty.
func (r *Restore) Abort() {
	if !r.done {
		r.done = true
		r.session.Reset()
	}
}
