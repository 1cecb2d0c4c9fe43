package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ds4/runtime/chat"
	"ds4/runtime/scheduler"
)

// errPanic: a handler panicked; the log has the rest.
var errPanic = errors.New("internal error")

// errNoEnd: the scheduler closed a request without saying how it ended. It promises
// not to.
var errNoEnd = errors.New("the request ended without a result")

// Types of error objects, OpenAI's words.
const (
	typeInvalid   = "invalid_request_error"
	typeServer    = "server_error"
	typeRateLimit = "rate_limit_error"
)

const codeContextLength = "context_length_exceeded"

const (
	retryShutdown  = time.Second // the next process is up about then
	retryQueueFull = time.Second // a place in the queue is free about then
	retryKV        = 5 * time.Second
	retryBodies    = time.Second // a body is parsed in less
)

// errorBody is what every error looks like to a client, as a response or as the data
// of an error event.
type errorBody struct {
	Error *apiError `json:"error"`
}

// apiError is one error of the API. Fields that say nothing are left out.
type apiError struct {
	status     int
	retryAfter time.Duration // 0: no Retry-After header
	allow      string        // the Allow header of a 405

	Message string `json:"message"`
	Type    string `json:"type"`
	Param   string `json:"param,omitempty"`
	Code    string `json:"code,omitempty"`

	PromptTokens  int `json:"n_prompt_tokens,omitempty"`
	ContextTokens int `json:"n_ctx,omitempty"`

	// Of a failed prefill: may the client repeat the request, how many attempts on
	// its context range failed in a row, after how many the range is cleared, and
	// which range it is.
	Retryable *bool  `json:"retryable,omitempty"`
	Attempt   int    `json:"attempt,omitempty"`
	Limit     int    `json:"limit,omitempty"`
	Range     string `json:"range,omitempty"`
}

func (e *apiError) Error() string { return e.Message }

// codeUnknownModel is the code of a look at a model that is not there.
const codeUnknownModel = "model_not_found"

// notFound is about a path that is not served.
func notFound(path string) *apiError {
	e := &apiError{status: http.StatusNotFound, Type: typeInvalid, Message: "unknown endpoint"}
	if id, ok := strings.CutPrefix(path, modelListPath+"/"); ok {
		e.Code, e.Message = codeUnknownModel, fmt.Sprintf("no model %.256q here; GET %s lists the names", id, modelListPath)
	}
	return e
}

func badRequest(format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, Type: typeInvalid, Message: fmt.Sprintf(format, args...)}
}

func badJSON(format string, args ...any) *apiError {
	return badRequest("invalid JSON request: "+format, args...)
}

// badField is about the value of one field, which path names.
func badField(path, format string, args ...any) *apiError {
	return aboutField(path, path+": "+format, args...)
}

// aboutField is badField with a message that names the field by itself.
func aboutField(path, format string, args ...any) *apiError {
	e := badRequest(format, args...)
	e.Param = path
	return e
}

// tooLong is about a text that has more bytes than it may have.
func tooLong(path string, bytes, limit int) *apiError {
	return badField(path, "%d bytes, the limit is %d", bytes, limit)
}

// onlyResults refuses a conversation that consists of results of tools alone: the calls
// that they answer were in an earlier request, of which nothing is kept.
func onlyResults(messages []chat.Message, path string) error {
	results := 0
	for _, m := range messages {
		switch m.Role {
		case chat.RoleTool:
			results++
		case chat.RoleSystem, chat.RoleDeveloper:
		default:
			return nil
		}
	}
	if results == 0 {
		return nil
	}
	e := badField(path, "tool outputs without the calls that they answer; replay the full history")
	e.status = http.StatusConflict
	return e
}

func missing(path string) *apiError {
	return aboutField(path, "missing %s", path)
}

// fromScheduler says how an error reaches the client; nil if the client is gone, so
// that nobody is left to tell.
func fromScheduler(err error) *apiError {
	var (
		api     *apiError
		length  *scheduler.ContextLengthError
		failure *scheduler.FailureError
	)
	switch {
	case errors.As(err, &api):
		return api
	case errors.Is(err, errClientGone), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil
	case errors.As(err, &length):
		return &apiError{
			status: http.StatusBadRequest, Type: typeInvalid, Message: err.Error(),
			Param: "messages", Code: codeContextLength,
			PromptTokens: length.PromptTokens, ContextTokens: length.ContextTokens,
		}
	case errors.As(err, &failure):
		return fromFailure(failure)
	case errors.Is(err, scheduler.ErrRequest):
		return badRequest("%s", plainRefusal(err))
	case errors.Is(err, scheduler.ErrQueueFull):
		return &apiError{
			status: http.StatusTooManyRequests, retryAfter: retryQueueFull,
			Type: typeRateLimit, Message: "too many requests are waiting",
		}
	case errors.Is(err, scheduler.ErrShuttingDown):
		return shuttingDown()
	}
	return &apiError{status: http.StatusInternalServerError, Type: typeServer, Message: err.Error()}
}

// plainRefusal is what a refusal of the scheduler says, without the names of the packages
// and sentinels that it went through.
func plainRefusal(err error) string {
	text := strings.TrimPrefix(err.Error(), "scheduler: "+scheduler.ErrRequest.Error()+": ")
	return strings.TrimSuffix(strings.TrimPrefix(text, "chat: "), ": "+chat.ErrVocabulary.Error())
}

func fromFailure(f *scheduler.FailureError) *apiError {
	e := &apiError{
		status: http.StatusInternalServerError, Type: typeServer, Message: f.Message,
		Code: f.Code, Retryable: &f.Retryable, Attempt: f.Attempt, Limit: f.Limit, Range: f.Range,
	}
	if f.Code == scheduler.CodeDeviceUnavailable {
		e.status = http.StatusServiceUnavailable
		e.retryAfter = max(f.RetryAfter, time.Second)
	}
	return e
}

func shuttingDown() *apiError {
	return &apiError{
		status: http.StatusServiceUnavailable, retryAfter: retryShutdown,
		Type: typeServer, Message: "server shutting down",
	}
}

// writeError answers with an error. It must be called before anything was written.
func (s *Server) writeError(w http.ResponseWriter, e *apiError, shape func(*apiError) any) error {
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", retryAfterSeconds(e.retryAfter))
	}
	if e.allow != "" {
		w.Header().Set("Allow", e.allow)
	}
	return s.writeJSON(w, e.status, shape(e))
}

// errorShape is what errors look like to the clients of a path.
func errorShape(path string) func(*apiError) any {
	if path == messagesPath || strings.HasPrefix(path, messagesPath+"/") {
		return func(e *apiError) any { return newAnthropicError(e) }
	}
	return func(e *apiError) any { return errorBody{e} }
}

// retryAfterSeconds is the value of a Retry-After header: whole seconds, rounded up.
func retryAfterSeconds(d time.Duration) string {
	return strconv.Itoa(int(math.Ceil(d.Seconds())))
}
