package server

import (
	"context"
	"errors"
	"net/http"

	"ds4/runtime/chat"
	"ds4/runtime/scheduler"
)

const messagesPath = "/v1/messages"

// handleMessages serves POST /v1/messages.
func (s *Server) handleMessages(w http.ResponseWriter, r *http.Request) error {
	// net/http cancels the request's context when the peer closes the connection;
	// leaving this function does the same for a peer that stopped reading.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var q *anthropicRequest
	run, err := s.readTurn(ctx, w, r, func(body []byte) (_ *turn, err error) {
		if q, err = parseAnthropicRequest(body); err != nil {
			return nil, err
		}
		return q.turn()
	})
	if err != nil {
		return err
	}
	p := &anthropicSpeaker{run: run, anthropicAnswer: anthropicAnswer{message: anthropicMessage{
		ID: s.newID("msg_"), Type: "message", Role: chat.RoleAssistant, Model: s.modelName(q.model), Content: []contentBlock{},
	}}}
	if q.streaming() {
		p.send = func(e anthropicEvent) { p.buf = appendEvent(p.buf, e.Type, e) }
		return s.stream(ctx, w, run, p)
	}
	full, err := run.collect(ctx)
	if err != nil {
		return err
	}
	if broken(full.result) {
		return errors.New(string(full.result.Problem))
	}
	full.replay(p.say)
	return s.writeJSON(w, http.StatusOK, p.message)
}

// handleCountTokens serves POST /v1/messages/count_tokens: what a prompt would count,
// by the tokenizer of the model.
func (s *Server) handleCountTokens(w http.ResponseWriter, r *http.Request) error {
	body, release, err := s.readBody(w, r, maxBodyBytes)
	if err != nil {
		return err
	}
	defer release()
	q, err := parseAnthropicRequest(body)
	if err != nil {
		return err
	}
	t, err := q.turn()
	if err != nil {
		return err
	}
	prompt, err := s.prompt(t)
	if err != nil {
		return err
	}
	n, err := s.cfg.Scheduler.CountTokens(r.Context(), prompt)
	if err != nil {
		return t.blame(err)
	}
	return s.writeJSON(w, http.StatusOK, tokenCount{InputTokens: n})
}

// anthropicSpeaker puts an answer into the words of the Messages API.
type anthropicSpeaker struct {
	anthropicAnswer
	run *run
	buf []byte // of the stream, what is not sent yet
}

func (p *anthropicSpeaker) event(b []byte, e turnEvent) []byte {
	p.buf = b
	p.say(e)
	return p.buf
}

// say tells the answer of one event.
func (p *anthropicSpeaker) say(e turnEvent) {
	if !p.begun {
		// The final usage comes with the end; by now the prompt is evaluated.
		p.message.Usage = &anthropicUsage{CacheReadTokens: p.run.cached, CacheCreationTokens: p.run.prompt - p.run.cached}
	}
	switch e.Kind {
	case scheduler.EventText:
		p.words(e.Text)
	case scheduler.EventReasoning:
		p.reasoning(e.Text)
	case scheduler.EventCall:
		p.callStart(e.CallID, e.Text)
	case scheduler.EventArguments:
		p.callArguments(e.Text)
	case scheduler.EventCallEnd:
		p.stop()
	case scheduler.EventDone:
		p.done(e.Result)
	}
}

func (p *anthropicSpeaker) done(res *scheduler.Result) {
	var reason string
	var sequence *string
	switch {
	case broken(res):
		// There is no reason for this, and the calls so far must not be made.
		p.buf = p.fail(p.buf, &apiError{status: http.StatusInternalServerError, Type: typeServer, Message: string(res.Problem)})
		return
	case res.Short:
		reason = stopMaxTokens
	case res.Finish == scheduler.FinishToolCalls:
		reason = stopToolUse
	case res.StopString != "":
		reason, sequence = stopSequence, &res.StopString
	default:
		reason = stopEndTurn
	}
	p.finish(reason, sequence, &anthropicUsage{
		InputTokens:         res.PromptTokens - res.CachedTokens - res.EvaluatedTokens,
		CacheCreationTokens: res.EvaluatedTokens,
		CacheReadTokens:     res.CachedTokens,
		OutputTokens:        res.CompletionTokens,
	}, newTimings(res))
}

func (p *anthropicSpeaker) fail(b []byte, e *apiError) []byte {
	return appendEvent(b, "error", newAnthropicError(e))
}

// idle sends the event that this API has for it: some clients do not count comments as
// activity.
func (p *anthropicSpeaker) idle(b []byte) []byte {
	return appendEvent(b, "ping", anthropicEvent{Type: "ping"})
}

// tokenCount is the answer to POST /v1/messages/count_tokens.
type tokenCount struct {
	InputTokens int `json:"input_tokens"`
}

// anthropicError is what every error looks like to a client of the Messages API.
type anthropicError struct {
	Type  string    `json:"type"` // "error"
	Error *apiError `json:"error"`
}

// anthropicTypes are the types of errors that have another name there.
var anthropicTypes = map[int]string{
	http.StatusUnauthorized:          "authentication_error",
	http.StatusForbidden:             "permission_error",
	http.StatusNotFound:              "not_found_error",
	http.StatusRequestEntityTooLarge: "request_too_large",
	http.StatusTooManyRequests:       "rate_limit_error",
	http.StatusServiceUnavailable:    "overloaded_error",
}

func newAnthropicError(e *apiError) anthropicError {
	renamed := *e
	if name, ok := anthropicTypes[e.status]; ok {
		renamed.Type = name
	} else if e.Type == typeServer {
		renamed.Type = "api_error"
	}
	return anthropicError{Type: "error", Error: &renamed}
}
