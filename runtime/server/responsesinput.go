package server

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"ds4/runtime/chat"
)

// Types of items of the Responses API.
const (
	itemMessage          = "message"
	itemAgentMessage     = "agent_message"
	itemReasoning        = "reasoning"
	itemFunctionCall     = "function_call"
	itemFunctionOutput   = "function_call_output"
	itemCustomCall       = "custom_tool_call"
	itemCustomOutput     = "custom_tool_call_output"
	itemToolSearchCall   = "tool_search_call"
	itemToolSearchOutput = "tool_search_output"
	itemAdditionalTools  = "additional_tools"
)

// foreignItems are the traces that other servers' own tools leave in a conversation.
// They hold no text, and are passed over.
var foreignItems = []string{
	"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "computer_call", "local_shell_call",
	"ghost_snapshot", "compaction", "context_compaction", "compaction_trigger", "configuration_update",
}

// sealedPrefix begins the encrypted_content of a reasoning item of this server. It is
// not encrypted: it is what the client would otherwise not send back, and then the
// conversation would not begin like the one that is cached.
const sealedPrefix = "ds4:"

func sealReasoning(text string) string {
	return sealedPrefix + base64.StdEncoding.EncodeToString([]byte(text))
}

// unsealReasoning gives back the text; false for what another server sealed.
func unsealReasoning(sealed string) (string, bool) {
	coded, ours := strings.CutPrefix(sealed, sealedPrefix)
	if !ours {
		return "", false
	}
	text, err := base64.StdEncoding.DecodeString(coded)
	return string(text), err == nil
}

// item is one element of the input of a Responses request, of any type.
type item struct {
	kind      string
	role      string
	content   json.RawMessage // a string, or an array of parts
	name      string
	namespace string
	callID    string
	arguments json.RawMessage // a string, or an object of tool_search_call
	input     string          // of custom_tool_call
	output    json.RawMessage // a string, or an array of parts
	summary   json.RawMessage // of reasoning: an array of parts
	sealed    string          // of reasoning: encrypted_content
	tools     json.RawMessage // of tool_search_output and additional_tools
}

// readItem reads one item, whose first token was read.
func readItem(r *jsonReader, first json.Token, path string) (it item, err error) {
	if first != json.Delim('{') {
		return it, badField(path, "want an object, got %s", kind(first))
	}
	err = r.fields(func(name string) (err error) {
		path := path + "." + name
		switch name {
		case "type":
			it.kind, _, err = r.str(path)
		case "role":
			it.role, _, err = r.str(path)
		case "content":
			it.content, err = r.raw()
		case "name":
			it.name, _, err = r.str(path)
		case "namespace":
			it.namespace, _, err = r.str(path)
		case "call_id":
			it.callID, _, err = r.str(path)
		case "arguments":
			it.arguments, err = r.raw()
		case "input":
			it.input, _, err = r.str(path)
		case "output":
			it.output, err = r.raw()
		case "summary":
			it.summary, err = r.raw()
		case "encrypted_content":
			it.sealed, _, err = r.str(path)
		case "tools":
			it.tools, err = r.raw()
		default:
			err = r.skip()
		}
		return err
	})
	if it.kind == "" && it.role != "" {
		it.kind = itemMessage
	}
	return it, err
}

// conversation turns items into messages. What belongs to one turn of the model comes
// in several items: reasoning, text, calls.
type conversation struct {
	messages []chat.Message
	turn     *assistantItems // while it grows
	tools    *responsesTools
}

// assistantItems is a turn of the model that is put together.
type assistantItems struct {
	content, reasoning strings.Builder
	calls              []chat.ToolCall
}

// flush ends the turn of the model.
func (c *conversation) flush() {
	if t := c.turn; t != nil {
		c.messages = append(c.messages, chat.Message{
			Role: chat.RoleAssistant, Content: t.content.String(), Reasoning: t.reasoning.String(), Calls: t.calls,
		})
		c.turn = nil
	}
}

// grow returns the turn that grows, a new one if the former has ended: it holds what
// cannot come before an item of this type.
func (c *conversation) grow(ended func(*assistantItems) bool) *assistantItems {
	if c.turn != nil && ended(c.turn) {
		c.flush()
	}
	if c.turn == nil {
		c.turn = new(assistantItems)
	}
	return c.turn
}

func (c *conversation) add(m chat.Message) {
	c.flush()
	c.messages = append(c.messages, m)
}

// item adds one item.
func (c *conversation) item(it item, path string) error {
	switch it.kind {
	case itemMessage, itemAgentMessage:
		return c.message(it, path)
	case itemReasoning:
		return c.reasoning(it, path)
	case itemFunctionCall, itemCustomCall, itemToolSearchCall:
		return c.call(it, path)
	case itemFunctionOutput, itemCustomOutput, itemToolSearchOutput:
		return c.result(it, path)
	case itemAdditionalTools:
		return c.tools.add(it.tools, path+".tools")
	case "":
		return missing(path + ".type")
	}
	if slices.Contains(foreignItems, it.kind) {
		return nil
	}
	return badField(path+".type", "an item of type %.32q is not supported", it.kind)
}

