package kvstore

import (
	"time"

	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// Validate says how much of each segment is read at start-up.
type Validate string

// The modes of --kv-validate.
const (
	ValidateOff    Validate = "off"    // trust names and headers
	ValidateHeader Validate = "header" // header, table, footer (default)
	ValidateFull   Validate = "full"   // every byte
)

// Sync says whether writes are made durable.
type Sync string

// The modes of --kv-sync.
const (
	SyncData Sync = "data" // fsync the file before its rename, the folder after it (default)
	SyncNone Sync = "none" // throw-away caches and benchmarks
)

// Options configure a Store. FS, Dir, Identity and Layout are required; the zero
// value of every other field means the default in its comment.
type Options struct {
	FS       vfs.FS
	Dir      string
	Identity [32]byte       // of model, tokenizer, numerics and engine revision
	Layout   segment.Layout // bytes per row and layer
	// ContextTokens is the context length: Lookup offers only chains that leave
	// one position free. 0: no limit.
	ContextTokens   int
	BudgetBytes     int64         // everything under Dir; default 4 GiB
	QuarantineBytes int64         // of it, the quarantine; 0: delete instead of keep; <0: default 512 MiB
	MinTokens       int           // neither save nor offer shorter prefixes; default 512
	Validate        Validate      // default header
	Sync            Sync          // default data
	RecoverTimeout  time.Duration // Open returns at the latest then and recovery goes on behind it; default 30 s
	SaveTimeout     time.Duration // longest that one Save waits for the writer; default 10 s
	LockGrace       time.Duration // how long Open waits for a folder that somebody has; default 50 ms
	WarnEvery       time.Duration // a store that does not work says so this often; default 1 min
	RetryAfter      time.Duration // first look whether a store that is off or read-only can be more; default 1 s, <0: never
	Readers         int           // parallel reads of a restore; default 2 to 8, by CPUs
	QuantBits       int           // for the log line of a hit only
	Log             func(format string, args ...any)
	Now             func() time.Time
	BootID          string // of this boot of the machine; default: ask the kernel
	Unsafe          Unsafe
}

// Segment is what Save takes: what tokens [From, To) added to the state, and the
// state at To that is needed to go on from there. The store owns it from then
// on: pass a copy.
type Segment struct {
	Parent   string // id of the segment that ends at From; "" if From is 0
	From, To int
	Text     []byte   // cache text of the tokens; any bytes, at least one
	Tokens   []int32  // [To-From]
	Raw      [][]byte // per layer: min(To, Window) rows, oldest first
	Comp     [][]byte // per layer: rows closed in (From, To]; empty for ratio 0
	Index    [][]byte // per layer: the same windows; empty without indexer
	Frontier [][]byte // per layer: FrontierBytes(To) bytes
	Sampled  bool     // the last token was sampled; a Chain says so again
	// Reason is a word for the log line: cold, continued (default), evict, shutdown.
	Reason string
	// Urgent saves are tried even shortly after a failed write: there will be no
	// other occasion.
	Urgent bool
}

// Chain names a stored stretch of a conversation: segments from the root on, or,
// of Beyond, those that follow the segment After, which is not part of it. The
// zero Chain is empty.
type Chain struct {
	After   string // "" from the root on
	From    int    // position at which it begins
	IDs     []string
	Ends    []int // positions at which the segments end
	Tokens  int   // position at which it ends
	TextLen int   // bytes of cache text that it covers
	Bytes   int64 // size of its files
	Sampled bool  // its last token was sampled, whatever the tokens of its text are
}

// Empty reports whether the chain covers nothing.
func (c Chain) Empty() bool { return len(c.IDs) == 0 }

// Last returns the id of the last segment, the Parent of what comes next.
func (c Chain) Last() string {
	if c.Empty() {
		return ""
	}
	return c.IDs[len(c.IDs)-1]
}

// Target receives a restored state, in pieces that the readers hand over as they
// read them: from several goroutines at once, in any order, every row once.
type Target interface {
	// Put takes whole rows of a layer, the first of which has number row: among
	// the compressed or indexer rows of the conversation, or in the raw window
	// from its oldest row on. A frontier is one row. Raw window and frontier come
	// from the last segment of a chain only. b must not be kept.
	//
	// An error that wraps segment.ErrCorrupt says that no state looks like that,
	// and blames the segment; any other fails the restore and blames none.
	//
	// What is put can turn out wrong: a large section is handed over before its
	// checksum is known. Abort follows then.
	Put(kind segment.Kind, layer, row int, b []byte) error
	// Commit or Abort ends a restore, one of them, once; no Put runs then or
	// comes after it. tokens are all of the chain's.
	Commit(tokens []int32) error
	Abort()
}

// Restored says what a restore brought back: Chain may be shorter than the one
// that was asked for.
type Restored struct {
	Chain  Chain
	Tokens []int32 // the stored tokens of Chain, [Tokens-From], authoritative over the text
	Bytes  int64   // read from disk, failed attempts included
	Time   time.Duration
}
