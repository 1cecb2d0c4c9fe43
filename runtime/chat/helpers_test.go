package chat_test

import (
	"strings"
	"sync"
	"testing"

	"ds4/runtime/chat"
	"ds4/runtime/model/tiny"
	"ds4/runtime/tokenizer"
)

var tinyTokenizer = sync.OnceValues(func() (*tokenizer.Tokenizer, error) {
	f, err := tiny.Open()
	if err != nil {
		return nil, err
	}
	return tokenizer.FromGGUF(f)
})

func openTiny(t testing.TB) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tinyTokenizer()
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func user(s string) chat.Message   { return chat.Message{Role: chat.RoleUser, Content: s} }
func system(s string) chat.Message { return chat.Message{Role: chat.RoleSystem, Content: s} }
func answer(reasoning, s string) chat.Message {
	return chat.Message{Role: chat.RoleAssistant, Reasoning: reasoning, Content: s}
}

// short names of the control tokens for expectations; texts of tests avoid them.
var short = strings.NewReplacer(
	tokenizer.BOSToken, "[BOS]", tokenizer.EOSToken, "[EOS]", tokenizer.UserToken, "[U]", tokenizer.AssistantToken, "[A]",
	tokenizer.ThinkToken, "[T]", tokenizer.EndThinkToken, "[/T]",
)

// show writes a prompt with short names for control tokens and {} around text.
func show(p chat.Prompt) string {
	var b strings.Builder
	for _, piece := range p.Pieces {
		if piece.Control {
			b.WriteString(short.Replace(piece.Text))
			continue
		}
		b.WriteString("{" + piece.Text + "}")
	}
	return b.String()
}
