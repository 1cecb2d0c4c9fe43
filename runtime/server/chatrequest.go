package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"ds4/runtime/chat"
	"ds4/runtime/sample"
	"ds4/runtime/scheduler"
)

// Limits of one chat request. The body limit bounds them all; these give the
// clearer error.
const (
	maxMessages   = 1 << 16
	maxStops      = 16
	maxStopBytes  = 1 << 10
	maxModelBytes = 256 // the name is echoed in every chunk
)

// aliasChat is the model name by which clients of DeepSeek's own API ask for answers
// without thinking. Its counterpart, deepseek-reasoner, asks for what every other name
// gets.
const aliasChat = "deepseek-chat"

// chatRequest is the body of POST /v1/chat/completions, checked. A nil pointer is a
// field that the client left out or sent as null.
type chatRequest struct {
	model        string
	messages     []chat.Message
	maxTokens    *int64 // max_tokens
	maxOutput    *int64 // max_completion_tokens, its newer name: wins if both are there
	temperature  *float64
	topP         *float64
	minP         *float64
	topK         *int64
	seed         *int64
	stop         []string
	stream       *bool
	includeUsage *bool
	choices      *int64 // n: only one choice is ever given
	ignoreEOS    *bool  // an extension: answer up to max_tokens, for measurements
	thinking     *bool
	think        *bool // another name of thinking, which wins if both are there
	effort       string
	effortPath   string // the field that it came in
	tools        []chat.Tool
	toolChoice   chat.ToolChoice
	parallel     *bool // parallel_tool_calls
	logprobs     *bool
	topLogprobs  *int64
	format       string // of the response: response_format.type
}

// parseChatRequest reads and checks a request body. Errors are *apiError with
// status 400 and name the field.
func parseChatRequest(body []byte) (*chatRequest, error) {
	r := newJSONReader(body)
	req := new(chatRequest)
	if err := r.document(func(name string) error { return req.field(r, name) }); err != nil {
		return nil, err
	}
	if err := req.check(); err != nil {
		return nil, err
	}
	return req, nil
}

// field reads the value of one top-level field, replacing a former one.
func (q *chatRequest) field(r *jsonReader, name string) (err error) {
	switch name {
	case "model":
		q.model, _, err = r.str(name)
	case "messages":
		q.messages, err = readMessages(r)
	case "max_tokens":
		q.maxTokens, err = r.integer(name)
	case "max_completion_tokens":
		q.maxOutput, err = r.integer(name)
	case "temperature":
		q.temperature, err = r.number(name)
	case "top_p":
		q.topP, err = r.number(name)
	case "min_p":
		q.minP, err = r.number(name)
	case "top_k":
		q.topK, err = r.integer(name)
	case "seed":
		q.seed, err = r.integer(name)
	case "stop":
		q.stop, err = readStop(r, name)
	case "stream":
		q.stream, err = r.boolean(name)
	case "stream_options":
		q.includeUsage, err = readStreamOptions(r)
	case "n":
		q.choices, err = r.integer(name)
	case "ignore_eos":
		q.ignoreEOS, err = r.boolean(name)
	case "thinking":
		q.thinking, err = readThinking(r)
	case "think":
		q.think, err = r.boolean(name)
	case "reasoning_effort":
		err = q.readEffort(r, name)
	case "tools":
		q.tools, err = readTools(r)
	case "tool_choice":
		q.toolChoice, err = readToolChoice(r)
	case "parallel_tool_calls":
		q.parallel, err = r.boolean(name)
	case "logprobs":
		q.logprobs, err = r.boolean(name)
	case "top_logprobs":
		q.topLogprobs, err = r.integer(name)
	case "response_format":
		q.format, err = readFormat(r)
	default:
		err = r.skip()
	}
	return err
}

// check validates what one field cannot know alone.
func (q *chatRequest) check() error {
	switch {
	case q.messages == nil:
		return missing("messages")
	case len(q.messages) == 0:
		return badField("messages", "want at least one message")
	case len(q.model) > maxModelBytes:
		return tooLong("model", len(q.model), maxModelBytes)
	}
	if n := q.topLogprobs; n != nil && (*n < 0 || *n > scheduler.MaxTopLogprobs) {
		return badField("top_logprobs", "want 0 to %d, got %d", scheduler.MaxTopLogprobs, *n)
	} else if n != nil && *n > 0 && (q.logprobs == nil || !*q.logprobs) {
		return badField("top_logprobs", "needs logprobs true")
	}
	if q.format != "" && q.format != "text" {
		return badField("response_format", "type %.32q is not supported; only text is", q.format)
	}
	if err := checkChoice(q.toolChoice, q.tools); err != nil {
		return err
	}
	if q.choices != nil && *q.choices != 1 {
		return badField("n", "%d choices are not supported; leave it out or send 1", *q.choices)
	}
	if _, err := q.mode(); err != nil {
		return err
	}
	if bad := (*sample.ParamError)(nil); errors.As(q.params().Validate(), &bad) {
		return badField(bad.Name, "want %s, got %s", bad.Want, bad.Got)
	}
	return nil
}

