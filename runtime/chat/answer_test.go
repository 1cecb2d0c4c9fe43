package chat_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"ds4/runtime/chat"
	"ds4/runtime/tokenizer"
)

func push(a *chat.Answer, ids []int32) (reasoning, text string) {
	add := func(parts []chat.Part) {
		r, s := texts(parts)
		reasoning, text = reasoning+r, text+s
	}
	for _, id := range ids {
		add(a.Push(id))
	}
	add(a.Flush())
	return reasoning, text
}

// texts is the reasoning and the visible text of some parts.
func texts(parts []chat.Part) (reasoning, text string) {
	for _, p := range parts {
		switch p.Kind {
		case chat.PartReasoning:
			reasoning += p.Text
		case chat.PartText:
			text += p.Text
		}
	}
	return reasoning, text
}

func thinking(on bool) chat.AnswerOptions { return chat.AnswerOptions{Thinking: on} }

func TestAnswer(t *testing.T) {
	tok := openTiny(t)
	for _, c := range []struct {
		name            string
		thinking        bool
		turn            string // control tokens as their strings
		reasoning, text string
	}{
		{"plain", false, "Hello", "", "Hello"},
		{"thinking", true, "hm</think>Hello" + tokenizer.EOSToken, "hm", "Hello"},
		{"unfinished thought", true, "hm", "hm", ""},
		{"no thought", true, "</think>Hello", "", "Hello"},
		{"model opens by itself", false, "<think>hm</think>Hello", "hm", "Hello"},
		{"marker again", true, "<think>hm</think>Hello", "hm", "Hello"},
		{"late markers are shown", false, "a<think>b</think>c", "", "a<think>b</think>c"},
		{"second end is shown", true, "a</think>b</think>c", "a", "b</think>c"},
		{"other control tokens are shown", false, "a" + tokenizer.UserToken + tokenizer.DSMLToken, "", "a" + tokenizer.UserToken + tokenizer.DSMLToken},
		{"end of text says nothing", false, "a" + tokenizer.EOSToken + tokenizer.BOSToken + "b", "", "ab"},
		{"empty", true, "", "", ""},
	} {
		a := chat.NewAnswer(tok, thinking(c.thinking))
		reasoning, text := push(a, tok.EncodeWithControls(c.turn))
		if reasoning != c.reasoning || text != c.text {
			t.Errorf("%s: reasoning %q, text %q; want %q, %q", c.name, reasoning, text, c.reasoning, c.text)
		}
	}
}

func TestAnswerIgnoresSpelledMarkers(t *testing.T) {
	tok := openTiny(t)
	reasoning, text := push(chat.NewAnswer(tok, thinking(true)), tok.Encode("a</think>b"))
	if reasoning != "a</think>b" || text != "" {
		t.Errorf("reasoning %q, text %q", reasoning, text)
	}
}

// A thought that is cut inside a character ends with what is left of it; nothing
// spills into the visible text.
func TestAnswerCutInsideCharacter(t *testing.T) {
	tok := openTiny(t)
	half := tok.Encode("\xe6\x97")
	end, _ := tok.ID(tokenizer.EndThinkToken)
	ids := append(append(slices.Clone(half), end), tok.Encode("\xa5ok")...)
	if reasoning, text := push(chat.NewAnswer(tok, thinking(true)), ids); reasoning != "\ufffd\ufffd" || text != "\ufffdok" {
		t.Errorf("reasoning %q, text %q", reasoning, text)
	}
}

