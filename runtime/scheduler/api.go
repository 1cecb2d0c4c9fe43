// Package scheduler owns the engine: it queues requests, keeps live sessions,
// restores prefixes from the disk store and saves new ones, interleaves prefill
// of one request with decode of others at chunk granularity, and decides what
// happens after a failure (ladder, inline cold retry, breaker, canary).
//
// It knows nothing of HTTP. The server, `ds4 run` and `ds4 chat` are its users.
package scheduler

import (
	"time"

	"ds4/runtime/chat"
	"ds4/runtime/sample"
)

// Request is one generation.
type Request struct {
	Kind      string // "chat" or "completion": the word in log lines
	Prompt    chat.Prompt
	MaxTokens int // output cap; 0 means the scheduler's default
	Sampling  sample.Params
	Stop      []string
	Thinking  bool // the prompt ends inside <think>: output starts as reasoning
	// IgnoreEOS keeps decoding past the end of turn, for measurements only.
	IgnoreEOS bool
}

// EventKind says what an Event carries.
type EventKind int

const (
	// EventPrefill reports progress: Done of Total tokens evaluated.
	EventPrefill EventKind = iota + 1
	// EventText carries visible text; EventReasoning the text inside <think>.
	EventText
	EventReasoning
	// EventDone ends a stream that worked; Result is set.
	EventDone
	// EventError ends a stream that failed; Err is set.
	EventError
)

// Event is one step of a running request. Text is always whole UTF-8.
type Event struct {
	Kind        EventKind
	Text        string
	Done, Total int
	Result      *Result
	Err         error
}

// Finish reasons.
const (
	FinishStop   = "stop"
	FinishLength = "length"
	FinishError  = "error"
)

// Result is what a finished request cost.
type Result struct {
	Finish           string
	PromptTokens     int
	CachedTokens     int    // reused, never evaluated in this request
	EvaluatedTokens  int    // prompt tokens that the backend evaluated
	CompletionTokens int    // sampled
	Source           string // cold, memory-token, memory-text, disk-text
	RestoredTokens   int    // of CachedTokens, those read from disk
	Attempts         int    // prefill attempts on the device, 1 if nothing failed
	Queue            time.Duration
	RestoreTime      time.Duration
	Prefill          time.Duration // backend time of EvaluatedTokens
	Decode           time.Duration // backend time of CompletionTokens
}

// Config is what New needs besides the engine, the tokenizer and the store; a
// zero value means the default of the flag of the same name.
//
//	func New(eng *engine.Engine, tok *tokenizer.Tokenizer, store *kvstore.Store, cfg Config) (*Scheduler, error)
//	func (s *Scheduler) Submit(ctx context.Context, r *Request) (<-chan Event, error)
//		// errors at once: *ContextLengthError, ErrQueueFull, ErrShuttingDown,
//		// *FailureError with code device_unavailable. Cancelling ctx cancels the
//		// request at the next chunk or token; that is never a failure. The channel
//		// is closed after EventDone or EventError; the reader must drain it or cancel ctx.
//	func (s *Scheduler) Shutdown(ctx context.Context) error // stop, save tails, within ctx
//	func (s *Scheduler) Health() Health
//	func (s *Scheduler) Stats() Stats          // for /metrics
//	func (s *Scheduler) ClearKV(ctx) error      // POST /v1/kv/clear
type Config struct {
	Sessions            int           // --sessions, live sessions, default 4
	QueueLimit          int           // --queue, waiting requests, default 64
	DefaultTokens       int           // --tokens
	MinCacheTokens      int           // --kv-cache-min-tokens, default 512
	PrefillFailureLimit int           // --prefill-failure-limit, default 3
	InlineRetry         bool          // --prefill-inline-retry
	FailureWindow       time.Duration // --prefill-failure-window, default 10m
	DeviceFailureExit   int           // --device-failure-exit, 0 = never
	Log                 func(format string, args ...any)
	Now                 func() time.Time
	RecoveryOff         bool // test builds only: switches the ladder off
}
