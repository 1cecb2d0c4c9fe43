package chat

import (
	"fmt"
	"slices"
	"strings"

	"ds4/runtime/tokenizer"
)

// Roles of messages. Developer means System.
const (
	RoleSystem    = "system"
	RoleDeveloper = "developer"
	RoleUser      = "user"
	RoleAssistant = "assistant"
	RoleTool      = "tool"
)

// systemSeparator stands between several system messages, and before the tools.
const systemSeparator = "\n\n"

// Message is one turn of a conversation.
type Message struct {
	Role      string
	Content   string
	Reasoning string // of an assistant turn: what it thought, without the think markers
	Calls     []ToolCall
	CallID    string // of a tool result: which call it answers
}

// Options of Render.
type Options struct {
	Thinking Mode
	// ContextTokens is the size of the session that the prompt is for; Max needs
	// MaxContextTokens.
	ContextTokens int
	// MaxPrefix is the text that asks for maximal effort, from FindMaxPrefix. If it
	// is empty, Max renders as High.
	MaxPrefix string
	// Tools are offered to the model after the system text.
	Tools []Tool
	// Replay returns the block of calls that was sampled when the call with this id was
	// made (Block.Cache); nil, or false, if that is not known. It only saves work: a
	// block that does not make the calls of the message is not used.
	Replay func(id string) (block []byte, ok bool)
}

// Effective returns the mode that Render will use: Max falls back to High in a
// small context or when the model file does not hold the text that asks for it.
func (o Options) Effective() Mode {
	if o.Thinking == Max && (o.ContextTokens < MaxContextTokens || o.MaxPrefix == "") {
		return High
	}
	return o.Thinking
}

// Render writes a conversation as a prompt that ends where the assistant's next
// turn begins: after the think marker if the mode is not None, else after the
// end-of-think marker. That is so whatever turn comes last; after an assistant
// turn the model begins another one, it does not continue the old one.
//
// System messages have no marker: wherever they stand, their texts come first,
// joined by a blank line, and the tools after them. With thinking, an assistant turn
// before the last user turn loses its reasoning, a later one keeps it; in a
// conversation with tools all of them keep it. Results of calls are a user turn,
// together with what the user says next. Contents are taken as they are, empty ones
// included; RangeEnd of a conversation without a user turn is the end of the system
// text.
func Render(messages []Message, opt Options) (Prompt, error) {
	if err := check(messages, opt); err != nil {
		return Prompt{}, err
	}
	mode := opt.Effective()
	var b builder
	b.control(tokenizer.BOSToken)
	if mode == Max {
		b.text(opt.MaxPrefix)
	}
	b.system(messages, opt.Tools)
	b.endRange()
	b.prompt.KeepsReasoning = keepsReasoning(messages, opt)
	b.turns(messages, opt, mode)
	b.control(tokenizer.AssistantToken)
	if mode == None {
		b.control(tokenizer.EndThinkToken)
	} else {
		b.control(tokenizer.ThinkToken)
	}
	return b.prompt, nil
}

// turns writes everything but the system text.
func (b *builder) turns(messages []Message, opt Options, mode Mode) {
	keepFrom := 0
	if !b.prompt.KeepsReasoning {
		keepFrom = lastUser(messages)
	}
	sawUser := false
	var calls []ToolCall // of the last assistant turn
	for i := 0; i < len(messages); i++ {
		switch m := messages[i]; m.Role {
		case RoleTool, RoleUser:
			turn := resultsAndText(messages[i:])
			b.userTurn(turn, calls)
			i += len(turn) - 1
			if !sawUser {
				b.endRange()
			}
			sawUser = true
		case RoleAssistant:
			b.control(tokenizer.AssistantToken)
			if mode != None && i >= keepFrom {
				b.control(tokenizer.ThinkToken)
				b.text(m.Reasoning)
			}
			b.control(tokenizer.EndThinkToken)
			b.text(m.Content)
			if calls = m.Calls; len(calls) > 0 {
				b.assistantCalls(calls, opt)
			}
			b.control(tokenizer.EOSToken)
		}
	}
}

// resultsAndText is what the messages begin with that makes up one user turn: the
// results of calls and one text, or one text alone.
func resultsAndText(messages []Message) []Message {
	n := 0
	for n < len(messages) && messages[n].Role == RoleTool {
		n++
	}
	if n < len(messages) && messages[n].Role == RoleUser {
		n++
	}
	return messages[:n]
}

// keepsReasoning reports whether all reasoning of a conversation is rendered: one with
// tools keeps it, another one keeps that behind the last user turn.
func keepsReasoning(messages []Message, opt Options) bool {
	return len(opt.Tools) > 0 || slices.ContainsFunc(messages, func(m Message) bool { return m.Role == RoleTool || len(m.Calls) > 0 })
}

// lastUser is the index of the last user turn, 0 without one.
func lastUser(messages []Message) int {
	for i := len(messages) - 1; i > 0; i-- {
		if messages[i].Role == RoleUser {
			return i
		}
	}
	return 0
}

// check validates what Render gets.
func check(messages []Message, opt Options) error {
	if opt.Thinking < None || opt.Thinking > Max {
		return fmt.Errorf("chat: %v: %w", opt.Thinking, ErrMode)
	}
	if len(messages) == 0 {
		return fmt.Errorf("chat: no messages, at least one is needed: %w", ErrMessages)
	}
	for i, m := range messages {
		switch m.Role {
		case RoleSystem, RoleDeveloper, RoleAssistant, RoleUser, RoleTool:
		case "":
			return fmt.Errorf("chat: message %d has no role: %w", i, ErrMessages)
		default:
			return fmt.Errorf("chat: message %d has role %.32q (system, developer, user, assistant, tool): %w", i, m.Role, ErrMessages)
		}
		if len(m.Calls) > 0 && m.Role != RoleAssistant {
			return fmt.Errorf("chat: message %d calls tools and is no assistant message: %w", i, ErrMessages)
		}
		for k, c := range m.Calls {
			if c.Name == "" || len(c.Name) > MaxNameBytes {
				return fmt.Errorf("chat: message %d, call %d: want a name of 1 to %d bytes, got %d: %w", i, k, MaxNameBytes, len(c.Name), ErrMessages)
			}
		}
	}
	return checkTools(opt.Tools)
}

// system writes the system text and the tools.
func (b *builder) system(messages []Message, tools []Tool) {
	var parts []string
	for _, m := range messages {
		if (m.Role == RoleSystem || m.Role == RoleDeveloper) && m.Content != "" {
			parts = append(parts, m.Content)
		}
	}
	b.text(strings.Join(parts, systemSeparator))
	if len(tools) == 0 {
		return
	}
	if len(parts) > 0 {
		b.text(systemSeparator)
	}
	b.toolSection(tools)
}

// TemplateRevision is part of the identity of cached state. Raise it when Render
// gives other tokens for the same conversation.
const TemplateRevision = 1