// Rendering what Answer returned gives back the tokens of the turn, if those are
// the ones that the tokenizer would choose.
func TestAnswerRoundTrip(t *testing.T) {
	tok := openTiny(t)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String()
		m := answer(text.Draw(t, "reasoning"), text.Draw(t, "text"))
		question, err := chat.Render([]chat.Message{user("q")}, chat.Options{Thinking: chat.High})
		if err != nil {
			t.Fatal(err)
		}
		whole, err := chat.Render([]chat.Message{user("q"), m}, chat.Options{Thinking: chat.High})
		if err != nil {
			t.Fatal(err)
		}
		turn := chat.Tokens(tok, whole)
		turn = turn[len(chat.Tokens(tok, question)) : len(turn)-2]
		reasoning, visible := push(chat.NewAnswer(tok, thinking(true)), turn)
		if reasoning != m.Reasoning || visible != m.Content {
			t.Fatalf("reasoning %q, text %q; want %q, %q", reasoning, visible, m.Reasoning, m.Content)
		}
	})
}

// Any tokens at all: valid UTF-8, whole characters, nothing lost.
func TestAnswerOnAnyTokens(t *testing.T) {
	tok := openTiny(t)
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOf(rapid.OneOf(rapid.Int32Range(-1, int32(tok.Vocab())), rapid.Int32Range(8, 300))).Draw(t, "ids")
		a := chat.NewAnswer(tok, chat.AnswerOptions{Thinking: rapid.Bool().Draw(t, "thinking"), Tools: rapid.Bool().Draw(t, "tools")})
		var got strings.Builder
		add := func(parts []chat.Part) {
			reasoning, text := texts(parts)
			if !utf8.ValidString(reasoning) || !utf8.ValidString(text) || reasoning != "" && text != "" {
				t.Fatalf("reasoning %q, text %q", reasoning, text)
			}
			got.WriteString(reasoning + text)
		}
		for _, id := range ids {
			add(a.Push(id))
		}
		add(a.Flush())
		silent := slices.DeleteFunc(slices.Clone(ids), func(id int32) bool { return tok.Control(id) })
		var all []byte
		for _, id := range silent {
			all = append(all, tok.Bytes(id)...)
		}
		if len(silent) == len(ids) && got.String() != string([]rune(string(all))) {
			t.Fatalf("got %q of %q", got.String(), all)
		}
	})
}

// TestLiterals: which control tokens of a turn were shown as text, and are sent back as
// text.
func TestLiterals(t *testing.T) {
	tok := openTiny(t)
	call := block(invoke("f", ""))
	for _, c := range []struct {
		name, turn string
		opt        chat.AnswerOptions
		want       string // of the literal tokens
	}{
		{"plain", "a b", chat.AnswerOptions{}, ""},
		{"no tools", "a" + call, chat.AnswerOptions{}, strings.Repeat(tokenizer.DSMLToken, 4)},
		{"good", "a" + call, chat.AnswerOptions{Tools: true}, ""},
		{"before a good one", dsmlTag + "x>" + call, chat.AnswerOptions{Tools: true}, tokenizer.DSMLToken},
		{"malformed", block("what"), chat.AnswerOptions{Tools: true}, strings.Repeat(tokenizer.DSMLToken, 2)},
		{"cut", call[:len(call)-4], chat.AnswerOptions{Tools: true}, ""},
		{"cut in the opening", "a" + dsmlTag, chat.AnswerOptions{Tools: true}, ""},
		{"reasoning", "a" + dsmlTag + tokenizer.UserToken + tokenizer.EndThinkToken + call, chat.AnswerOptions{Thinking: true, Tools: true},
			tokenizer.DSMLToken + tokenizer.UserToken},
		{"second end of reasoning", tokenizer.EndThinkToken + tokenizer.EndThinkToken, chat.AnswerOptions{Thinking: true}, tokenizer.EndThinkToken},
	} {
		a, ids := chat.NewAnswer(tok, c.opt), tok.EncodeWithControls(c.turn)
		got := ""
		known := 0
		for i, id := range ids {
			a.Push(id)
			for _, n := range a.Literals(known) {
				if n > i {
					t.Fatalf("%s: token %d after %d", c.name, n, i+1)
				}
				got += string(tok.Bytes(ids[n]))
				known++
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if open := a.Block().Open || strings.HasPrefix(c.name, "cut"); a.Settled() == open {
			t.Errorf("%s: settled %v", c.name, a.Settled())
		}
	}
}
