package server

import (
	"encoding/json"
	"fmt"
	"strings"

	"ds4/runtime/chat"
)

// maxBlocks bounds the content blocks of one turn.
const maxBlocks = 1 << 12

// blockSeparator stands between texts that a client sends apart from each other: parts
// of a system prompt, blocks of a user's turn.
const blockSeparator = "\n\n"

// billingHeader begins a part of the system prompt that is meant for Anthropic's
// accounting. It changes with every request, so a prompt that held it would never
// begin like the one before.
const billingHeader = "x-anthropic-billing-header:"

// Types of content blocks.
const (
	blockText             = "text"
	blockThinking         = "thinking"
	blockRedactedThinking = "redacted_thinking"
	blockToolUse          = "tool_use"
	blockToolResult       = "tool_result"
)

// block is one content block of a turn.
type block struct {
	kind      string
	text      string          // of text and thinking
	id        string          // of tool_use
	name      string          // of tool_use
	input     string          // of tool_use: a JSON object
	toolUseID string          // of tool_result
	content   json.RawMessage // of tool_result: a string or an array, nil if it is empty
}

// readSystem reads the system prompt: a string, or an array of text parts.
func readSystem(r *jsonReader, path string) (string, error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return "", err
	}
	if s, ok := tok.(string); ok {
		return s, nil
	}
	if tok != json.Delim('[') {
		return "", badField(path, "want a string or an array of text parts, got %s", kind(tok))
	}
	var parts []string
	err = r.elements(func(i int, first json.Token) error {
		text, err := readPart(r, first, fmt.Sprintf("%s[%d]", path, i))
		if text != "" && !strings.HasPrefix(text, billingHeader) {
			parts = append(parts, text)
		}
		return err
	})
	return strings.Join(parts, blockSeparator), err
}

// readTurns reads the conversation of a Messages request. One turn there can be
// several messages here: results of tools are messages of their own. The result is nil
// only for null.
func readTurns(r *jsonReader, path string) ([]chat.Message, error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return nil, err
	}
	if tok != json.Delim('[') {
		return nil, badField(path, "want an array, got %s", kind(tok))
	}
	messages := []chat.Message{}
	err = r.elements(func(i int, first json.Token) error {
		turn, err := readTurn(r, first, fmt.Sprintf("%s[%d]", path, i))
		messages = append(messages, turn...)
		if err == nil && len(messages) > maxMessages {
			err = badField(path, "more than %d", maxMessages)
		}
		return err
	})
	return messages, err
}

