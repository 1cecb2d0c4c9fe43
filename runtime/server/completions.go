package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"ds4/runtime/chat"
	"ds4/runtime/scheduler"
)

// completionSystem is what the model is told when it gets a prompt without a
// conversation.
const completionSystem = "You are a helpful assistant."

// completionRequest is the body of POST /v1/completions: one turn of a user, in fact.
type completionRequest struct {
	chatRequest
	prompt   *string
	suffix   string
	echo     *bool
	bestOf   *int64
	logprobs *int64
}

// parseCompletionRequest reads and checks a request body. Errors are *apiError with
// status 400 and name the field.
func parseCompletionRequest(body []byte) (*completionRequest, error) {
	r := newJSONReader(body)
	q := new(completionRequest)
	if err := r.document(func(name string) error { return q.field(r, name) }); err != nil {
		return nil, err
	}
	switch {
	case q.prompt == nil:
		return nil, missing("prompt")
	case q.suffix != "":
		return nil, badField("suffix", "this model does not fill in the middle")
	case q.echo != nil && *q.echo:
		return nil, badField("echo", "the prompt is not repeated; leave it out")
	case q.bestOf != nil && *q.bestOf != 1:
		return nil, badField("best_of", "%d choices are not supported; leave it out or send 1", *q.bestOf)
	case q.logprobs != nil && *q.logprobs != 0:
		return nil, badField("logprobs", "not supported here; leave it out")
	}
	// There is no field for reasoning in the answer, so the model is not asked for any.
	off := false
	q.thinking = &off
	q.messages = []chat.Message{
		{Role: chat.RoleSystem, Content: completionSystem},
		{Role: chat.RoleUser, Content: *q.prompt},
	}
	if err := q.check(); err != nil {
		return nil, err
	}
	return q, nil
}

// turn is what the request asks for.
func (q *completionRequest) turn() (*turn, error) {
	t, err := q.chatRequest.turn()
	if err == nil {
		t.kind, t.param = "completion", "prompt"
	}
	return t, err
}

// field reads the value of one top-level field, replacing a former one.
func (q *completionRequest) field(r *jsonReader, name string) (err error) {
	switch name {
	case "prompt":
		q.prompt, err = readPrompt(r, name)
	case "suffix":
		q.suffix, _, err = r.str(name)
	case "echo":
		q.echo, err = r.boolean(name)
	case "best_of":
		q.bestOf, err = r.integer(name)
	case "logprobs":
		q.logprobs, err = r.integer(name)
	case "model", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "n",
		"stream", "stream_options", "stop", "ignore_eos":
		err = q.chatRequest.field(r, name)
	default:
		err = r.skip()
	}
	return err
}

// readPrompt reads a string, or an array of one string. Several prompts would need
// several answers, token ids those of this model.
func readPrompt(r *jsonReader, path string) (prompt *string, err error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return nil, err
	}
	if s, ok := tok.(string); ok {
		return &s, nil
	}
	if tok != json.Delim('[') {
		return nil, badField(path, "want a string or an array of one string, got %s", kind(tok))
	}
	err = r.elements(func(i int, first json.Token) error {
		s, ok := first.(string)
		switch {
		case !ok:
			return badField(fmt.Sprintf("%s[%d]", path, i), "want a string, got %s", kind(first))
		case i > 0:
			return badField(path, "want one string, got several; send a request for each")
		}
		prompt = &s
		return nil
	})
	return prompt, err
}

// completion is the answer to POST /v1/completions, in one piece or one chunk of it.
type completion struct {
	ID      string             `json:"id"`
	Object  string             `json:"object"` // "text_completion"
	Created int64              `json:"created"`
	Model   string             `json:"model"`
	Choices []completionChoice `json:"choices"`
	Usage   *usage             `json:"usage,omitempty"`
	Timings *timings           `json:"timings,omitempty"`
}

type completionChoice struct {
	Text         string  `json:"text"`
	Index        int     `json:"index"`
	Logprobs     *bool   `json:"logprobs"` // never given
	FinishReason *string `json:"finish_reason"`
}

// handleCompletions serves POST /v1/completions.
func (s *Server) handleCompletions(w http.ResponseWriter, r *http.Request) error {
	// net/http cancels the request's context when the peer closes the connection;
	// leaving this function does the same for a peer that stopped reading.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var q *completionRequest
	run, err := s.readTurn(ctx, w, r, func(body []byte) (_ *turn, err error) {
		if q, err = parseCompletionRequest(body); err != nil {
			return nil, err
		}
		return q.turn()
	})
	if err != nil {
		return err
	}
	p := &completionSpeaker{
		frame: completion{
			ID: s.completionID("cmpl"), Object: "text_completion", Created: s.cfg.Now().Unix(), Model: s.modelName(q.model),
		},
		usage: q.wantsUsage(),
	}
	if q.streaming() {
		return s.stream(ctx, w, run, p)
	}
	full, err := run.collect(ctx)
	if err != nil {
		return err
	}
	c := p.chunk(full.text, &full.result.Finish)
	c.Usage, c.Timings = newUsage(full.result), newTimings(full.result)
	return s.writeJSON(w, http.StatusOK, c)
}

// completionSpeaker puts an answer into the words of the Completions API.
type completionSpeaker struct {
	frame completion
	usage bool // send the usage at the end of a stream
}

// chunk is one event of a stream, or all of it.
func (p *completionSpeaker) chunk(text string, finish *string) completion {
	c := p.frame
	c.Choices = []completionChoice{{Text: text, FinishReason: finish}}
	return c
}

// event passes on the text; there are no tools, and reasoning has no field.
func (p *completionSpeaker) event(b []byte, e turnEvent) []byte {
	switch e.Kind {
	case scheduler.EventText:
		b = appendData(b, p.chunk(e.Text, nil))
	case scheduler.EventDone:
		last := p.chunk("", &e.Result.Finish)
		if p.usage {
			b = appendData(b, last)
			last.Choices, last.Usage = []completionChoice{}, newUsage(e.Result)
		}
		last.Timings = newTimings(e.Result)
		b = append(appendData(b, last), streamEnd...)
	}
	return b
}

func (p *completionSpeaker) fail(b []byte, e *apiError) []byte {
	return appendEvent(b, "error", errorBody{e})
}

func (p *completionSpeaker) idle(b []byte) []byte { return append(b, commentDecode...) }

// streamEnd is the mark at the end of a stream of the OpenAI API.
const streamEnd = "data: [DONE]\n\n"
