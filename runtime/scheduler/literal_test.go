package scheduler

import (
	"math/rand/v2"
	"strings"
	"testing"

	"ds4/runtime/chat"
	"ds4/runtime/tokenizer"
)

// TestAnswersComeBack: whatever is sampled, the next prompt of a client that sends it back
// begins with it: text, reasoning, calls, tags that are calls and tags that are none.
func TestAnswersComeBack(t *testing.T) {
	l, err := embedded()
	if err != nil {
		t.Fatal(err)
	}
	tok := l.tok
	const d = tokenizer.DSMLToken
	pieces := []string{"Hello", " \n", "a <", "<" + d, "</" + d, d, "tool_calls>", "</" + d + "tool_calls>", tokenizer.UserToken, tokenizer.EndThinkToken,
		"\n\n<" + d + "tool_calls>\n", "<" + d + `invoke name="f">` + "\n", "<" + d + `parameter name="a" string="true">`, "</" + d + "parameter>\n",
		"</" + d + "invoke>\n", "<" + d + `parameter name="b" string="false">[1, 2]</` + d + "parameter>\n", "é😀"}
	seen := map[string]int{}
	for seed := range uint64(4000) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var text strings.Builder
		for range 1 + rng.IntN(12) {
			text.WriteString(pieces[rng.IntN(len(pieces))])
		}
		if rng.IntN(3) == 0 { // a good block is rare by accident
			text.WriteString("<" + d + "tool_calls><" + d + `invoke name="f"><` + d + `parameter name="a" string="true">x</` + d + "parameter></" + d + "invoke></" + d + "tool_calls>")
		}
		opt := chat.Options{Thinking: []chat.Mode{chat.None, chat.High}[rng.IntN(2)]}
		tools := rng.IntN(3) > 0
		if tools || opt.Thinking != chat.None { // else the reasoning would not come back
			opt.Tools = []chat.Tool{addTool}
		}
		first := says(chat.RoleUser, "x")
		p, err := chat.Render([]chat.Message{first}, opt)
		if err != nil {
			t.Fatal(err)
		}
		req := &Request{Prompt: p, Thinking: opt.Thinking != chat.None, Tools: tools}
		s := &Scheduler{tok: tok}
		j := &job{req: req, answer: newAnswer(tok, req), slot: &slot{}, prompt: target{tokens: chat.Tokens(tok, p)}}
		past := &j.slot.past
		past.append(j.prompt.tokens, tok.CacheText)
		m := chat.Message{Role: chat.RoleAssistant}
		take := func(events []Event) {
			for _, e := range events {
				switch e.Kind {
				case EventText:
					m.Content += e.Text
				case EventReasoning:
					m.Reasoning += e.Text
				}
			}
		}
		for i, id := range tok.EncodeWithControls(text.String()) {
			if j.answer.parts.Ended() {
				break
			}
			if i > 0 { // the last one is not evaluated
				past.append([]int32{j.next}, tok.CacheText)
				s.reword(j)
			}
			events, _ := j.answer.push(id)
			take(events)
			j.next = id
		}
		settled := j.answer.parts.Settled()
		events, _ := j.answer.flush()
		take(events)
		s.reword(j)
		block := j.answer.parts.Block()
		switch {
		case block.Good:
			if m.Calls, _ = chat.ParseBlock(block.Cache); m.Calls == nil {
				t.Fatalf("seed %d: %q", seed, text.String())
			}
			m.Calls[0].ID = "id"
			opt.Replay = func(string) ([]byte, bool) { return block.Cache, true }
		case block.Closed:
			m.Content += block.Text()
		}
		seen[map[bool]string{true: "settled", false: "cut"}[settled]]++
		if block.Good {
			seen["good"]++
		} else if block.Closed {
			seen["malformed"]++
		}
		if !settled {
			continue // the end will not come back
		}
		next, err := chat.Render([]chat.Message{first, m, says(chat.RoleUser, "y")}, opt)
		if err != nil {
			t.Fatal(err)
		}
		if n := commonBytes(next.CacheText(), past.text); n < len(past.text) {
			t.Fatalf("seed %d, tools %v, %v: %q was sampled\n past %q\n next %q", seed, tools, opt.Thinking, text.String(), past.text[n:], next.CacheText()[n:])
		}
	}
	for _, what := range []string{"settled", "cut", "good", "malformed"} {
		if seen[what] < 50 {
			t.Errorf("%d answers were %s", seen[what], what)
		}
	}
}
