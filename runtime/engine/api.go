// Package engine runs sessions of a model over a metal.Device: prefill, decode,
// rewind, export and restore of a session's state. It does no file I/O.
//
// Promises. The logits of a position are bit-identical whatever the chunk size,
// the number of threads, the other sequences of the batch, and whether the
// prefix was computed, continued or restored (on one machine and kernel set). A
// Forward that fails leaves every session of the batch exactly as it was before
// the call; it may be tried again after Device.Rebuild.
package engine

// This file is the contract that scheduler, server and cli build against.
//
//	type Options struct {
//		ContextTokens int              // positions per session
//		ChunkTokens   int              // prefill chunk, default 512
//		Numerics      model.Numerics
//	}
//	func New(m *model.Model, dev metal.Device, opt Options) (*Engine, error)
//	func (e *Engine) Model() *model.Model
//	func (e *Engine) Device() metal.Device
//	func (e *Engine) ContextTokens() int
//	func (e *Engine) ChunkTokens() int
//	func (e *Engine) SessionBytes() uint64   // memory of one session
//	func (e *Engine) ScratchBytes() uint64   // memory shared by all sessions
//	func EstimateBytes(m *model.Model, opt Options) (session, scratch uint64)
//	func (e *Engine) Layout() segment.Layout
//	func (e *Engine) NewSession() (*Session, error)
//	func (e *Engine) Close() error
//	func (e *Engine) Rebuild(level metal.Level) error // Device.Rebuild + pipelines; sessions survive
//
//	// Sequence is one session's share of a batch: Tokens are appended to it.
//	type Sequence struct { Session *Session; Tokens []int32 }
//	// Forward appends to several sessions in one pass. Up to ChunkTokens tokens
//	// in the whole batch. After it, Logits of each session are those of its last token.
//	func (e *Engine) Forward(ctx context.Context, batch []Sequence) error
//
//	func (s *Session) Len() int              // committed positions
//	func (s *Session) Tokens() []int32       // committed tokens; do not modify
//	func (s *Session) Logits() []float32     // [vocab] of the last position; valid until the next Forward/Reset/Restore; nil when Len()==0
//	func (s *Session) Reset()                // empty, every counter and frontier cleared
//	func (s *Session) Release()
//	// Keep copies what is needed to come back to the present length later
//	// (raw window, frontiers, logits: compressed rows are append-only).
//	func (s *Session) Keep() *Point
//	func (p *Point) Len() int
//	// Rewind goes back to a kept point of this session; an error (ErrPoint) if the
//	// point is not of this session's present history.
//	func (s *Session) Rewind(p *Point) error
//
//	// Export copies the state that tokens [from, Len()) added, for a segment file.
//	func (s *Session) Export(from int) (*Snapshot, error)
//	type Snapshot struct {
//		From, To int
//		Tokens   []int32          // [To-From]
//		Raw      [][]byte         // per layer: min(To, window) rows, oldest first
//		Comp     [][]byte         // per layer: rows closed in (from, to]; nil for ratio 0
//		Index    [][]byte         // per layer: the same windows; nil without indexer
//		Frontier [][]byte         // per layer; nil for ratio 0
//		Logits   []float32        // [vocab]
//	}
//	// BeginRestore empties the session and returns views into its buffers that a
//	// reader fills directly, for tokens [0, to). Commit makes the state valid;
//	// until then the session is empty. Different views may be filled concurrently.
//	func (s *Session) BeginRestore(to int) (*Restore, error)
//	func (r *Restore) Comp(layer, from, to int) []byte
//	func (r *Restore) Index(layer, from, to int) []byte
//	func (r *Restore) Raw(layer int) []byte      // min(to, window) rows, oldest first
//	func (r *Restore) Frontier(layer int) []byte
//	func (r *Restore) Logits() []byte
//	func (r *Restore) Commit(tokens []int32) error
//	func (r *Restore) Abort()
