package engine

import (
	"fmt"
	"slices"
)

// Point is a place in a session's history that Rewind can go back to. It holds
// copies of what later tokens overwrite: the raw window, the frontiers and the
// logits. Compressed rows are append-only and stay where they are.
type Point struct {
	tokens   []int32
	raw      [][]byte
	frontier [][]byte
	logits   []float32
}

// Len is the number of positions at the point.
func (p *Point) Len() int { return len(p.tokens) }

// Bytes is the memory that the point holds.
func (p *Point) Bytes() int {
	n := 4 * (len(p.tokens) + len(p.logits))
	for i := range p.raw {
		n += len(p.raw[i]) + len(p.frontier[i])
	}
	return n
}

// Keep copies what is needed to come back to the present length.
func (s *Session) Keep() *Point {
	p := &Point{tokens: slices.Clone(s.tokens), logits: slices.Clone(s.Logits())}
	for i := range s.engine.layout.layers {
		p.raw = append(p.raw, s.exportRaw(i))
		p.frontier = append(p.frontier, s.exportFrontier(i))
	}
	return p
}

// Rewind goes back to a kept point. The session must still hold the point's
// tokens as its own first ones, or ErrPoint is wrapped.
func (s *Session) Rewind(p *Point) error {
	n := p.Len()
	if n > s.Len() || !slices.Equal(s.tokens[:n], p.tokens) {
		return fmt.Errorf("%w: point at %d, session at %d", ErrPoint, n, s.Len())
	}
	if len(p.raw) != len(s.engine.layout.layers) || n > 0 && len(p.logits) != len(s.logits) {
		return fmt.Errorf("%w: the point belongs to another model", ErrPoint)
	}
	s.bank = [2]int{}
	for i := range p.raw {
		s.importRaw(i, n, p.raw[i])
		copy(s.frontierBytes(i), p.frontier[i])
	}
	s.tokens = s.tokens[:n]
	copy(s.logits, p.logits)
	return nil
}

// Snapshot is the state that tokens [From, To) added, and the frontier at To.
type Snapshot struct {
	From, To int
	Tokens   []int32   // [To-From]
	Raw      [][]byte  // per layer: min(To, window) rows, oldest first
	Comp     [][]byte  // per layer: rows closed in (From, To]; nil for ratio 0
	Index    [][]byte  // per layer: the same windows; nil without indexer
	Frontier [][]byte  // per layer; nil for ratio 0
	Logits   []float32 // [vocab]
}

// Export copies the state that tokens [from, Len()) added. Equal histories give
// equal bytes.
func (s *Session) Export(from int) (*Snapshot, error) {
	to := s.Len()
	if from < 0 || from >= to {
		return nil, fmt.Errorf("engine: export from %d: want 0 to %d", from, to-1)
	}
	x := &Snapshot{From: from, To: to, Tokens: slices.Clone(s.tokens[from:]), Logits: slices.Clone(s.logits)}
	for i := range s.engine.layout.layers {
		l := &s.engine.layout.layers[i]
		var comp, index []byte
		if l.ratio != 0 {
			comp = slices.Clone(s.rows(l.comp, l.rowBytes, from/l.ratio, to/l.ratio))
		}
		if l.indexRowBytes != 0 {
			index = slices.Clone(s.rows(l.index, l.indexRowBytes, from/l.ratio, to/l.ratio))
		}
		x.Comp, x.Index = append(x.Comp, comp), append(x.Index, index)
		x.Raw = append(x.Raw, s.exportRaw(i))
		x.Frontier = append(x.Frontier, s.exportFrontier(i))
	}
	return x, nil
}

// rows views rows [from, to) of a table in the session's buffer.
func (s *Session) rows(table uint64, rowBytes, from, to int) []byte {
	b := s.state.Bytes()[table:]
	return b[from*rowBytes : to*rowBytes : to*rowBytes]
}

// windowStart is the first position whose raw row is needed at length n.
func (s *Session) windowStart(n int) int { return max(0, n-s.engine.layout.window) }

// exportRaw copies the raw window, oldest row first.
func (s *Session) exportRaw(layer int) []byte {
	l := &s.engine.layout.layers[layer]
	first := s.windowStart(s.Len())
	out := make([]byte, 0, (s.Len()-first)*l.rowBytes)
	for p := first; p < s.Len(); p++ {
		out = append(out, s.rows(l.raw, l.rowBytes, p%l.ring, p%l.ring+1)...)
	}
	return out
}

// importRaw puts the raw window of length n in place.
func (s *Session) importRaw(layer, n int, raw []byte) {
	l := &s.engine.layout.layers[layer]
	for p := s.windowStart(n); p < n; p++ {
		copy(s.rows(l.raw, l.rowBytes, p%l.ring, p%l.ring+1), raw[:l.rowBytes])
		raw = raw[l.rowBytes:]
	}
}

