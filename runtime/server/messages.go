package server

import (
	"encoding/json"
	"fmt"
	"strings"

	"ds4/runtime/chat"
)

// readMessages reads the conversation. The result is nil only for null.
func readMessages(r *jsonReader) ([]chat.Message, error) {
	var messages []chat.Message
	present, err := r.list("messages", maxMessages, func(first json.Token, path string) error {
		m, err := readMessage(r, first, path)
		messages = append(messages, m)
		return err
	})
	if present && messages == nil {
		messages = []chat.Message{}
	}
	return messages, err
}

// readMessage reads one turn, whose first token was read.
func readMessage(r *jsonReader, first json.Token, path string) (chat.Message, error) {
	var m chat.Message
	if first != json.Delim('{') {
		return m, badField(path, "want an object, got %s", kind(first))
	}
	hasContent, other := false, ""
	err := r.fields(func(name string) (err error) {
		switch name {
		case "role":
			m.Role, _, err = r.str(path + ".role")
		case "content":
			m.Content, hasContent, err = readContent(r, path+".content")
		case "reasoning_content":
			m.Reasoning, _, err = r.str(path + "." + name)
		case "reasoning":
			other, err = readReasoning(r)
		case "tool_calls":
			m.Calls, err = readCalls(r, path+"."+name)
		case "tool_call_id":
			m.CallID, _, err = r.str(path + "." + name)
		default:
			err = r.skip()
		}
		return err
	})
	if err != nil {
		return m, err
	}
	if m.Reasoning == "" {
		m.Reasoning = other
	}
	if m.Role == "function" { // an old name
		m.Role = chat.RoleTool
	}
	switch m.Role {
	case chat.RoleSystem, chat.RoleDeveloper, chat.RoleUser, chat.RoleTool:
		if !hasContent {
			return m, missing(path + ".content")
		}
	case chat.RoleAssistant: // content may be absent: the turn called tools, or was cut off
		return m, nil
	case "":
		return m, missing(path + ".role")
	default:
		return m, badField(path+".role", "want system, developer, user, assistant or tool, got %.32q", m.Role)
	}
	if len(m.Calls) > 0 {
		return m, badField(path+".tool_calls", "only assistant messages call tools, not those of role %s", m.Role)
	}
	return m, nil
}

// readReasoning reads the name under which other servers send reasoning; what is no
// string says nothing.
func readReasoning(r *jsonReader) (string, error) {
	tok, err := r.next()
	if err != nil {
		return "", err
	}
	s, _ := tok.(string)
	return s, r.skipRest(tok)
}

// readContent reads a string, or an array of parts of which all must be text.
func readContent(r *jsonReader, path string) (text string, present bool, err error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return "", false, err
	}
	if s, ok := tok.(string); ok {
		return s, true, nil
	}
	if tok != json.Delim('[') {
		return "", false, badField(path, "want a string or an array of parts, got %s", kind(tok))
	}
	var b strings.Builder
	err = r.elements(func(i int, first json.Token) error {
		part, err := readPart(r, first, fmt.Sprintf("%s[%d]", path, i))
		b.WriteString(part)
		return err
	})
	return b.String(), true, err
}

// readPart reads {"type": "text", "text": "..."}, whose first token was read.
func readPart(r *jsonReader, first json.Token, path string) (text string, err error) {
	if first != json.Delim('{') {
		return "", badField(path, "want an object, got %s", kind(first))
	}
	partType, present := "text", false
	err = r.fields(func(name string) (err error) {
		switch name {
		case "type":
			partType, err = r.word(path+".type", "text")
		case "text":
			text, present, err = r.str(path + ".text")
		default:
			err = r.skip()
		}
		return err
	})
	switch {
	case err != nil:
		return "", err
	case partType != "text":
		return "", badField(path, "a part of type %.32q is not supported; this model reads text only", partType)
	case !present:
		return "", missing(path + ".text")
	}
	return text, nil
}
