// Package scheduler owns the engine: it queues requests, keeps live sessions,
// restores prefixes from the disk store and saves new ones, interleaves prefill
// of one request with decode of others at chunk granularity, and decides what
// happens after a failure (ladder, inline cold retry, breaker, canary).
//
// It knows nothing of HTTP. The server, `ds4 run` and `ds4 chat` are its users.
//
// Promises. Reuse never changes an answer: a prefix is continued only where the
// stored tokens are the tokens of the prompt, or where they were sampled and the
// prompt repeats their text. A failure of the device resets everything that the
// request stood on, and between two successes of one context range the backend
// evaluates its prompt at most Config.PrefillFailureLimit times. Cancelling a
// request, a client that goes away and a shutdown are never failures.
//
// While requests run, everybody gets further in every pass, or takes turns at it.
// A live session makes room for another conversation in the order of what losing it
// costs: short ones that nobody came back to first; its end is saved before.
//
// Not promised: an order of admission other than first come, first served, and the
// survival of live sessions when more requests run at once than Config.Sessions.
package scheduler

import (
	"time"

	"ds4/runtime/chat"
	"ds4/runtime/sample"
)

// Request is one generation. It must not be changed after Submit.
type Request struct {
	Kind      string // "chat" or "completion": the word in log lines; "" means chat
	Responses bool   // it came through the Responses API: a flag in log lines
	Prompt    chat.Prompt
	MaxTokens int // output cap; 0 means Config.DefaultTokens. The context's room caps it too
	// PromptOnly asks for no output: the prompt is evaluated, and kept for later ones.
	PromptOnly bool
	Sampling   sample.Params
	Stop       []string // ends the answer and never appears in its text; not looked for in reasoning
	Thinking   bool     // the prompt ends inside <think>: output starts as reasoning
	Tools      bool     // tools were offered: blocks of calls in the answer become events and end it
	ToolUse    ToolUse
	// Logprobs asks for the probabilities of visible tokens, and of the TopLogprobs most
	// likely ones in the place of each.
	Logprobs    bool
	TopLogprobs int
	// IgnoreEOS keeps decoding past the end of turn, for measurements only.
	IgnoreEOS bool
}

// EventKind says what an Event carries.
type EventKind int

const (
	// EventPrefill reports progress: Done of Total tokens evaluated. Total does
	// not count reused tokens. A retry inside the request starts at 0 again.
	EventPrefill EventKind = iota + 1
	// EventText carries visible text; EventReasoning the text inside <think>.
	EventText
	EventReasoning
	// EventCall begins a tool call, Text is the tool's name; EventArguments carries a
	// piece of its arguments, which together are one JSON object; EventCallEnd says
	// that they are complete. Index is the call's.
	EventCall
	EventArguments
	EventCallEnd
	// EventDone ends a stream that worked; Result is set.
	EventDone
	// EventError ends a stream that failed; Err is set: *FailureError,
	// ErrShuttingDown, or the error of the request's context.
	EventError
)

// Event is one step of a running request. Text is always whole UTF-8. Progress
// and text that the reader is too slow for are merged, never lost.
type Event struct {
	Kind        EventKind
	Text        string
	Index       int            // of a call, from 0
	Logprobs    []TokenLogprob // of EventText, if they were asked for
	Done, Total int            // tokens
	Cached      int            // of EventPrefill: tokens of the prompt that are reused, besides Total
	Result      *Result
	Err         error
}

// Finish reasons.
const (
	FinishStop      = "stop"
	FinishLength    = "length"
	FinishToolCalls = "tool_calls"
	FinishError     = "error"
)

// Problem is what was wrong with a block of tool calls; "" if nothing was.
type Problem string

const (
	// ProblemUnterminated: the answer ended inside the block. Its calls must not be
	// made; the request finishes as FinishError.
	ProblemUnterminated Problem = "unterminated tool call"
	// ProblemMalformed: the block is closed and breaks the rules of the format. Calls
	// that were reported must not be made; Result.Block.Text is what the model wrote.
	ProblemMalformed Problem = "malformed tool call"
)

// Sources of a request's prefix.
const (
	SourceCold        = "cold"         // nothing was reused
	SourceMemoryToken = "memory-token" // a live session holds the prompt's own tokens
	SourceMemoryText  = "memory-text"  // a live session holds tokens that were sampled; the prompt repeats their text
	SourceDisk        = "disk-text"    // segments of the disk store, found by text
)

