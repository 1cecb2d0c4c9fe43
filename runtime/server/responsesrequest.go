package server

import (
	"encoding/json"
	"fmt"
	"slices"

	"ds4/runtime/chat"
)

// responsesRequest is the body of POST /v1/responses.
type responsesRequest struct {
	chatRequest
	instructions string
	input        json.RawMessage
	summary      string // how to summarise the reasoning; any word shows all of it
	include      []string
	declared     responsesTools
	background   *bool
	choice       json.RawMessage
	refused      string // a field that names state which this server does not keep
}

const (
	maxIncludes = 64 // entries of the list of what a client wants besides
	// What the answer repeats of the request.
	maxChoiceBytes  = 4 << 10
	maxSummaryBytes = 32
)

// includeSealed asks for the reasoning in a form that the client sends back.
const includeSealed = "reasoning.encrypted_content"

// parseResponsesRequest reads and checks a request body. Errors are *apiError with
// status 400 and name the field.
func parseResponsesRequest(body []byte) (*responsesRequest, error) {
	r := newJSONReader(body)
	q := new(responsesRequest)
	if err := r.document(func(name string) error { return q.field(r, name) }); err != nil {
		return nil, err
	}
	if err := q.checkState(); err != nil {
		return nil, err
	}
	if err := q.converse(); err != nil {
		return nil, err
	}
	if err := q.choose(); err != nil {
		return nil, err
	}
	if err := q.check(); err != nil {
		return nil, err
	}
	return q, onlyResults(q.messages, "input")
}

// field reads the value of one top-level field, replacing a former one.
func (q *responsesRequest) field(r *jsonReader, name string) (err error) {
	switch name {
	case "input":
		q.input, err = r.raw()
	case "instructions":
		q.instructions, _, err = r.str(name)
	case "tools":
		q.declared = responsesTools{}
		err = q.declared.read(r, name)
	case "tool_choice":
		q.choice, err = r.raw()
	case "max_output_tokens":
		q.maxOutput, err = r.integer(name)
	case "reasoning":
		err = q.readReasoning(r, name)
	case "text":
		err = r.optionalObject(name, func(field string) error {
			if field != "format" {
				return r.skip()
			}
			return onlyText(r, "text.format")
		})
	case "include":
		q.include, err = readStrings(r, name, maxIncludes)
	case "background":
		q.background, err = r.boolean(name)
	case "previous_response_id", "conversation":
		var raw json.RawMessage
		if raw, err = r.raw(); raw != nil {
			q.refused = name
		}
	case "model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stream", "parallel_tool_calls", "ignore_eos":
		err = q.chatRequest.field(r, name)
	default:
		err = r.skip()
	}
	return err
}

// readReasoning reads {"effort": "...", "summary": "..."}.
func (q *responsesRequest) readReasoning(r *jsonReader, path string) error {
	return r.optionalObject(path, func(name string) (err error) {
		switch name {
		case "effort":
			err = q.readEffort(r, path+".effort")
		case "summary", "generate_summary":
			q.summary, _, err = r.str(path + "." + name)
			if err == nil && len(q.summary) > maxSummaryBytes {
				err = tooLong(path+"."+name, len(q.summary), maxSummaryBytes)
			}
		default:
			err = r.skip()
		}
		return err
	})
}

// checkState refuses what needs a server that remembers.
func (q *responsesRequest) checkState() error {
	switch {
	case q.refused != "":
		return aboutField(q.refused, "%s is not supported; replay full input instead", q.refused)
	case q.background != nil && *q.background:
		return badField("background", "answers are given at once only; leave it out")
	case q.input == nil:
		return missing("input")
	}
	return nil
}

// choose reads the choice of tools: a word, or an object that names one of them. It
// needs to know them, since the model may know them by other names.
func (q *responsesRequest) choose() error {
	const path = "tool_choice"
	switch {
	case q.choice == nil:
		return nil
	case len(q.choice) > maxChoiceBytes:
		return tooLong(path, len(q.choice), maxChoiceBytes)
	}
	var word string
	if json.Unmarshal(q.choice, &word) == nil {
		switch word {
		case "auto":
		case "none":
			q.toolChoice.Kind = chat.ChoiceNone
		case "required":
			q.toolChoice.Kind = chat.ChoiceRequired
		default:
			return aboutField(path, "%s=%.32s not supported; want none, auto, required or an object that names a tool", path, word)
		}
		return nil
	}
	var kind, namespace, name string
	r := newJSONReader(q.choice)
	err := r.optionalObject(path, func(field string) (err error) {
		switch field {
		case "type":
			kind, _, err = r.str(path + ".type")
		case "namespace":
			namespace, _, err = r.str(path + ".namespace")
		case "name":
			name, _, err = r.str(path + ".name")
		default:
			err = r.skip()
		}
		return err
	})
	if err != nil {
		return err
	}
	switch {
	case kind == "":
		return missing(path + ".type")
	case kind != "function" && kind != "custom":
		return badField(path+".type", "want function or custom, got %.32q", kind)
	case name == "":
		return missing(path + ".name")
	}
	q.toolChoice = chat.ToolChoice{Kind: chat.ChoiceNamed, Name: q.declared.spoken(namespace, name)}
	return nil
}

// converse turns instructions and input into messages.
func (q *responsesRequest) converse() error {
	c := conversation{tools: &q.declared}
	if q.instructions != "" {
		c.add(chat.Message{Role: chat.RoleSystem, Content: q.instructions})
	}
	r := newJSONReader(q.input)
	tok, err := r.next()
	if err != nil {
		return err
	}
	switch tok := tok.(type) {
	case string:
		c.add(chat.Message{Role: chat.RoleUser, Content: tok})
	case json.Delim:
		if tok != '[' {
			return badField("input", "want a string or an array of items, got %s", kind(tok))
		}
		err = r.elements(func(i int, first json.Token) error {
			path := fmt.Sprintf("input[%d]", i)
			if i == maxMessages {
				return badField("input", "more than %d items", maxMessages)
			}
			it, err := readItem(r, first, path)
			if err != nil {
				return err
			}
			return c.item(it, path)
		})
	default:
		return badField("input", "want a string or an array of items, got %s", kind(tok))
	}
	if err != nil {
		return err
	}
	c.flush()
	if len(c.messages) == 0 {
		return badField("input", "want at least one item")
	}
	systemFirst(c.messages)
	q.messages, q.tools = c.messages, q.declared.offered
	return nil
}

// wantsSealed reports whether the client keeps the reasoning for the server.
func (q *responsesRequest) wantsSealed() bool { return slices.Contains(q.include, includeSealed) }

// turn is what the request asks for.
func (q *responsesRequest) turn() (*turn, error) {
	t, err := q.chatRequest.turn()
	if err == nil {
		t.param, t.responses = "input", true
	}
	return t, err
}
