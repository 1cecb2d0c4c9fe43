package engine

import (
	"fmt"
	"sync/atomic"

	"ds4/runtime/kvstore/segment"
)

// Restore adds stored state to a session: all of it to an empty one, or what
// follows the positions that the session has. Rows may be put from several
// goroutines. They go where committed state is not, so until Commit the session
// stays what it was.
type Restore struct {
	session  *Session
	from, to int
	raw      [][]byte     // the new raw windows: their places in the rings are taken
	missing  atomic.Int64 // rows that have not been put yet
	done     bool
}

// BeginRestore prepares a session for the stored state of tokens [from, to). From
// 0 the session is emptied first; otherwise from must be its length.
func (s *Session) BeginRestore(from, to int) (*Restore, error) {
	if from < 0 || to <= from || to > s.engine.opt.ContextTokens {
		return nil, fmt.Errorf("%w: stored tokens [%d, %d), limit %d", ErrContextFull, from, to, s.engine.opt.ContextTokens)
	}
	if from == 0 {
		s.Reset()
		if err := s.moveEmpty(); err != nil {
			return nil, err
		}
	}
	if from != s.Len() {
		return nil, fmt.Errorf("%w: stored tokens [%d, %d) for a session of %d", ErrRestore, from, to, s.Len())
	}
	if from != 0 && s.pending.running() {
		return nil, fmt.Errorf("%w: it may write to the session", ErrBusy)
	}
	r := &Restore{session: s, from: from, to: to}
	for i := range s.engine.layout.layers {
		l := &s.engine.layout.layers[i]
		r.raw = append(r.raw, make([]byte, (to-s.windowStart(to))*l.rawBytes))
		if l.ratio != 0 {
			s.adviseRows(l.comp, l.compBytes, from/l.ratio, to/l.ratio)
			s.adviseRows(l.index, l.indexRowBytes, from/l.ratio, to/l.ratio)
		}
		for _, kind := range []segment.Kind{segment.Raw, segment.Compressed, segment.Indexer, segment.Frontier} {
			first, end := r.rows(kind, i)
			r.missing.Add(int64(end - first))
		}
	}
	return r, nil
}

// adviseRows says that rows [from, to) of a table are about to be written.
func (s *Session) adviseRows(table uint64, rowBytes, from, to int) {
	adviseFill(s.state.Bytes(), int(table)+from*rowBytes, int(table)+to*rowBytes)
}

// rows is the range of rows of a kind that the restored state has in a layer.
func (r *Restore) rows(kind segment.Kind, layer int) (first, end int) {
	l := &r.session.engine.layout.layers[layer]
	switch {
	case kind == segment.Raw:
		return 0, r.to - r.session.windowStart(r.to)
	case l.ratio == 0:
	case kind == segment.Compressed, kind == segment.Indexer && l.indexRowBytes != 0:
		return r.from / l.ratio, r.to / l.ratio
	case kind == segment.Frontier && l.keptFrontier(r.to) > 0:
		return 0, 1
	}
	return 0, 0
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
	if kind == segment.Frontier {
		return r.putFrontier(layer, row, b)
	}
	packed := &l.packed
	if kind == segment.Indexer {
		packed = &l.indexPacked
	}
	n, first, end := 0, 0, 0
	if first, end = r.rows(kind, layer); end > first {
		n = len(b) / packed.Bytes()
	}
	if r.done || row < first || n < 1 || row > end-n || n*packed.Bytes() != len(b) {
		return fmt.Errorf("%w: %d bytes from row %d on, want rows [%d, %d)", ErrRestore, len(b), row, first, end)
	}
	var err error
	switch kind {
	case segment.Raw:
		err = packed.Unpack(floats(r.raw[layer][row*l.rawBytes:(row+n)*l.rawBytes]), b)
	case segment.Compressed:
		err = l.unpackComp(s.rows(l.comp, l.compBytes, row, row+n), b)
	case segment.Indexer:
		err = s.unpackIndex(l, row, b)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", segment.ErrCorrupt, err)
	}
	r.missing.Add(int64(-n))
	return nil
}

func (r *Restore) putFrontier(layer, row int, b []byte) error {
	l := &r.session.engine.layout.layers[layer]
	if want := l.keptFrontier(r.to); r.done || row != 0 || len(b) == 0 || len(b) != want {
		return fmt.Errorf("%w: frontier of %d bytes, row %d, want %d", ErrRestore, len(b), row, want)
	}
	if !r.session.importFrontier(layer, 1, r.to, b) {
		return fmt.Errorf("%w: %w", segment.ErrCorrupt, errNotFinite)
	}
	r.missing.Add(-1)
	return nil
}

// Commit makes the restored state the session's. tokens are those of [from, to).
// The session has no logits until it evaluates a token.
func (r *Restore) Commit(tokens []int32) error {
	s := r.session
	if r.done {
		return fmt.Errorf("%w: it has ended", ErrRestore)
	}
	r.done = true
	if err := r.check(tokens); err != nil {
		return err
	}
	for i := range r.raw {
		s.putRaw(i, r.to, r.raw[i])
	}
	s.bank = [2]int{1 - s.bank[0], 1 - s.bank[1]}
	s.hasLogits = false
	s.tokens = append(s.tokens, tokens...)
	return nil
}

// check says what is missing or wrong at the end.
func (r *Restore) check(tokens []int32) error {
	if n := r.missing.Load(); n != 0 {
		return fmt.Errorf("%w: %d rows are missing", ErrRestore, n)
	}
	if n := r.session.Len(); len(tokens) != r.to-r.from || n != r.from {
		return fmt.Errorf("%w: %d tokens after %d, want %d after %d", ErrRestore, len(tokens), n, r.to-r.from, r.from)
	}
	for i, t := range tokens {
		if vocab := r.session.engine.model.Vocab; t < 0 || int(t) >= vocab {
			return fmt.Errorf("%w: token %d at position %d, vocabulary %d", ErrRestore, t, r.from+i, vocab)
		}
	}
	return nil
}

// Abort leaves the session as it was.
func (r *Restore) Abort() { r.done = true }