// Result is what a finished request cost. CachedTokens + EvaluatedTokens is
// PromptTokens; the numbers are those of the last attempt.
type Result struct {
	Finish           string
	Short            bool   // the limit of tokens or the context's room ended it, whatever Finish says of tool calls
	StopString       string // the one of Request.Stop that ended the answer, "" if none did
	Problem          Problem
	Block            chat.Block // of tool calls; what chat.Options.Replay should return for each of them
	PromptTokens     int
	CachedTokens     int    // reused, never evaluated in this request
	EvaluatedTokens  int    // prompt tokens that the backend evaluated
	CompletionTokens int    // sampled, the end of turn included
	Source           string // one of the Source constants
	RestoredTokens   int    // of CachedTokens, those read from disk
	Attempts         int    // prefill attempts on the device, 1 if nothing failed
	Queue            time.Duration
	RestoreTime      time.Duration
	Prefill          time.Duration // backend time of EvaluatedTokens
	Decode           time.Duration // backend time of CompletionTokens
}

// Config is what New needs besides the engine, the tokenizer and the store. A
// zero number or duration means the default of the flag of the same name; a
// false switch is off, whatever the flag's default.
type Config struct {
	Sessions            int           // --sessions, live sessions, default 4
	QueueLimit          int           // --queue, waiting requests, default 64
	DefaultTokens       int           // --tokens, default 393216
	MinCacheTokens      int           // --kv-cache-min-tokens, default 512: neither save a tail nor restore less
	SegmentTokens       int           // --kv-segment-tokens, default 2048; a multiple of 128
	PrefillFailureLimit int           // --prefill-failure-limit, default 3
	InlineRetry         bool          // --prefill-inline-retry
	FailureWindow       time.Duration // --prefill-failure-window, default 10m
	DeviceFailureExit   int           // --device-failure-exit, 0 = never
	// OnFatal is called once, from a goroutine of its own, when
	// DeviceFailureExit device failures in a row were cured by nothing, or the
	// recovery policy asks for a new process and DeviceFailureExit is set. The
	// owner should end the process with exit code 75.
	OnFatal func(err error)
	// WatchdogMin is the least time after which a pass over the device counts as
	// hung, default 2m; the limit grows with the time that earlier passes took.
	WatchdogMin time.Duration
	// RestoreMin is the least time that a restore from disk may take before it is
	// given up for a cold prefill, default 5s; the limit grows with the time that
	// the prefill would take.
	RestoreMin time.Duration
	// RoomMin is the least time that a short request waits for others to end rather
	// than take the place of a longer conversation, default 2s; the limit grows with
	// the time that evaluating the conversation again would take. For one that has
	// fewer than MinCacheTokens it does not wait longer than that.
	RoomMin time.Duration
	// Log writes one log line, without prefix and stamp. Like ErrLine it is called
	// from any goroutine.
	Log func(format string, args ...any)
	// ErrLine writes a backend error on a line of its own, as it is. Default: Log.
	ErrLine func(line string)
	Now     func() time.Time
	Unsafe  Unsafe
}

// Defaults and limits of Config.
const (
	DefaultSessions            = 4
	DefaultQueueLimit          = 64
	DefaultMaxTokens           = 393216
	DefaultMinCacheTokens      = 512
	DefaultSegmentTokens       = 2048
	DefaultPrefillFailureLimit = 3
	DefaultFailureWindow       = 10 * time.Minute
	DefaultWatchdogMin         = 2 * time.Minute
	DefaultRestoreMin          = 5 * time.Second
	DefaultRoomMin             = 2 * time.Second
)

func (c Config) withDefaults() Config {
	setDefault(&c.Sessions, DefaultSessions)
	setDefault(&c.QueueLimit, DefaultQueueLimit)
	setDefault(&c.DefaultTokens, DefaultMaxTokens)
	setDefault(&c.MinCacheTokens, DefaultMinCacheTokens)
	setDefault(&c.SegmentTokens, DefaultSegmentTokens)
	setDefault(&c.PrefillFailureLimit, DefaultPrefillFailureLimit)
	setDefault(&c.FailureWindow, DefaultFailureWindow)
	setDefault(&c.WatchdogMin, DefaultWatchdogMin)
	setDefault(&c.RestoreMin, DefaultRestoreMin)
	setDefault(&c.RoomMin, DefaultRoomMin)
	if c.Log == nil {
		c.Log = func(string, ...any) {}
	}
	if c.ErrLine == nil {
		log := c.Log
		c.ErrLine = func(line string) { log("%s", line) }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.OnFatal == nil {
		c.OnFatal = func(error) {}
	}
	return c
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}