// frontierBytes views the committed frontier of a layer.
func (s *Session) frontierBytes(layer int) []byte { return s.frontierBank(layer, 0) }

// frontierBank views the committed frontier of a layer, or, with other 1, the
// bank that the next step would write.
func (s *Session) frontierBank(layer, other int) []byte {
	l := &s.engine.layout.layers[layer]
	if l.ratio == 0 {
		return nil
	}
	at := l.frontier[s.bank[bankOf(l.ratio)]^other]
	return s.state.Bytes()[at : at+uint64(l.frontierBytes)]
}

// exportFrontier copies a frontier and zeroes the slots that hold nothing.
func (s *Session) exportFrontier(layer int) []byte {
	l := &s.engine.layout.layers[layer]
	if l.ratio == 0 {
		return nil
	}
	out := slices.Clone(s.frontierBytes(layer))
	if l.indexFrontier != 0 {
		zeroUnused(out[:l.indexFrontier], l.ratio, s.Len())
		zeroUnused(out[l.indexFrontier:], l.ratio, s.Len())
	} else {
		zeroUnused(out, l.ratio, s.Len())
	}
	return out
}

// zeroUnused clears what a compressor at length n will never read: slots of the
// open window that are not filled yet, the previous window if there is none, and
// of its tokens the half that only their own window used.
func zeroUnused(f []byte, ratio, n int) {
	slot := len(f) / frontierSlots(ratio)
	open := n % ratio
	if ratio != 4 {
		clear(f[open*slot:])
		return
	}
	clear(f[(ratio+open)*slot:])
	if n < ratio {
		clear(f[:ratio*slot])
		return
	}
	for i := range ratio {
		own := f[i*slot : (i+1)*slot] // kv then gate, each [lane A][lane B]
		clear(own[slot/4 : slot/2])
		clear(own[3*slot/4:])
	}
}

// Restore adds stored state to a session: all of it to an empty one, or what
// follows the positions that the session has. The views that it returns may be
// filled concurrently. They lie where committed state is not, so until Commit the
// session stays what it was.
type Restore struct {
	session  *Session
	from, to int
	raw      [][]byte
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
	}
	if from != s.Len() {
		return nil, fmt.Errorf("%w: stored tokens [%d, %d) for a session of %d", ErrRestore, from, to, s.Len())
	}
	r := &Restore{session: s, from: from, to: to}
	for _, l := range s.engine.layout.layers {
		r.raw = append(r.raw, make([]byte, (to-s.windowStart(to))*l.rowBytes))
	}
	return r, nil
}

// Comp views the compressed rows that tokens [from, to) close in a layer.
func (r *Restore) Comp(layer, from, to int) []byte {
	l := &r.session.engine.layout.layers[layer]
	if l.ratio == 0 || !r.covers(from, to) {
		return nil
	}
	return r.session.rows(l.comp, l.rowBytes, from/l.ratio, to/l.ratio)
}

// Index views the indexer rows that tokens [from, to) close in a layer.
func (r *Restore) Index(layer, from, to int) []byte {
	l := &r.session.engine.layout.layers[layer]
	if l.indexRowBytes == 0 || !r.covers(from, to) {
		return nil
	}
	return r.session.rows(l.index, l.indexRowBytes, from/l.ratio, to/l.ratio)
}

func (r *Restore) covers(from, to int) bool {
	return !r.done && from >= r.from && from <= to && to <= r.to
}

// Raw views the raw window of a layer, oldest row first.
func (r *Restore) Raw(layer int) []byte { return r.raw[layer] }

// Frontier views the frontier of a layer.
func (r *Restore) Frontier(layer int) []byte { return r.session.frontierBank(layer, 1) }

// Logits views the logits after the last token, as little-endian float32.
func (r *Restore) Logits() []byte { return rawBytes(r.session.next) }

// Commit makes the restored state the session's. tokens are those of [from, to).
func (r *Restore) Commit(tokens []int32) error {
	s := r.session
	if r.done {
		return fmt.Errorf("%w: it has ended", ErrRestore)
	}
	if len(tokens) != r.to-r.from || s.Len() != r.from {
		r.Abort()
		return fmt.Errorf("%w: %d tokens after %d, want %d after %d", ErrRestore, len(tokens), s.Len(), r.to-r.from, r.from)
	}
	for i, t := range tokens {
		if t < 0 || int(t) >= s.engine.model.Vocab {
			r.Abort()
			return fmt.Errorf("%w: token %d at position %d, vocabulary %d", ErrRestore, t, r.from+i, s.engine.model.Vocab)
		}
	}
	r.done = true
	for i := range r.raw {
		s.importRaw(i, r.to, r.raw[i])
	}
	s.bank = [2]int{1 - s.bank[0], 1 - s.bank[1]}
	s.logits, s.next = s.next, s.logits
	s.tokens = append(s.tokens, tokens...)
	return nil
}

// Abort leaves the session as it was.
func (r *Restore) Abort() { r.done = true }
