package chat_test

import (
	"bytes"
	"fmt"
	"testing"

	"ds4/runtime/chat"
	"ds4/runtime/tokenizer"
)

// A prompt begins with the one before it and what was sampled then, in each mode, with
// and without tools; except that without tools the reasoning of the turn before goes.
func TestPromptsGrow(t *testing.T) {
	mark := func(control string) []byte { return tokenizer.AppendCacheControl(nil, control) }
	for _, mode := range []chat.Mode{chat.None, chat.High, chat.Max} {
		for _, tools := range []bool{false, true} {
			opt := chat.Options{Thinking: mode, ContextTokens: chat.MaxContextTokens, MaxPrefix: "Reasoning Effort: all of it\n\n"}
			blocks := map[string][]byte{}
			if tools {
				opt.Tools = []chat.Tool{weather}
				opt.Replay = func(id string) ([]byte, bool) { b, ok := blocks[id]; return b, ok }
			}
			messages := []chat.Message{system("S"), user("q0")}
			var before []byte // what the next prompt must begin with
			for turn := range 10 {
				p, err := chat.Render(messages, opt)
				if err != nil {
					t.Fatal(err)
				}
				text := p.CacheText()
				if !bytes.HasPrefix(text, before) {
					t.Fatalf("%v, tools %v, turn %d: %q does not begin with %q", mode, tools, turn, text, before)
				}
				m := chat.Message{Role: chat.RoleAssistant, Content: fmt.Sprintf("a%d", turn)}
				sampled := []byte(m.Content)
				if mode != chat.None {
					m.Reasoning = "because"
					sampled = append(append([]byte(m.Reasoning), mark(tokenizer.EndThinkToken)...), sampled...)
				}
				next := user(fmt.Sprintf("q%d", turn+1))
				if tools && turn%2 == 0 {
					id := fmt.Sprint("id", turn)
					block := bytes.ReplaceAll([]byte("\n"+block(invoke("get_weather", param("city", "true", "Paris")))),
						[]byte(tokenizer.DSMLToken), mark(tokenizer.DSMLToken))
					blocks[id] = block
					sampled = append(sampled, block...)
					m.Calls = []chat.ToolCall{{ID: id, Name: "get_weather", Arguments: `{ "city" : "Paris" }`}}
					next = toolResult(id, "18")
				}
				before = append(bytes.Clone(text), sampled...)
				if mode != chat.None && !tools {
					before = text[:len(text)-len(mark(tokenizer.ThinkToken))]
				}
				messages = append(messages, m, next)
			}
		}
	}
}