// turn is what the request asks for.
func (q *chatRequest) turn() (*turn, error) {
	mode, err := q.mode()
	if err != nil {
		return nil, err
	}
	t := &turn{
		kind: "chat", param: "messages", messages: q.messages,
		tools: q.tools, choice: q.toolChoice, idPrefix: "call_",
		oneCall:  q.parallel != nil && !*q.parallel,
		thinking: mode, sampling: q.params(), seed: q.seed, stop: q.stop, maxTokens: q.outputLimit(),
		// For the time of a decode whose length must be known.
		ignoreEOS: q.ignoreEOS != nil && *q.ignoreEOS,
		logprobs:  q.logprobs != nil && *q.logprobs,
	}
	if q.topLogprobs != nil {
		t.topLogprobs = int(*q.topLogprobs)
	}
	return t, nil
}

// outputLimit is the client's cap on sampled tokens, nil without one.
func (q *chatRequest) outputLimit() *int64 {
	if q.maxOutput != nil {
		return q.maxOutput
	}
	return q.maxTokens
}

// mode decides how much to think: an explicit switch beats the effort, the effort
// beats the model alias, and without any of them the model thinks.
func (q *chatRequest) mode() (chat.Mode, error) {
	mode, given := chat.High, q.effort != ""
	if given {
		var err error
		if mode, err = chat.ParseMode(strings.ToLower(q.effort)); err != nil {
			return 0, badField(q.effortPath, "want %s, got %.32q", chat.ModeWords, q.effort)
		}
	}
	explicit := q.thinking
	if explicit == nil {
		explicit = q.think
	}
	switch {
	case explicit != nil && !*explicit:
		return chat.None, nil
	case explicit != nil && mode == chat.None:
		return chat.High, nil
	case explicit != nil || given:
		return mode, nil
	case q.model == aliasChat:
		return chat.None, nil
	}
	return mode, nil
}

// readEffort reads how much to think.
func (q *chatRequest) readEffort(r *jsonReader, path string) (err error) {
	if q.effort, _, err = r.str(path); q.effort != "" {
		q.effortPath = path
	}
	return err
}

// params is what the client asked for, defaults filled in.
func (q *chatRequest) params() sample.Params {
	p := sample.Defaults()
	if q.temperature != nil {
		p.Temperature = *q.temperature
	}
	if q.topP != nil {
		p.TopP = *q.topP
	}
	if q.minP != nil {
		p.MinP = *q.minP
	}
	if q.topK != nil { // some clients say -1 for off
		p.TopK = int(min(max(*q.topK, 0), math.MaxInt32))
	}
	return p
}

func (q *chatRequest) streaming() bool { return q.stream != nil && *q.stream }

func (q *chatRequest) wantsUsage() bool { return q.includeUsage != nil && *q.includeUsage }

// readStop reads a string or an array of strings. Empty ones say nothing and are
// dropped.
func readStop(r *jsonReader, list string) ([]string, error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return nil, err
	}
	var stops []string
	add := func(tok json.Token, path, want string) error {
		s, ok := tok.(string)
		switch {
		case !ok:
			return badField(path, "want %s, got %s", want, kind(tok))
		case len(s) > maxStopBytes:
			return tooLong(path, len(s), maxStopBytes)
		case s == "":
			return nil
		case len(stops) == maxStops:
			return badField(list, "more than %d strings", maxStops)
		}
		stops = append(stops, s)
		return nil
	}
	if tok != json.Delim('[') {
		err = add(tok, list, "a string or an array of strings")
		return stops, err
	}
	err = r.elements(func(i int, tok json.Token) error { return add(tok, fmt.Sprintf("%s[%d]", list, i), "a string") })
	return stops, err
}

// readStreamOptions reads {"include_usage": bool}.
func readStreamOptions(r *jsonReader) (usage *bool, err error) {
	const path = "stream_options"
	tok, err := r.next()
	if err != nil || tok == nil {
		return nil, err
	}
	if tok != json.Delim('{') {
		return nil, badField(path, "want an object, got %s", kind(tok))
	}
	err = r.fields(func(name string) (err error) {
		if name != "include_usage" {
			return r.skip()
		}
		usage, err = r.boolean(path + "." + name)
		return err
	})
	return usage, err
}

// readFormat reads {"type": ...} and returns the type; the rest of it does not matter, as
// only text is supported.
func readFormat(r *jsonReader) (format string, err error) {
	const path = "response_format"
	tok, err := r.next()
	if err != nil || tok == nil {
		return "", err
	}
	if tok != json.Delim('{') {
		return "", badField(path, "want an object, got %s", kind(tok))
	}
	err = r.fields(func(name string) (err error) {
		if name != "type" {
			return r.skip()
		}
		format, _, err = r.str(path + ".type")
		return err
	})
	return format, err
}

// readThinking reads true, false or {"type": "enabled" | "disabled"}.
func readThinking(r *jsonReader) (*bool, error) {
	const path = "thinking"
	tok, err := r.next()
	if err != nil || tok == nil {
		return nil, err
	}
	if b, ok := tok.(bool); ok {
		return &b, nil
	}
	if tok != json.Delim('{') {
		return nil, badField(path, "want true, false or an object, got %s", kind(tok))
	}
	var on *bool
	err = r.fields(func(name string) error {
		if name != "type" {
			return r.skip()
		}
		s, present, err := r.str(path + ".type")
		if err != nil {
			return err
		}
		enabled := s == "enabled"
		switch {
		case !present:
			on = nil
		case enabled || s == "disabled":
			on = &enabled
		default:
			return badField(path+".type", "want enabled or disabled, got %.32q", s)
		}
		return nil
	})
	return on, err
}
