package server

import (
	"encoding/json"
	"fmt"
	"strings"

	"ds4/runtime/chat"
)

// toolChoiceNone hides the tools of a request from the model.
const toolChoiceNone = "none"

// readMessages reads the conversation. The result is nil only for null.
func readMessages(r *jsonReader) ([]chat.Message, error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return nil, err
	}
	if tok != json.Delim('[') {
		return nil, badField("messages", "want an array, got %s", kind(tok))
	}
	messages := []chat.Message{}
	err = r.elements(func(i int, first json.Token) error {
		if i == maxMessages {
			return badField("messages", "more than %d", maxMessages)
		}
		m, err := readMessage(r, first, fmt.Sprintf("messages[%d]", i))
		messages = append(messages, m)
		return err
	})
	return messages, err
}

// readMessage reads one turn, whose first token was read.
func readMessage(r *jsonReader, first json.Token, path string) (chat.Message, error) {
	var m chat.Message
	if first != json.Delim('{') {
		return m, badField(path, "want an object, got %s", kind(first))
	}
	hasContent, calls := false, 0
	err := r.fields(func(name string) (err error) {
		switch name {
		case "role":
			m.Role, _, err = r.str(path + ".role")
		case "content":
			m.Content, hasContent, err = readContent(r, path+".content")
		case "reasoning_content":
			m.Reasoning, _, err = r.str(path + "." + name)
		case "tool_calls":
			calls, err = countArray(r, path+"."+name)
		default:
			err = r.skip()
		}
		return err
	})
	if err != nil {
		return m, err
	}
	switch m.Role {
	case chat.RoleSystem, chat.RoleDeveloper, chat.RoleUser:
		if !hasContent {
			return m, missing(path + ".content")
		}
	case chat.RoleAssistant: // content may be absent: the turn was cut off
		if calls > 0 {
			return m, badField(path+".tool_calls", "tool calls are not supported yet")
		}
	case "tool", "function":
		return m, badField(path+".role", "%s messages answer tool calls, which are not supported yet", m.Role)
	case "":
		return m, missing(path + ".role")
	default:
		return m, badField(path+".role", "want system, developer, user or assistant, got %.32q", m.Role)
	}
	return m, nil
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
			partType, _, err = r.str(path + ".type")
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

// countTools reads the tools that a request offers, of which only the number counts
// as long as none can be called.
func countTools(r *jsonReader) (int, error) { return countArray(r, "tools") }

func countArray(r *jsonReader, path string) (n int, err error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return 0, err
	}
	if tok != json.Delim('[') {
		return 0, badField(path, "want an array, got %s", kind(tok))
	}
	err = r.elements(func(_ int, first json.Token) error {
		n++
		return r.skipRest(first)
	})
	return n, err
}

// readToolChoice reads a word, or an object that names a function; only the word
// none makes a difference.
func readToolChoice(r *jsonReader) (string, error) {
	tok, err := r.next()
	if err != nil {
		return "", err
	}
	s, _ := tok.(string)
	return s, r.skipRest(tok)
}
