package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"unsafe"

	"ds4/metal"
)

// Session is one conversation's state: its tokens, the rows that attention
// reads, and the logits after the last token.
type Session struct {
	engine *Engine
	state  metal.Buffer
	tokens []int32
	logits []float32 // after the last token, if hasLogits
	next   []float32 // of the step in progress
	// hasLogits is false for an empty session and for one that was restored and
	// has not evaluated a token yet.
	hasLogits bool
	// bank is the frontier that holds the committed state, for layers of ratio 4
	// and 128.
	bank [2]int
	// pending is the last step that was abandoned, which may still write to state.
	pending *abandoned
}

// Sequence is one session's share of a batch: Tokens are appended to it.
type Sequence struct {
	Session *Session
	Tokens  []int32
	// EachLogits, if set, receives the logits of every new position, in order,
	// before the step is committed. The slice is valid during the call.
	EachLogits func(position int, logits []float32)
}

// NewSession allocates an empty session. Its memory is touched as it grows.
func (e *Engine) NewSession() (*Session, error) {
	b, err := e.newState()
	if err != nil {
		return nil, err
	}
	return &Session{
		engine: e, state: b,
		tokens: make([]int32, 0, min(e.opt.ContextTokens, 4096)),
		logits: make([]float32, e.model.Vocab),
		next:   make([]float32, e.model.Vocab),
	}, nil
}

// newState allocates the memory of a session.
func (e *Engine) newState() (metal.Buffer, error) {
	b, err := e.dev.NewBuffer(e.layout.bytes, "session state")
	if err != nil {
		return nil, fmt.Errorf("engine: session: %w", err)
	}
	return b, nil
}

// Release returns the session's memory, once no abandoned step can write to it. The
// session must not be used again.
func (s *Session) Release() {
	s.Reset()
	if !s.pending.keep(s.state) {
		s.state.Release()
	}
}

// Len is the number of committed positions.
func (s *Session) Len() int { return len(s.tokens) }

// Tokens are the committed tokens. The slice must not be modified, and is valid
// until the session changes.
func (s *Session) Tokens() []int32 { return s.tokens }

// Logits are those after the last token, [vocab], or nil if the session is empty
// or was restored and has not evaluated a token since: stored state has no
// logits. They are valid until the session changes.
func (s *Session) Logits() []float32 {
	if !s.hasLogits {
		return nil
	}
	return s.logits
}

// Reset empties the session: tokens, logits, row counters and frontiers go
// together, so that nothing of a failed conversation can be taken for valid.
func (s *Session) Reset() {
	s.tokens = s.tokens[:0]
	s.hasLogits = false
	s.bank = [2]int{}
}

func bankOf(ratio int) int {
	if ratio == 128 {
		return 1
	}
	return 0
}

// banks says which frontier a step reads and which it writes: another one if it
// closes windows.
func (s *Session) banks(ratio, closed int) (from, to int) {
	from = s.bank[bankOf(ratio)]
	if closed > 0 {
		return from, 1 - from
	}
	return from, from
}

// commit makes a step that worked part of the session.
func (s *Session) commit(tokens []int32) {
	pos, end := len(s.tokens), len(s.tokens)+len(tokens)
	for _, ratio := range [2]int{4, 128} {
		_, s.bank[bankOf(ratio)] = s.banks(ratio, end/ratio-pos/ratio)
	}
	s.tokens = append(s.tokens, tokens...)
	s.logits, s.next, s.hasLogits = s.next, s.logits, true
}

// indexRatio is the ratio of the layers that have an indexer.
const indexRatio = 4

// selects reports whether the indexer runs for a step that ends at position end.
func (s *Session) selects(end int) bool { return end/indexRatio > s.engine.model.IndexTopK }

// checkBatch enforces the rules of Forward and returns the number of tokens.
func (e *Engine) checkBatch(batch []Sequence) (int, error) {
	n := 0
	for i, q := range batch {
		switch {
		case q.Session == nil || q.Session.engine != e:
			return 0, fmt.Errorf("%w: sequence %d has no session of this engine", ErrBatch, i)
		case len(q.Tokens) == 0:
			return 0, fmt.Errorf("%w: sequence %d has no tokens", ErrBatch, i)
		case q.Session.Len()+len(q.Tokens) > e.opt.ContextTokens:
			return 0, fmt.Errorf("%w: %d tokens after %d, limit %d", ErrContextFull, len(q.Tokens), q.Session.Len(), e.opt.ContextTokens)
		}
		for _, p := range batch[:i] {
			if p.Session == q.Session {
				return 0, fmt.Errorf("%w: sequences share a session", ErrBatch)
			}
		}
		for _, t := range q.Tokens {
			if t < 0 || int(t) >= e.model.Vocab {
				return 0, fmt.Errorf("%w: token %d outside the vocabulary of %d", ErrBatch, t, e.model.Vocab)
			}
		}
		n += len(q.Tokens)
	}
	if n == 0 || n > e.opt.ChunkTokens {
		return 0, fmt.Errorf("%w: %d tokens, want 1 to %d", ErrBatch, n, e.opt.ChunkTokens)
	}
	return n, nil
}