func (c *conversation) message(it item, path string) error {
	if it.content == nil {
		return missing(path + ".content")
	}
	text, err := it.text(it.content, path+".content")
	if err != nil {
		return err
	}
	role := it.role
	if it.kind == itemAgentMessage {
		role = chat.RoleUser // another agent speaks to this one
	}
	switch role {
	case chat.RoleAssistant:
		c.grow(func(t *assistantItems) bool { return t.calls != nil }).content.WriteString(text)
	case chat.RoleUser, chat.RoleSystem, chat.RoleDeveloper:
		c.add(chat.Message{Role: role, Content: text})
	case "":
		return missing(path + ".role")
	default:
		return badField(path+".role", "want system, developer, user or assistant, got %.32q", role)
	}
	return nil
}

// reasoning adds what the model thought: as it shows it in content or summary, or as
// this server sealed it. What another one sealed cannot be read and is left out.
func (c *conversation) reasoning(it item, path string) error {
	var text string
	for _, part := range []struct {
		raw  json.RawMessage
		name string
	}{{it.content, "content"}, {it.summary, "summary"}} {
		if text != "" || part.raw == nil {
			continue
		}
		var err error
		if text, err = it.text(part.raw, path+"."+part.name); err != nil {
			return err
		}
	}
	if text == "" {
		text, _ = unsealReasoning(it.sealed)
	}
	t := c.grow(func(t *assistantItems) bool { return t.calls != nil || t.content.Len() > 0 })
	t.reasoning.WriteString(text)
	return nil
}

// call adds a call that the model made.
func (c *conversation) call(it item, path string) error {
	if it.callID == "" {
		return missing(path + ".call_id")
	}
	call := chat.ToolCall{ID: it.callID}
	switch it.kind {
	case itemFunctionCall:
		if it.name == "" {
			return missing(path + ".name")
		}
		arguments, err := it.called(path + ".arguments")
		if err != nil {
			return err
		}
		call.Name, call.Arguments = c.tools.spoken(it.namespace, it.name), arguments
	case itemCustomCall:
		if it.name == "" {
			return missing(path + ".name")
		}
		call.Name = c.tools.spoken(it.namespace, it.name)
		call.Arguments, call.FreeForm = string(appendJSON(nil, map[string]string{chat.FreeArgument: it.input})), true
	case itemToolSearchCall:
		call.Name, call.Arguments = toolSearchName, string(it.arguments)
	}
	if err := checkCall(&call, path+".call_id", path+".name"); err != nil {
		return err
	}
	t := c.grow(func(*assistantItems) bool { return false })
	t.calls = append(t.calls, call)
	return nil
}

// called reads the arguments of a function call.
func (it item) called(path string) (string, error) {
	if it.arguments == nil {
		return "", nil
	}
	return readArguments(newJSONReader(it.arguments), path)
}

// result adds what a call returned. Tools that a search found are part of it.
func (c *conversation) result(it item, path string) error {
	if it.callID == "" {
		return missing(path + ".call_id")
	}
	m := chat.Message{Role: chat.RoleTool, CallID: it.callID}
	if it.kind == itemToolSearchOutput {
		if err := c.tools.found(it.tools, path+".tools"); err != nil {
			return err
		}
		m.Content = string(it.tools)
	} else {
		text, err := it.text(it.output, path+".output")
		if err != nil {
			return err
		}
		m.Content = text
	}
	c.add(m)
	return nil
}

// text reads a string, or an array of parts that hold text.
func (it item) text(raw json.RawMessage, path string) (string, error) {
	if raw == nil {
		return "", nil
	}
	r := newJSONReader(raw)
	tok, err := r.next()
	if err != nil {
		return "", err
	}
	if s, ok := tok.(string); ok {
		return s, nil
	}
	if tok != json.Delim('[') {
		return "", badField(path, "want a string or an array of parts, got %s", kind(tok))
	}
	var parts []string
	err = r.elements(func(i int, first json.Token) error {
		text, err := readTextPart(r, first, fmt.Sprintf("%s[%d]", path, i))
		parts = append(parts, text)
		return err
	})
	separator := ""
	if it.role == chat.RoleUser || it.role == chat.RoleDeveloper || it.role == chat.RoleSystem {
		separator = blockSeparator
	}
	return strings.Join(parts, separator), err
}

// textParts are the types of parts that hold text; a part without a type does, too.
var textParts = []string{"", "text", "input_text", "output_text", "summary_text", "reasoning_text"}

// readTextPart reads one part of a content, whose first token was read.
func readTextPart(r *jsonReader, first json.Token, path string) (string, error) {
	if first != json.Delim('{') {
		return "", badField(path, "want an object, got %s", kind(first))
	}
	var partType, text, refusal string
	err := r.fields(func(name string) (err error) {
		switch path := path + "." + name; name {
		case "type":
			partType, _, err = r.str(path)
		case "text":
			text, _, err = r.str(path)
		case "refusal":
			refusal, _, err = r.str(path)
		default:
			err = r.skip()
		}
		return err
	})
	switch {
	case err != nil:
		return "", err
	case partType == "refusal":
		return refusal, nil
	case !slices.Contains(textParts, partType):
		return "", badField(path, "a part of type %.32q is not supported; this model reads text only", partType)
	}
	return text, nil
}
