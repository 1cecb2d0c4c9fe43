package chat_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"ds4/runtime/chat"
	"ds4/runtime/tokenizer"
)

type golden struct {
	Name   string  `json:"name"`
	Text   string  `json:"text"`
	Tokens []int32 `json:"tokens"`
}

func readGolden(t *testing.T) map[string]golden {
	t.Helper()
	data, err := os.ReadFile("testdata/prompts.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]golden{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var g golden
		if err := json.Unmarshal(lines.Bytes(), &g); err != nil {
			t.Fatal(err)
		}
		list[g.Name] = g
	}
	return list
}

// Prompts for which reference logits exist.
func TestGoldenPrompts(t *testing.T) {
	tok, list := openTiny(t), readGolden(t)
	for name, question := range map[string]string{
		"hello":  "Hello",
		"who":    "Who are you?",
		"cut":    "What does strings.Cut do?",
		"recall": "Remember these facts. Ada's code is 4821. Rob's room is 1377. Nico's port is 902.\n\nWhat is Rob's room?",
	} {
		p, err := chat.Render([]chat.Message{user(question)}, chat.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := chat.Tokens(tok, p), list[name].Tokens; want == nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

// Conversations of the model's training data, 2500 tokens of them one after the
// other. They keep all reasoning, so each exchange is rendered as if it were the
// last of its conversation.
func TestGoldenConversations(t *testing.T) {
	tok, g := openTiny(t), readGolden(t)["chat2500"]
	var got []int32
	exchanges, thoughts := 0, 0
	for i, conversation := range strings.Split(g.Text, tokenizer.BOSToken)[1:] {
		head, rest, ok := strings.Cut(conversation, tokenizer.UserToken)
		if !ok {
			t.Fatalf("conversation %d has no user turn", i)
		}
		for n, turn := range strings.Split(rest, tokenizer.UserToken) {
			question, reply, ok := strings.Cut(turn, tokenizer.AssistantToken)
			if !ok {
				t.Fatalf("conversation %d: no answer in %q", i, turn)
			}
			reasoning, text, _ := strings.Cut(reply, tokenizer.EndThinkToken)
			opt := chat.Options{}
			if thought, ok := strings.CutPrefix(reasoning, tokenizer.ThinkToken); ok {
				reasoning, opt.Thinking = thought, chat.High
				thoughts++
			}
			messages := []chat.Message{user(question), answer(reasoning, strings.TrimSuffix(text, tokenizer.EOSToken))}
			if n == 0 && head != "" {
				messages = append([]chat.Message{system(head)}, messages...)
			}
			p, err := chat.Render(messages, opt)
			if err != nil {
				t.Fatal(err)
			}
			ids := chat.Tokens(tok, p)
			if n > 0 {
				ids = ids[1:] // BOS
			}
			got = append(got, ids[:len(ids)-2]...) // the next turn's markers
			exchanges++
		}
	}
	got = got[:min(len(got), len(g.Tokens))] // the excerpt ends inside an answer
	if exchanges < 30 || thoughts < 10 || !slices.Equal(got, g.Tokens) {
		t.Errorf("%d exchanges, %d with reasoning: tokens differ at %d", exchanges, thoughts, firstDifference(got, g.Tokens))
	}
}

func firstDifference(a, b []int32) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
