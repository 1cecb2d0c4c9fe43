package server

import (
	"encoding/json"
	"fmt"

	"ds4/runtime/chat"
)

// anthropicRequest is the body of POST /v1/messages and /v1/messages/count_tokens.
type anthropicRequest struct {
	chatRequest
	system string
}

// parseAnthropicRequest reads and checks a request body. Errors are *apiError with
// status 400 and name the field.
func parseAnthropicRequest(body []byte) (*anthropicRequest, error) {
	r := newJSONReader(body)
	q := new(anthropicRequest)
	if err := r.document(func(name string) error { return q.field(r, name) }); err != nil {
		return nil, err
	}
	if q.messages != nil {
		systemFirst(q.messages)
	}
	if q.system != "" && len(q.messages) > 0 {
		q.messages = append([]chat.Message{{Role: chat.RoleSystem, Content: q.system}}, q.messages...)
	}
	if err := q.check(); err != nil {
		return nil, err
	}
	return q, onlyResults(q.messages, "messages")
}

// field reads the value of one top-level field, replacing a former one.
func (q *anthropicRequest) field(r *jsonReader, name string) (err error) {
	switch name {
	case "messages":
		q.messages, err = readTurns(r, name)
	case "system":
		q.system, err = readSystem(r, name)
	case "tools":
		q.tools, err = readAnthropicTools(r, name)
	case "tool_choice":
		err = q.readChoice(r, name)
	case "stop_sequences":
		q.stop, err = readStop(r, name)
	case "output_format": // an old place of output_config.format
		err = onlyText(r, name)
	case "output_config":
		err = q.readOutputConfig(r, name)
	case "thinking":
		q.thinking, err = readAnthropicThinking(r, name)
	case "model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stream", "reasoning_effort", "ignore_eos":
		err = q.chatRequest.field(r, name)
	default:
		err = r.skip()
	}
	return err
}

// readOutputConfig reads {"effort": "...", "format": {...}}.
func (q *anthropicRequest) readOutputConfig(r *jsonReader, path string) error {
	return r.optionalObject(path, func(name string) (err error) {
		switch name {
		case "effort":
			err = q.readEffort(r, path+".effort")
		case "format":
			err = onlyText(r, path+".format")
		default:
			err = r.skip()
		}
		return err
	})
}

// readAnthropicThinking reads {"type": "enabled" | "disabled" | "adaptive"}; with the
// last one the model thinks as much as it finds right, which is what it does anyway.
func readAnthropicThinking(r *jsonReader, path string) (on *bool, err error) {
	err = r.optionalObject(path, func(name string) error {
		if name != "type" {
			return r.skip()
		}
		word, present, err := r.str(path + ".type")
		if err != nil || !present {
			return err
		}
		enabled := word == "enabled"
		switch word {
		case "enabled", "disabled":
			on = &enabled
		case "adaptive":
			on = nil
		default:
			return badField(path+".type", "want enabled, disabled or adaptive, got %.32q", word)
		}
		return nil
	})
	return on, err
}

// readChoice reads {"type": "auto" | "any" | "tool" | "none", "name": "..."}.
func (q *anthropicRequest) readChoice(r *jsonReader, path string) error {
	var word, name string
	var single *bool
	err := r.optionalObject(path, func(field string) (err error) {
		switch field {
		case "type":
			word, _, err = r.str(path + ".type")
		case "name":
			name, _, err = r.str(path + ".name")
		case "disable_parallel_tool_use":
			single, err = r.boolean(path + "." + field)
		default:
			err = r.skip()
		}
		return err
	})
	if err != nil {
		return err
	}
	if single != nil {
		parallel := !*single
		q.parallel = &parallel
	}
	q.toolChoice = chat.ToolChoice{}
	switch word {
	case "", "auto":
	case "none":
		q.toolChoice.Kind = chat.ChoiceNone
	case "any":
		q.toolChoice.Kind = chat.ChoiceRequired
	case "tool":
		if name == "" {
			return missing(path + ".name")
		}
		q.toolChoice = chat.ToolChoice{Kind: chat.ChoiceNamed, Name: name}
	default:
		return badField(path+".type", "want auto, any, tool or none, got %.32q", word)
	}
	return nil
}

// readAnthropicTools reads the tools that a request offers. Those with a type of their
// own are known to Anthropic's models by name only, or run on its servers; they are
// passed over.
func readAnthropicTools(r *jsonReader, path string) ([]chat.Tool, error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return nil, err
	}
	if tok != json.Delim('[') {
		return nil, badField(path, "want an array, got %s", kind(tok))
	}
	var tools []chat.Tool
	err = r.elements(func(i int, first json.Token) error {
		path := fmt.Sprintf("%s[%d]", path, i)
		if first != json.Delim('{') {
			return badField(path, "want an object, got %s", kind(first))
		}
		tool, toolType, err := readAnthropicTool(r, path)
		switch {
		case err != nil:
			return err
		case toolType != "" && toolType != "custom":
			return nil
		case len(tools) == maxTools:
			return badField("tools", "more than %d", maxTools)
		}
		tools = append(tools, tool)
		return checkTool(&tool, path)
	})
	return tools, err
}

// readAnthropicTool reads one tool, whose brace was read.
func readAnthropicTool(r *jsonReader, path string) (tool chat.Tool, toolType string, err error) {
	err = r.fields(func(name string) (err error) {
		switch path := path + "." + name; name {
		case "name":
			tool.Name, _, err = r.str(path)
		case "description":
			tool.Description, _, err = r.str(path)
		case "input_schema":
			tool.Parameters, err = r.object(path)
		case "type":
			toolType, _, err = r.str(path)
		default:
			err = r.skip()
		}
		return err
	})
	return tool, toolType, err
}

// turn is what the request asks for.
func (q *anthropicRequest) turn() (*turn, error) {
	t, err := q.chatRequest.turn()
	if err == nil {
		t.idPrefix = "toolu_"
	}
	return t, err
}
