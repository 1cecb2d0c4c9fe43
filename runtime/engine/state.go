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
	raw      [][]byte // float32 rows, oldest first
	frontier [][]byte
	logits   []float32 // nil if the session had none
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
		p.raw = append(p.raw, s.copyRaw(i))
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
	if !s.fits(p) {
		return fmt.Errorf("%w: the point belongs to another model", ErrPoint)
	}
	if s.pending.running() { // it writes to the ring, where the point has rows
		if err := s.engine.settleSoon(); err != nil {
			return err
		}
	}
	s.bank = [2]int{}
	for i := range p.raw {
		s.putRaw(i, n, p.raw[i])
		s.importFrontier(i, 0, n, p.frontier[i])
	}
	s.tokens = s.tokens[:n]
	s.hasLogits = p.logits != nil
	copy(s.logits, p.logits)
	return nil
}

// fits reports whether a point has the sizes of this session's model.
func (s *Session) fits(p *Point) bool {
	layers := s.engine.layout.layers
	if len(p.raw) != len(layers) || p.logits != nil && len(p.logits) != len(s.logits) {
		return false
	}
	for i := range layers {
		if len(p.raw[i]) != (p.Len()-s.windowStart(p.Len()))*layers[i].rawBytes || len(p.frontier[i]) != layers[i].keptFrontier(p.Len()) {
			return false
		}
	}
	return true
}

// Snapshot is the state that tokens [From, To) added, and the frontier at To, in
// the form of Layout. Rows are packed.
type Snapshot struct {
	From, To int
	Tokens   []int32  // [To-From]
	Raw      [][]byte // per layer: the last rows that a token at To can see, oldest first
	Comp     [][]byte // per layer: rows closed in (From, To]; nil for ratio 0
	Index    [][]byte // per layer: the same windows; nil without indexer
	Frontier [][]byte // per layer; nil for ratio 0
}

// Export copies the state that tokens [from, Len()) added. Equal histories give
// equal bytes. It wraps ErrExport if a row is not what the numerics say, or not
// finite: such a state is worth nothing and must not be kept.
func (s *Session) Export(from int) (*Snapshot, error) {
	to := s.Len()
	if from < 0 || from >= to {
		return nil, fmt.Errorf("engine: export from %d: want 0 to %d", from, to-1)
	}
	x := &Snapshot{From: from, To: to, Tokens: slices.Clone(s.tokens[from:])}
	for i := range s.engine.layout.layers {
		if err := s.exportLayer(x, i); err != nil {
			return nil, fmt.Errorf("%w: layer %d: %w", ErrExport, i, err)
		}
	}
	return x, nil
}

// exportLayer appends the state of the next layer.
func (s *Session) exportLayer(x *Snapshot, i int) error {
	l := &s.engine.layout.layers[i]
	var comp, index []byte
	var err error
	if l.ratio != 0 {
		if comp, err = l.packComp(s.rows(l.comp, l.compBytes, x.From/l.ratio, x.To/l.ratio)); err != nil {
			return fmt.Errorf("compressed rows from %d: %w", x.From/l.ratio, err)
		}
	}
	if l.indexRowBytes != 0 {
		if index, err = s.packIndex(l, x.From/l.ratio, x.To/l.ratio); err != nil {
			return fmt.Errorf("indexer rows from %d: %w", x.From/l.ratio, err)
		}
	}
	raw, err := pack(&l.packed, s.copyRaw(i))
	if err != nil {
		return fmt.Errorf("raw rows from %d: %w", s.windowStart(x.To), err)
	}
	frontier := s.exportFrontier(i)
	if !finite(frontier) {
		return errNotFinite
	}
	x.Raw, x.Comp, x.Index, x.Frontier = append(x.Raw, raw), append(x.Comp, comp), append(x.Index, index), append(x.Frontier, frontier)
	return nil
}

// rows views rows [from, to) of a table in the session's buffer.
func (s *Session) rows(table uint64, rowBytes, from, to int) []byte {
	b := s.state.Bytes()[table:]
	return b[from*rowBytes : to*rowBytes : to*rowBytes]
}

// windowStart is the first position whose raw row is needed at length n: that of
// the next token's window.
func (s *Session) windowStart(n int) int { return max(0, n-s.engine.layout.kept) }

// putRaw puts the raw rows that are needed at length n in place, oldest first.
func (s *Session) putRaw(layer, n int, raw []byte) {
	l := &s.engine.layout.layers[layer]
	for p := s.windowStart(n); p < n; p++ {
		raw = raw[copy(s.rows(l.raw, l.rawBytes, p%l.ring, p%l.ring+1), raw):]
	}
}

// copyRaw copies the raw rows that are still needed, oldest first.
func (s *Session) copyRaw(layer int) []byte {
	l := &s.engine.layout.layers[layer]
	first := s.windowStart(s.Len())
	out := make([]byte, 0, (s.Len()-first)*l.rawBytes)
	for p := first; p < s.Len(); p++ {
		out = append(out, s.rows(l.raw, l.rawBytes, p%l.ring, p%l.ring+1)...)
	}
	return out
}
