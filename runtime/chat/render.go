package chat

import (
	"fmt"
	"strings"

	"ds4/runtime/tokenizer"
)

// Roles of messages. Developer means System.
const (
	RoleSystem    = "system"
	RoleDeveloper = "developer"
	RoleUser      = "user"
	RoleAssistant = "assistant"
)

// systemSeparator stands between several system messages.
const systemSeparator = "\n\n"

// Message is one turn of a conversation.
type Message struct {
	Role      string
	Content   string
	Reasoning string // of an assistant turn: what it thought, without the think markers
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
// joined by a blank line. With thinking, an assistant turn before the last user
// turn loses its reasoning, a later one keeps it. Contents are taken as they are,
// empty ones included; RangeEnd of a conversation without a user turn is the end
// of the system text.
func Render(messages []Message, opt Options) (Prompt, error) {
	lastUser, err := check(messages, opt)
	if err != nil {
		return Prompt{}, err
	}
	mode := opt.Effective()
	var b builder
	b.control(tokenizer.BOSToken)
	if mode == Max {
		b.text(opt.MaxPrefix)
	}
	b.text(systemText(messages))
	b.endRange()
	sawUser := false
	for i, m := range messages {
		switch m.Role {
		case RoleUser:
			b.control(tokenizer.UserToken)
			b.text(m.Content)
			if !sawUser {
				b.endRange()
			}
			sawUser = true
		case RoleAssistant:
			b.control(tokenizer.AssistantToken)
			if mode != None && i > lastUser {
				b.control(tokenizer.ThinkToken)
				b.text(m.Reasoning)
			}
			b.control(tokenizer.EndThinkToken)
			b.text(m.Content)
			b.control(tokenizer.EOSToken)
		}
	}
	b.control(tokenizer.AssistantToken)
	if mode == None {
		b.control(tokenizer.EndThinkToken)
	} else {
		b.control(tokenizer.ThinkToken)
	}
	return b.prompt, nil
}

// check validates what Render gets and returns the index of the last user turn,
// -1 if there is none.
func check(messages []Message, opt Options) (lastUser int, err error) {
	if opt.Thinking < None || opt.Thinking > Max {
		return 0, fmt.Errorf("chat: %v: %w", opt.Thinking, ErrMode)
	}
	if len(messages) == 0 {
		return 0, fmt.Errorf("chat: no messages, at least one is needed: %w", ErrMessages)
	}
	lastUser = -1
	for i, m := range messages {
		switch m.Role {
		case RoleSystem, RoleDeveloper, RoleAssistant:
		case RoleUser:
			lastUser = i
		case "tool", "function":
			return 0, fmt.Errorf("chat: message %d has role %q: tool results are not supported yet: %w", i, m.Role, ErrMessages)
		case "":
			return 0, fmt.Errorf("chat: message %d has no role: %w", i, ErrMessages)
		default:
			return 0, fmt.Errorf("chat: message %d has role %.32q (system, developer, user, assistant): %w", i, m.Role, ErrMessages)
		}
	}
	return lastUser, nil
}

func systemText(messages []Message) string {
	var parts []string
	for _, m := range messages {
		if (m.Role == RoleSystem || m.Role == RoleDeveloper) && m.Content != "" {
			parts = append(parts, m.Content)
		}
	}
	return strings.Join(parts, systemSeparator)
}

// TemplateRevision is part of the identity of cached state. Raise it when Render
// gives other tokens for the same conversation.
const TemplateRevision = 1
