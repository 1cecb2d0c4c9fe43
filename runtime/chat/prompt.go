// Package chat renders conversations into prompts in the DeepSeek V4 format and
// takes apart what the model answers.
//
// A prompt is a list of pieces. Control tokens are pieces of their own, so text
// that a user typed can never become a control token, whatever it contains.
// Rendering is a pure function: the prompt of a conversation that grew by one
// exchange starts with the same cache text as before, as far as the rules for
// dropping old reasoning allow.
package chat

import (
	"fmt"
	"strings"

	"ds4/runtime/tokenizer"
)

// Piece is a stretch of ordinary text, or one control token.
type Piece struct {
	Text    string // ordinary text, or the exact string of the control token
	Control bool
}

// Prompt is a rendered conversation.
type Prompt struct {
	Pieces []Piece
	// RangeEnd is the length, in bytes of CacheText, of the prompt up to the end
	// of the first user turn. It is stable while a conversation grows, so the
	// failure ladder uses the text before it as its key.
	RangeEnd int
	// KeepsReasoning says that later prompts of the conversation repeat what the next
	// turn thinks, if the client sends it back. Otherwise they leave it out.
	KeepsReasoning bool
}

// PlainPrompt is the begin-of-sentence token and text that the model continues,
// without turns. Its range ends with the text.
func PlainPrompt(text string) Prompt {
	var b builder
	b.control(tokenizer.BOSToken)
	b.text(text)
	b.endRange()
	return b.prompt
}

// CacheText returns the bytes that key the reuse of stored state: ordinary text
// as it is, a control token as tokenizer.CacheMark and its string. Two prompts
// with equal cache texts have equal tokens.
func (p Prompt) CacheText() []byte {
	size := 0
	for _, piece := range p.Pieces {
		size += len(piece.Text) + 1
	}
	dst := make([]byte, 0, size)
	for _, piece := range p.Pieces {
		dst = piece.appendCacheText(dst)
	}
	return dst
}

func (p Piece) appendCacheText(dst []byte) []byte {
	if p.Control {
		return tokenizer.AppendCacheControl(dst, p.Text)
	}
	return tokenizer.AppendCacheText(dst, p.Text)
}

// Tokens returns the ids of a prompt. They are, by definition, those of its cache
// text: a prompt that continues from stored state is tokenised by the same code.
// tok must have passed CheckVocabulary, else the missing control tokens come out
// as text.
func Tokens(tok *tokenizer.Tokenizer, p Prompt) []int32 {
	return tok.EncodeCacheText(p.CacheText())
}

// CheckPrompt reports a control token of a prompt that a model lacks: one that has passed
// CheckVocabulary may still know no tags of tool calls.
func CheckPrompt(tok *tokenizer.Tokenizer, p Prompt) error {
	for _, piece := range p.Pieces {
		if !piece.Control {
			continue
		}
		if _, ok := tok.ID(piece.Text); !ok {
			return fmt.Errorf("chat: the model has no token %s, which this prompt needs: %w", piece.Text, ErrVocabulary)
		}
	}
	return nil
}

// CheckVocabulary reports which control tokens of the chat format a model lacks.
// Such a model can continue token ids but cannot chat.
func CheckVocabulary(tok *tokenizer.Tokenizer) error {
	var missing []string
	for _, name := range [...]string{
		tokenizer.BOSToken, tokenizer.EOSToken, tokenizer.UserToken, tokenizer.AssistantToken,
		tokenizer.ThinkToken, tokenizer.EndThinkToken,
	} {
		if _, ok := tok.ID(name); !ok {
			missing = append(missing, name)
		}
	}
	if missing != nil {
		return fmt.Errorf("chat: the model has no token %s: %w", strings.Join(missing, ", "), ErrVocabulary)
	}
	return nil
}

// builder collects pieces; neighbouring texts become one piece, because tokens
// may cross the seam between them.
type builder struct {
	prompt Prompt
	length int // of the cache text so far, in bytes
}

func (b *builder) control(token string) {
	b.prompt.Pieces = append(b.prompt.Pieces, Piece{Text: token, Control: true})
	b.length += 1 + len(token)
}

func (b *builder) text(s string) {
	if s == "" {
		return
	}
	b.length += len(s) + strings.Count(s, "\xff")
	if n := len(b.prompt.Pieces); n > 0 && !b.prompt.Pieces[n-1].Control {
		b.prompt.Pieces[n-1].Text += s
		return
	}
	b.prompt.Pieces = append(b.prompt.Pieces, Piece{Text: s})
}

func (b *builder) endRange() { b.prompt.RangeEnd = b.length }
