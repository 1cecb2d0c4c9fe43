package client

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrAbandoned is returned when the caller's OnEvent asked to hang up.
	ErrAbandoned = errors.New("client: answer abandoned by the caller")
	// ErrIncomplete is returned when a stream ended without [DONE], or an answer
	// without a choice: the server died or is no OpenAI-compatible server.
	ErrIncomplete = errors.New("client: answer is incomplete")
	// ErrTooLarge is returned when an answer or an event is over a named limit.
	ErrTooLarge = errors.New("client: answer is over the limit")
)

// Error is an error answer of the server: a status other than 200, or an error
// event in a stream (Status 200).
type Error struct {
	Status     int
	Message    string
	Type       string        // invalid_request_error, server_error, ...
	Code       string        // prefill_failed, decode_failed, context_cleared, device_unavailable, ...
	Retryable  bool          // what the server says; false if it says nothing
	Known      bool          // the body was an error object, not something else
	Attempt    int           // 0 if the server did not say
	Limit      int           // 0 if the server did not say
	Range      string        // key of the context range, 12 hex digits
	RetryAfter time.Duration // 0 without the header
}

func (e *Error) Error() string {
	s := fmt.Sprintf("server answered %d", e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}
