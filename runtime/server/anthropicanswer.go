package server

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
)

// Reasons why a message of the Anthropic API ended.
const (
	stopEndTurn   = "end_turn"
	stopMaxTokens = "max_tokens"
	stopSequence  = "stop_sequence"
	stopToolUse   = "tool_use"
)

// anthropicMessage is the answer to POST /v1/messages, whole or as it begins.
type anthropicMessage struct {
	ID           string          `json:"id"`
	Type         string          `json:"type"` // "message"
	Role         string          `json:"role"`
	Model        string          `json:"model"`
	Content      []contentBlock  `json:"content"`
	StopReason   *string         `json:"stop_reason"`
	StopSequence *string         `json:"stop_sequence"`
	Usage        *anthropicUsage `json:"usage"`
	Timings      *timings        `json:"timings,omitempty"`
}

// contentBlock is a block of an answer. Each type has exactly its own fields.
type contentBlock struct {
	Type      string           `json:"type"`
	Text      *string          `json:"text,omitempty"`
	Thinking  *string          `json:"thinking,omitempty"`
	Signature *string          `json:"signature,omitempty"`
	ID        string           `json:"id,omitempty"`
	Name      string           `json:"name,omitempty"`
	Input     *json.RawMessage `json:"input,omitempty"`
}

// anthropicUsage counts tokens as that API does: the first three together are the
// prompt. Every token that was evaluated is kept for later prompts, so none is left
// for input_tokens.
type anthropicUsage struct {
	InputTokens         int `json:"input_tokens"`
	CacheCreationTokens int `json:"cache_creation_input_tokens"`
	CacheReadTokens     int `json:"cache_read_input_tokens"`
	OutputTokens        int `json:"output_tokens"`
}

// anthropicEvent is one event of a stream; the fields that its type does not have are
// left out.
type anthropicEvent struct {
	Type         string            `json:"type"`
	Message      *anthropicMessage `json:"message,omitempty"`
	Index        *int              `json:"index,omitempty"`
	ContentBlock *contentBlock     `json:"content_block,omitempty"`
	Delta        *anthropicDelta   `json:"delta,omitempty"`
	Usage        *anthropicUsage   `json:"usage,omitempty"`
	Timings      *timings          `json:"timings,omitempty"`
}

// anthropicDelta is what a delta event changes: of a block if it has a type, else of
// the message.
type anthropicDelta struct {
	Type        string  `json:"type,omitempty"`
	Text        *string `json:"text,omitempty"`
	Thinking    *string `json:"thinking,omitempty"`
	Signature   *string `json:"signature,omitempty"`
	PartialJSON *string `json:"partial_json,omitempty"`
	*messageEnd
}

type messageEnd struct {
	StopReason   string  `json:"stop_reason"`
	StopSequence *string `json:"stop_sequence"`
}

// anthropicAnswer builds a message from what the model says, and tells a client that
// wants a stream of each step.
type anthropicAnswer struct {
	message anthropicMessage
	send    func(anthropicEvent) // nil if the client wants it in one piece
	begun   bool
	open    string // type of the block that grows, "" if none does
	text    []byte // of that block
}

// begin sends the start of the message, with what is known of the prompt by then.
func (a *anthropicAnswer) begin() {
	if a.begun {
		return
	}
	a.begun = true
	start := a.message
	a.emit(anthropicEvent{Type: "message_start", Message: &start})
}

func (a *anthropicAnswer) emit(e anthropicEvent) {
	if a.send != nil {
		a.send(e)
	}
}

// start opens a block of a type, and closes the one before it.
func (a *anthropicAnswer) start(b contentBlock) {
	a.begin()
	a.stop()
	a.open = b.Type
	a.message.Content = append(a.message.Content, b)
	i := len(a.message.Content) - 1
	a.emit(anthropicEvent{Type: "content_block_start", Index: &i, ContentBlock: &b})
}

// grow adds to the block that is open.
func (a *anthropicAnswer) grow(text string, d anthropicDelta) {
	a.text = append(a.text, text...)
	i := len(a.message.Content) - 1
	a.emit(anthropicEvent{Type: "content_block_delta", Index: &i, Delta: &d})
}

func (a *anthropicAnswer) reasoning(text string) {
	if a.open != blockThinking {
		empty := ""
		a.start(contentBlock{Type: blockThinking, Thinking: &empty, Signature: &empty})
	}
	a.grow(text, anthropicDelta{Type: "thinking_delta", Thinking: &text})
}

func (a *anthropicAnswer) words(text string) {
	if a.open != blockText {
		empty := ""
		a.start(contentBlock{Type: blockText, Text: &empty})
	}
	a.grow(text, anthropicDelta{Type: "text_delta", Text: &text})
}

func (a *anthropicAnswer) callStart(id, name string) {
	empty := json.RawMessage("{}")
	a.start(contentBlock{Type: blockToolUse, ID: id, Name: name, Input: &empty})
}

func (a *anthropicAnswer) callArguments(fragment string) {
	a.grow(fragment, anthropicDelta{Type: "input_json_delta", PartialJSON: &fragment})
}

// stop closes the block that is open.
func (a *anthropicAnswer) stop() {
	if a.open == "" {
		return
	}
	i := len(a.message.Content) - 1
	b, text := &a.message.Content[i], string(a.text)
	switch a.open {
	case blockText:
		b.Text = &text
	case blockThinking:
		sign := signature(text)
		b.Thinking, b.Signature = &text, &sign
		a.emit(anthropicEvent{Type: "content_block_delta", Index: &i, Delta: &anthropicDelta{Type: "signature_delta", Signature: &sign}})
	case blockToolUse:
		if input := json.RawMessage(text); json.Valid(input) { // else it was cut
			b.Input = &input
		}
	}
	a.open, a.text = "", nil
	a.emit(anthropicEvent{Type: "content_block_stop", Index: &i})
}

// signature is what stands where Anthropic's servers sign a thinking block. Nobody
// checks it here; clients want one that is not empty.
func signature(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// finish ends the message.
func (a *anthropicAnswer) finish(reason string, stopString *string, u *anthropicUsage, t *timings) {
	a.begin()
	a.stop()
	m := &a.message
	m.StopReason, m.StopSequence, m.Usage, m.Timings = &reason, stopString, u, t
	a.emit(anthropicEvent{
		Type: "message_delta", Delta: &anthropicDelta{messageEnd: &messageEnd{reason, stopString}}, Usage: u, Timings: t,
	})
	a.emit(anthropicEvent{Type: "message_stop"})
}
