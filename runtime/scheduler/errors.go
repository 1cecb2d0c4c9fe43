package scheduler

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrQueueFull is returned by Submit when QueueLimit requests are waiting.
	ErrQueueFull = errors.New("scheduler: too many requests are waiting")
	// ErrShuttingDown ends requests that Shutdown found waiting or running, and is
	// returned by Submit afterwards.
	ErrShuttingDown = errors.New("server shutting down")
	// ErrRequest is wrapped by Submit's errors about the request itself: an empty
	// prompt, too many stop strings, sampling parameters out of range.
	ErrRequest = errors.New("bad request")

	// errHang is the cause of a device failure that the watchdog found.
	errHang = errors.New("the device did not answer in time")
	// errGarbage is the cause of a device failure that shows in its results only:
	// a position without a single finite logit.
	errGarbage = errors.New("the device returned no finite logits")
	// errPanic wraps a panic recovered in the worker.
	errPanic = errors.New("internal error")
)

// ContextLengthError is returned by Submit when the prompt leaves no free
// position in the context.
type ContextLengthError struct {
	PromptTokens  int
	ContextTokens int
	AtLeast       bool // the prompt was not tokenised: its length alone tells
}

// Error says it in the words by which agents know that they have to compact a
// conversation: "prompt is too long: N tokens > M", and "maximum context length".
func (e *ContextLengthError) Error() string {
	atLeast := ""
	if e.AtLeast {
		atLeast = "at least "
	}
	return fmt.Sprintf("prompt is too long: %s%d tokens > %d, the maximum context length less the one position that must stay free",
		atLeast, e.PromptTokens, e.ContextTokens-1)
}

// Codes of a FailureError.
const (
	CodePrefillFailed     = "prefill_failed"     // try again
	CodeDecodeFailed      = "decode_failed"      // the answer broke off: try again
	CodeContextCleared    = "context_cleared"    // the limit is reached, the range starts afresh
	CodeDeviceUnavailable = "device_unavailable" // the breaker is open: nothing was tried
)

// FailureError is how a device or internal failure reaches a client.
type FailureError struct {
	Code      string
	Retryable bool
	Attempt   int    // consecutive failed attempts of the range, this one included; 0 if nothing was tried
	Limit     int    // attempts after which the range is cleared
	Range     string // first 12 hex digits of the range key, "" if nothing was tried
	Message   string // "<backend> prefill failed: <cause>", or decode
	// RetryAfter is when the device will be tried again, for device_unavailable.
	RetryAfter time.Duration
	Cause      error
}

func (e *FailureError) Error() string { return e.Message }

// Unwrap gives the device's own error.
func (e *FailureError) Unwrap() error { return e.Cause }