// readTurn reads one turn, whose first token was read.
func readTurn(r *jsonReader, first json.Token, path string) ([]chat.Message, error) {
	if first != json.Delim('{') {
		return nil, badField(path, "want an object, got %s", kind(first))
	}
	var (
		role    string
		blocks  []block
		present bool
	)
	err := r.fields(func(name string) (err error) {
		switch name {
		case "role":
			role, _, err = r.str(path + ".role")
		case "content":
			blocks, present, err = readBlocks(r, path+".content")
		default:
			err = r.skip()
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case role == "":
		return nil, missing(path + ".role")
	case !present:
		return nil, missing(path + ".content")
	}
	switch role {
	case chat.RoleUser, chat.RoleSystem:
		return clientTurn(role, blocks, path+".content")
	case chat.RoleAssistant:
		m, err := assistantTurn(blocks, path+".content")
		return []chat.Message{m}, err
	}
	return nil, badField(path+".role", "want user, assistant or system, got %.32q", role)
}

// readBlocks reads the content of a turn: a string, which is one text block, or an
// array of blocks.
func readBlocks(r *jsonReader, path string) (blocks []block, present bool, err error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return nil, false, err
	}
	if s, ok := tok.(string); ok {
		return []block{{kind: blockText, text: s}}, true, nil
	}
	if tok != json.Delim('[') {
		return nil, false, badField(path, "want a string or an array of blocks, got %s", kind(tok))
	}
	err = r.elements(func(i int, first json.Token) error {
		if i == maxBlocks {
			return badField(path, "more than %d blocks", maxBlocks)
		}
		b, err := readBlock(r, first, fmt.Sprintf("%s[%d]", path, i))
		blocks = append(blocks, b)
		return err
	})
	return blocks, true, err
}

// readBlock reads one block, whose first token was read, and checks that its type has
// what it needs.
func readBlock(r *jsonReader, first json.Token, path string) (b block, err error) {
	if first != json.Delim('{') {
		return b, badField(path, "want an object, got %s", kind(first))
	}
	given := map[string]bool{}
	err = r.fields(func(name string) (err error) {
		path, present := path+"."+name, false
		switch name {
		case "type":
			b.kind, _, err = r.str(path)
		case "text", "thinking":
			b.text, present, err = r.str(path)
		case "id":
			b.id, present, err = r.str(path)
		case "name":
			b.name, present, err = r.str(path)
		case "tool_use_id":
			b.toolUseID, present, err = r.str(path)
		case "input":
			b.input, err = r.object(path)
			present = b.input != ""
		case "content":
			b.content, err = r.raw()
		default:
			return r.skip()
		}
		given[name] = present
		return err
	})
	if err != nil {
		return b, err
	}
	for _, name := range blockNeeds[b.kind] {
		if !given[name] {
			return b, missing(path + "." + name)
		}
	}
	if b.kind == blockToolUse {
		return b, checkCall(&chat.ToolCall{ID: b.id, Name: b.name}, path+".id", path+".name")
	}
	return b, nil
}

// blockNeeds lists the fields that a block of a type must have.
var blockNeeds = map[string][]string{
	"":              {"type"},
	blockText:       {"text"},
	blockThinking:   {"thinking"},
	blockToolUse:    {"id", "name", "input"},
	blockToolResult: {"tool_use_id"},
}

// clientTurn makes messages of what a client says: each result of a tool is one, and
// so are the texts between them.
func clientTurn(role string, blocks []block, path string) (messages []chat.Message, err error) {
	var texts []string
	flush := func() {
		if texts != nil {
			messages = append(messages, chat.Message{Role: role, Content: strings.Join(texts, blockSeparator)})
			texts = nil
		}
	}
	for i, b := range blocks {
		path := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case b.kind == blockText:
			texts = append(texts, b.text)
		case b.kind == blockToolResult && role == chat.RoleUser:
			flush()
			result, err := b.result(path + ".content")
			if err != nil {
				return nil, err
			}
			messages = append(messages, chat.Message{Role: chat.RoleTool, Content: result, CallID: b.toolUseID})
		default:
			return nil, b.unsupported(path)
		}
	}
	if len(blocks) == 0 {
		texts = []string{""}
	}
	flush()
	return messages, nil
}

// result reads what a tool returned: nothing, a string, or an array of text parts.
func (b block) result(path string) (string, error) {
	if b.content == nil {
		return "", nil
	}
	text, _, err := readContent(newJSONReader(b.content), path)
	return text, err
}

// assistantTurn makes a message of what the model said before.
func assistantTurn(blocks []block, path string) (chat.Message, error) {
	m := chat.Message{Role: chat.RoleAssistant}
	var content, reasoning strings.Builder
	for i, b := range blocks {
		switch b.kind {
		case blockText:
			content.WriteString(b.text)
		case blockThinking:
			reasoning.WriteString(b.text)
		case blockRedactedThinking: // of another server: nobody here can read it
		case blockToolUse:
			m.Calls = append(m.Calls, chat.ToolCall{ID: b.id, Name: b.name, Arguments: b.input})
		default:
			return m, b.unsupported(fmt.Sprintf("%s[%d]", path, i))
		}
	}
	m.Content, m.Reasoning = content.String(), reasoning.String()
	return m, nil
}

func (b block) unsupported(path string) error {
	return badField(path, "a block of type %.32q is not supported here; this model reads text only", b.kind)
}

// systemFirst gives system messages their place. Render puts all of them in front of
// the conversation. One that comes when the model has spoken would change the beginning
// of a prompt that is cached, so it stays where it is, as a turn of the user.
func systemFirst(messages []chat.Message) {
	spoken := false
	for i := range messages {
		switch m := &messages[i]; m.Role {
		case chat.RoleAssistant:
			spoken = true
		case chat.RoleSystem, chat.RoleDeveloper:
			if spoken {
				m.Role = chat.RoleUser
			}
		}
	}
}