// Forward appends tokens to several sessions in one pass, at most ChunkTokens in
// all. Afterwards Logits of each session are those of its last token. An error
// leaves every session as it was: a *metal.CommandError is the device's; the
// error of ctx means that the step was abandoned. It may still run then: Rewind, and
// restores behind what the session has, wrap ErrBusy until it has ended.
func (e *Engine) Forward(ctx context.Context, batch []Sequence) error {
	tokens, err := e.checkBatch(batch)
	if err != nil {
		return err
	}
	if err := e.settle(ctx); err != nil {
		return err
	}
	if err := e.step(ctx, batch, tokens); err != nil {
		for _, q := range batch {
			q.Session.pending = e.stuck
		}
		return err
	}
	for _, q := range batch {
		q.Session.commit(q.Tokens)
	}
	return nil
}

// step is Forward up to the commit.
func (e *Engine) step(ctx context.Context, batch []Sequence, tokens int) error {
	e.stage(batch, tokens)
	c := &e.enc
	c.e = e
	if err := c.begin(LabelEmbed); err != nil {
		return err
	}
	c.embed(tokens)
	if err := c.finish(ctx); err != nil {
		return err
	}
	for i := range e.model.Layer {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.begin(e.labels[i]); err != nil {
			return err
		}
		c.layer(i, tokens, batch)
		if err := c.finish(ctx); err != nil {
			return err
		}
	}
	return e.heads(ctx, batch)
}

// stage writes the batch's tokens and positions where kernels read them.
func (e *Engine) stage(batch []Sequence, tokens int) {
	ids, pos := hostBytes(e.scratch.tokens, 4*tokens), hostBytes(e.scratch.positions, 4*tokens)
	i := 0
	for _, q := range batch {
		for j, t := range q.Tokens {
			binary.LittleEndian.PutUint32(ids[4*i:], uint32(t))
			binary.LittleEndian.PutUint32(pos[4*i:], uint32(q.Session.Len()+j))
			i++
		}
	}
	all := hostBytes(e.scratch.all, 8)
	binary.LittleEndian.PutUint32(all, 0)
	binary.LittleEndian.PutUint32(all[4:], uint32(tokens))
}

// headRow is one position whose logits are wanted.
type headRow struct {
	row      int // in the batch
	sequence *Sequence
	offset   int // of the token within the sequence
}

// heads computes the logits that the batch asks for and hands them out.
func (e *Engine) heads(ctx context.Context, batch []Sequence) error {
	var rows [headRows]headRow
	n, first := 0, 0
	flush := func() error {
		if n == 0 {
			return nil
		}
		err := e.headBlock(ctx, rows[:n])
		n = 0
		return err
	}
	for i := range batch {
		q := &batch[i]
		for j := range q.Tokens {
			if q.EachLogits == nil && j != len(q.Tokens)-1 {
				continue
			}
			rows[n] = headRow{row: first + j, sequence: q, offset: j}
			if n++; n == headRows {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		first += len(q.Tokens)
	}
	return flush()
}

func (e *Engine) headBlock(ctx context.Context, rows []headRow) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ids := hostBytes(e.scratch.headRows, 4*len(rows))
	for i, r := range rows {
		binary.LittleEndian.PutUint32(ids[4*i:], uint32(r.row))
	}
	c := &e.enc
	if err := c.begin(LabelHead); err != nil {
		return err
	}
	c.head(len(rows))
	if err := c.finish(ctx); err != nil {
		return err
	}
	vocab := e.model.Vocab
	out := floats(hostBytes(e.scratch.logits, floatBytes*vocab*len(rows)))
	for i, r := range rows {
		l := out[i*vocab : (i+1)*vocab]
		if r.sequence.EachLogits != nil {
			r.sequence.EachLogits(r.sequence.Session.Len()+r.offset, l)
		}
		if r.offset == len(r.sequence.Tokens)-1 {
			copy(r.sequence.Session.next, l)
		}
	}
	return nil
}

// floats views little-endian bytes of a device buffer as float32. Buffers start
// on page borders and parts of them on multiples of 64.
func floats(b []byte) []float32 {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/floatBytes)
}
