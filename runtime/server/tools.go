package server

import (
	"encoding/json"
	"slices"

	"ds4/runtime/chat"
)

// Limits of the tools of a request.
const (
	maxTools       = 1024
	maxSchemaBytes = 1 << 20
	maxIDBytes     = 256
)

// readTools reads the tools of a chat request: {"type": "function", "function": {...}}.
func readTools(r *jsonReader) ([]chat.Tool, error) {
	var tools []chat.Tool
	seen := map[string]bool{}
	_, err := r.list("tools", maxTools, func(first json.Token, path string) error {
		if first != json.Delim('{') {
			return badField(path, "want an object, got %s", kind(first))
		}
		var t *chat.Tool
		toolType := "function"
		err := r.fields(func(name string) (err error) {
			switch name {
			case "type":
				toolType, err = r.word(path+".type", "function")
			case "function":
				t, err = readFunction(r, path+".function")
			default:
				err = r.skip()
			}
			return err
		})
		switch {
		case err != nil:
			return err
		case toolType != "function":
			return badField(path+".type", "tools of type %.32q are not supported; only functions are", toolType)
		case t == nil:
			return missing(path + ".function")
		}
		if seen[t.Name] {
			return badField(path+".function.name", "%.64q is the name of another tool, too", t.Name)
		}
		seen[t.Name] = true
		tools = append(tools, *t)
		return nil
	})
	return tools, err
}

// readFunction reads {"name": ..., "description": ..., "parameters": {...}}; nil for null.
func readFunction(r *jsonReader, path string) (*chat.Tool, error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return nil, err
	}
	if tok != json.Delim('{') {
		return nil, badField(path, "want an object, got %s", kind(tok))
	}
	t := &chat.Tool{}
	err = r.fields(func(name string) (err error) {
		switch name {
		case "name":
			t.Name, _, err = r.str(path + ".name")
		case "description":
			t.Description, _, err = r.str(path + ".description")
		case "parameters":
			t.Parameters, err = r.object(path + ".parameters")
		default:
			err = r.skip()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return t, checkTool(t, path)
}

// checkTool validates one tool, whichever API it came from.
func checkTool(t *chat.Tool, path string) error {
	switch {
	case t.Name == "":
		return missing(path + ".name")
	case len(t.Name) > chat.MaxNameBytes:
		return tooLong(path+".name", len(t.Name), chat.MaxNameBytes)
	case len(t.Parameters)+len(t.Description) > maxSchemaBytes:
		return badField(path, "schema and description have %d bytes, the limit is %d", len(t.Parameters)+len(t.Description), maxSchemaBytes)
	}
	return nil
}

// readCalls reads the calls of an assistant message.
func readCalls(r *jsonReader, path string) ([]chat.ToolCall, error) {
	var calls []chat.ToolCall
	_, err := r.list(path, chat.MaxCalls, func(first json.Token, path string) error {
		if first != json.Delim('{') {
			return badField(path, "want an object, got %s", kind(first))
		}
		var c chat.ToolCall
		err := r.fields(func(name string) (err error) {
			switch name {
			case "id":
				c.ID, _, err = r.str(path + ".id")
			case "function":
				err = readCalled(r, path+".function", &c)
			default:
				err = r.skip()
			}
			return err
		})
		calls = append(calls, c)
		if err != nil {
			return err
		}
		return checkCall(&c, path+".id", path+".function.name")
	})
	return calls, err
}

// checkCall validates one call of a history, whichever API it came from.
func checkCall(c *chat.ToolCall, idPath, namePath string) error {
	switch {
	case c.Name == "":
		return missing(namePath)
	case len(c.Name) > chat.MaxNameBytes:
		return tooLong(namePath, len(c.Name), chat.MaxNameBytes)
	case len(c.ID) > maxIDBytes:
		return tooLong(idPath, len(c.ID), maxIDBytes)
	}
	return nil
}

// readCalled reads {"name": ..., "arguments": "..."}. Some clients send arguments as an
// object; its text is then taken for them.
func readCalled(r *jsonReader, path string, c *chat.ToolCall) error {
	tok, err := r.next()
	if err != nil || tok == nil {
		return err
	}
	if tok != json.Delim('{') {
		return badField(path, "want an object, got %s", kind(tok))
	}
	return r.fields(func(name string) (err error) {
		switch name {
		case "name":
			c.Name, _, err = r.str(path + ".name")
		case "arguments":
			c.Arguments, err = readArguments(r, path+".arguments")
		default:
			err = r.skip()
		}
		return err
	})
}

func readArguments(r *jsonReader, path string) (string, error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return "", err
	}
	if s, ok := tok.(string); ok {
		return s, nil
	}
	if tok != json.Delim('{') {
		return "", badField(path, "want a string that holds a JSON object, got %s", kind(tok))
	}
	return r.rawRest(tok)
}

// readToolChoice reads "none", "auto", "required", or an object that names a function.
func readToolChoice(r *jsonReader) (choice chat.ToolChoice, err error) {
	const path = "tool_choice"
	tok, err := r.next()
	if err != nil || tok == nil {
		return choice, err
	}
	if word, ok := tok.(string); ok {
		switch word {
		case "auto":
		case "none":
			choice.Kind = chat.ChoiceNone
		case "required":
			choice.Kind = chat.ChoiceRequired
		default:
			err = badField(path, "want none, auto, required or an object that names a function, got %.32q", word)
		}
		return choice, err
	}
	if tok != json.Delim('{') {
		return choice, badField(path, "want a string or an object, got %s", kind(tok))
	}
	var t *chat.Tool
	err = r.fields(func(name string) (err error) {
		if name != "function" {
			return r.skip()
		}
		t, err = readFunction(r, path+".function")
		return err
	})
	if err == nil && t == nil {
		err = missing(path + ".function.name")
	}
	if err != nil {
		return choice, err
	}
	return chat.ToolChoice{Kind: chat.ChoiceNamed, Name: t.Name}, nil
}

// checkChoice refuses a choice that cannot be kept: one that names no tool of the request.
func checkChoice(c chat.ToolChoice, tools []chat.Tool) error {
	switch {
	case c.Kind == chat.ChoiceRequired && len(tools) == 0:
		return badField("tool_choice", "required, but the request has no tools")
	case c.Kind == chat.ChoiceNamed && !slices.ContainsFunc(tools, func(t chat.Tool) bool { return t.Name == c.Name }):
		return badField("tool_choice", "%.64q is none of the request's tools", c.Name)
	}
	return nil
}
