package server

import (
	"context"
	"encoding/json"
	"net/http"

	"ds4/runtime/scheduler"
)

// handleResponses serves POST /v1/responses.
func (s *Server) handleResponses(w http.ResponseWriter, r *http.Request) error {
	// net/http cancels the request's context when the peer closes the connection;
	// leaving this function does the same for a peer that stopped reading.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var q *responsesRequest
	run, err := s.readTurn(ctx, w, r, func(body []byte) (_ *turn, err error) {
		if q, err = parseResponsesRequest(body); err != nil {
			return nil, err
		}
		return q.turn()
	})
	if err != nil {
		return err
	}
	p := &responsesSpeaker{responsesAnswer: responsesAnswer{
		response: s.newResponse(q), tools: &q.declared, newID: s.newID, summary: q.summary != "", sealed: q.wantsSealed(),
	}}
	if q.streaming() {
		p.send = func(e responsesEvent) { p.buf = appendData(p.buf, e) }
		return s.stream(ctx, w, run, p)
	}
	full, err := run.collect(ctx)
	if err != nil {
		return err
	}
	full.replay(p.say)
	return s.writeJSON(w, http.StatusOK, p.response)
}

// newResponse is a response that nothing was said in yet.
func (s *Server) newResponse(q *responsesRequest) response {
	r := response{
		ID: s.newID("resp_"), Object: "response", CreatedAt: s.cfg.Now().Unix(), Status: statusInProgress,
		Model: s.modelName(q.model), MaxOutput: q.outputLimit(), Output: []outputItem{}, Parallel: q.parallel == nil || *q.parallel,
	}
	if r.ToolChoice = q.choice; r.ToolChoice == nil {
		r.ToolChoice = json.RawMessage(`"auto"`)
	}
	if q.effort != "" {
		r.Reasoning.Effort = &q.effort
	}
	if q.summary != "" {
		r.Reasoning.Summary = &q.summary
	}
	return r
}

// responsesSpeaker puts an answer into the words of the Responses API.
type responsesSpeaker struct {
	responsesAnswer
	buf []byte // of the stream, what is not sent yet
}

func (p *responsesSpeaker) event(b []byte, e turnEvent) []byte {
	p.buf = b
	p.begin()
	p.say(e)
	return p.buf
}

// say tells the answer of one event.
func (p *responsesSpeaker) say(e turnEvent) {
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
		p.callEnd()
	case scheduler.EventDone:
		p.done(e.Result)
	}
}

func (p *responsesSpeaker) done(res *scheduler.Result) {
	p.response.Timings = newTimings(res)
	p.response.Usage = &responsesUsage{
		InputTokens:  res.PromptTokens,
		InputDetails: usageDetails{CachedTokens: res.CachedTokens, CacheWriteTokens: res.EvaluatedTokens},
		OutputTokens: res.CompletionTokens,
		TotalTokens:  res.PromptTokens + res.CompletionTokens,
	}
	if broken(res) {
		p.failed(&apiError{Message: string(res.Problem)})
		return
	}
	p.finish(res.Short)
}

// fail ends the stream with the state that this API has for it.
func (p *responsesSpeaker) fail(b []byte, e *apiError) []byte {
	p.buf = b
	p.begin()
	p.failed(e)
	return p.buf
}

// idle says that the response goes on, in an event: some clients do not count comments
// as activity.
func (p *responsesSpeaker) idle(b []byte) []byte {
	p.buf = b
	if !p.begin() {
		p.state("response.in_progress")
	}
	return p.buf
}
