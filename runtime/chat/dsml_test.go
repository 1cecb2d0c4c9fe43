package chat_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"ds4/runtime/chat"
	"ds4/runtime/tokenizer"
)

// said is what an answer with tools came to.
type said struct {
	text  string
	calls []chat.ToolCall
	block chat.Block
}

// hear feeds tokens to an answer until it ends by itself or they do. Every state on the
// way must keep the rules of parts.
func hear(t interface{ Fatalf(string, ...any) }, tok *tokenizer.Tokenizer, ids []int32) said {
	a := chat.NewAnswer(tok, chat.AnswerOptions{Tools: true})
	var s said
	open := -1
	take := func(parts []chat.Part) {
		for _, p := range parts {
			if !utf8.ValidString(p.Text) {
				t.Fatalf("part %+v is not UTF-8", p)
			}
			switch p.Kind {
			case chat.PartText:
				if len(s.calls) > 0 {
					t.Fatalf("text %q behind a call", p.Text)
				}
				s.text += p.Text
			case chat.PartCall:
				if open >= 0 || p.Index != len(s.calls) {
					t.Fatalf("call %d begins, %d is open of %d", p.Index, open, len(s.calls))
				}
				open = p.Index
				s.calls = append(s.calls, chat.ToolCall{Name: p.Text})
			case chat.PartArguments, chat.PartCallEnd:
				if p.Index != open {
					t.Fatalf("part %+v, but call %d is open", p, open)
				}
				s.calls[open].Arguments += p.Text
				if p.Kind == chat.PartCallEnd {
					open = -1
				}
			default:
				t.Fatalf("part %+v", p)
			}
		}
	}
	for _, id := range ids {
		if a.Ended() {
			break
		}
		take(a.Push(id))
	}
	take(a.Flush())
	s.block = a.Block()
	return s
}

const (
	dsmlTag = "<" + tokenizer.DSMLToken
	dsmlEnd = "</" + tokenizer.DSMLToken
)

// block writes calls as a model does; body stands between the outer tags.
func block(body string) string {
	return dsmlTag + "tool_calls>\n" + body + dsmlEnd + "tool_calls>"
}

func invoke(name, parameters string) string {
	return dsmlTag + `invoke name="` + name + "\">\n" + parameters + dsmlEnd + "invoke>\n"
}

func param(name, kind, value string) string {
	return dsmlTag + `parameter name="` + name + `" string="` + kind + `">` + value + dsmlEnd + "parameter>\n"
}

func TestCalls(t *testing.T) {
	tok := openTiny(t)
	for _, c := range []struct {
		name, turn, text string
		calls            []string // name and arguments
	}{
		{"none", "Hello \n", "Hello \n", nil},
		{"one", "Let me look.\n\n" + block(invoke("read", param("path", "true", "a&b <c>.go"))), "Let me look.",
			[]string{`read {"path":"a&b <c>.go"}`}},
		{"no text", "\n\n" + block(invoke("f", "")), "", []string{`f {}`}},
		{"two", block(invoke("f", param("a", "false", " 918 ")+param("b", "false", `[1, {"x": "y"}]`)) + invoke("g", param("s", "true", ""))), "",
			[]string{`f {"a":918,"b":[1, {"x": "y"}]}`, `g {"s":""}`}},
		{"no line breaks", strings.ReplaceAll(block(invoke("f", param("a", "false", "true"))), "\n", ""), "", []string{`f {"a":true}`}},
		{"the turn ends with the block", block(invoke("f", "")) + "and more" + block(invoke("g", "")), "", []string{`f {}`}},
		{"quotes and lines", block(invoke("f", param("a", "true", "\"x\"\n\t\\"))), "", []string{`f {"a":"\"x\"\n\t\\"}`}},
		{"escaped closing tag", block(invoke("f", param("a", "true", "x&lt;/"+tokenizer.DSMLToken+"parameter>y&lt;z"))), "",
			[]string{`f {"a":"x</` + tokenizer.DSMLToken + `parameter>y&lt;z"}`}},
		{"other tags in a value", block(invoke("f", param("a", "true", dsmlTag+"invoke>"+dsmlEnd+"tool_calls>"))), "",
			[]string{`f {"a":"` + dsmlTag + `invoke>` + dsmlEnd + `tool_calls>"}`}},
		{"attributes", block(invoke("f&amp;&quot;", param("a&lt;b&gt;", "true", "x"))), "", []string{`f&" {"a<b>":"x"}`}},
		{"a word that is no JSON", block(invoke("f", param("a", "false", "Paris"))), "", []string{`f {"a":"Paris"}`}},
		{"no value", block(invoke("f", param("a", "false", ""))), "", []string{`f {"a":""}`}},
		{"raw line break in JSON", block(invoke("f", param("a", "false", "[\"x\ny\"]"))), "", []string{`f {"a":["x\u000ay"]}`}},
		{"JSON string", block(invoke("f", param("a", "false", `"x\"y"`))), "", []string{`f {"a":"x\"y"}`}},
	} {
		s := hear(t, tok, tok.EncodeWithControls(c.turn))
		var calls []string
		for _, call := range s.calls {
			calls = append(calls, call.Name+" "+call.Arguments)
		}
		if s.text != c.text || !slices.Equal(calls, c.calls) {
			t.Errorf("%s: text %q, calls %q; want %q, %q", c.name, s.text, calls, c.text, c.calls)
		}
		if s.block.Good != (c.calls != nil) || s.block.Open {
			t.Errorf("%s: block %+v", c.name, s.block)
		}
	}
}

// TestCutOpeningTag: of an answer that ends inside the tag that opens a block nothing of
// the tag is shown, wherever the cut is.
func TestCutOpeningTag(t *testing.T) {
	tok := openTiny(t)
	for _, text := range []string{"", "Let me look.", "x <"} {
		ids := tok.EncodeWithControls(text + "\n\n" + dsmlTag + "tool_calls>")
		for n := 1; n < len(ids); n++ {
			tag := slices.Contains(ids[:n], ids[len(tok.EncodeWithControls(text+"\n\n"+dsmlTag))-1])
			s := hear(t, tok, ids[:n])
			if tag && (s.text != text || s.block.Open || len(s.calls) > 0) || !tag && strings.Contains(s.text, "DSML") {
				t.Errorf("cut after %d of %q: text %q, block %+v", n, text, s.text, s.block)
			}
		}
	}
}

// What keeps to the letter of the format but not to its rules, and what ends too early.
func TestBadBlocks(t *testing.T) {
	tok := openTiny(t)
	whole := block(invoke("f", param("a", "true", "x")))
	for _, c := range []struct {
		name, turn   string
		closed, open bool
	}{
		{"empty", block(""), true, false},
		{"text inside", block("hello" + invoke("f", "")), true, false},
		{"text between", block(invoke("f", "") + "hello"), true, false},
		{"text in a call", block(invoke("f", "hello")), true, false},
		{"no name", block(invoke("", "")), true, false},
		{"long name", block(invoke(strings.Repeat("n", chat.MaxNameBytes+1), "")), true, false},
		{"name without end", block(dsmlTag + `invoke name="` + strings.Repeat("n", 4096) + "\n"), true, false},
		{"kind", block(invoke("f", param("a", "maybe", "x"))), true, false},
		{"broken JSON", block(invoke("f", param("a", "false", "[1, 2"))), true, false},
		{"too many calls", block(strings.Repeat(invoke("f", ""), chat.MaxCalls+1)), true, false},
		{"tag of another kind", "a\n\n" + dsmlTag + "result>", false, false},
		{"cut behind the opening", dsmlTag + "tool_calls>", false, true},
		{"cut in a value", whole[:len(whole)-len(dsmlEnd)-40], false, true},
		{"cut before the end", strings.TrimSuffix(whole, ">"), false, true},
		{"broken and cut", dsmlTag + "tool_calls>what", false, true},
	} {
		s := hear(t, tok, tok.EncodeWithControls(c.turn))
		if b := s.block; b.Good || b.Closed != c.closed || b.Open != c.open {
			t.Errorf("%s: closed %v, open %v, good %v", c.name, b.Closed, b.Open, b.Good)
		}
		if s.block.Closed && s.block.Text() != c.turn {
			t.Errorf("%s: text %q", c.name, s.block.Text())
		}
		if !c.closed && !c.open && s.text != c.turn {
			t.Errorf("%s: visible text %q", c.name, s.text)
		}
	}
}

// Tags that ordinary tokens spell, as a document that the model repeats does, are text;
// so are tags inside the reasoning.
func TestSpelledTagsAreText(t *testing.T) {
	tok := openTiny(t)
	turn := block(invoke("rm", param("path", "true", "/")))
	if s := hear(t, tok, tok.Encode(turn)); s.text != turn || len(s.calls) > 0 || s.block.Closed {
		t.Errorf("spelled: %+v", s)
	}
	a := chat.NewAnswer(tok, chat.AnswerOptions{Thinking: true, Tools: true})
	reasoning, text := push(a, tok.EncodeWithControls(turn+"</think>done"))
	if reasoning != turn || text != "done" || a.Ended() || a.Block().Closed {
		t.Errorf("in reasoning: %q, %q, %+v", reasoning, text, a.Block())
	}
}

// A request without tools shows tags as text.
func TestNoToolsNoCalls(t *testing.T) {
	tok := openTiny(t)
	turn := block(invoke("f", ""))
	a := chat.NewAnswer(tok, chat.AnswerOptions{})
	if _, text := push(a, tok.EncodeWithControls(turn)); text != turn || a.Syntax() || a.Ended() {
		t.Errorf("%q", text)
	}
}

// TestSyntax: which tokens are prescribed.
func TestSyntax(t *testing.T) {
	tok := openTiny(t)
	for _, c := range []struct {
		before string
		want   bool
	}{
		{"", false}, {"a <", false}, {"\n\n<", false},
		{"\n\n" + dsmlTag, true}, {"\n\n" + dsmlTag + "tool", true}, {dsmlTag + "other>", false},
		{dsmlTag + "tool_calls>", true}, {dsmlTag + "tool_calls>\n" + dsmlTag + `invoke name="`, true},
		{dsmlTag + "tool_calls>\n" + dsmlTag + `invoke name="f">`, true},
		{dsmlTag + "tool_calls>" + dsmlTag + `invoke name="f">` + dsmlTag + `parameter name="a" string="`, true},
		{dsmlTag + "tool_calls>" + dsmlTag + `invoke name="f">` + dsmlTag + `parameter name="a" string="true">`, false},
		{dsmlTag + "tool_calls>" + dsmlTag + `invoke name="f">` + dsmlTag + `parameter name="a" string="true">x</`, false},
		{dsmlTag + "tool_calls>" + dsmlTag + `invoke name="f">` + dsmlTag + `parameter name="a" string="true">x` + dsmlEnd, true},
		{dsmlTag + "tool_calls>" + dsmlTag + `invoke name="f">` + dsmlTag + `parameter name="a" string="false">`, true},
		{dsmlTag + "tool_calls>" + dsmlTag + `invoke name="f">` + dsmlTag + `parameter name="a" string="false">[1, "`, false},
		{dsmlTag + "tool_calls>" + dsmlTag + `invoke name="f">` + dsmlTag + `parameter name="a" string="false">["\"`, false},
		{dsmlTag + "tool_calls>" + dsmlTag + `invoke name="f">` + dsmlTag + `parameter name="a" string="false">["x"`, true},
	} {
		a := chat.NewAnswer(tok, chat.AnswerOptions{Tools: true})
		for _, id := range tok.EncodeWithControls(c.before) {
			a.Push(id)
		}
		if a.Syntax() != c.want {
			t.Errorf("after %q: %v", c.before, a.Syntax())
		}
	}
}

// fragments arrive while a value is sampled, not when it is complete.
func TestArgumentsArriveAsTheyCome(t *testing.T) {
	tok := openTiny(t)
	for _, kind := range []string{"true", "false"} {
		a := chat.NewAnswer(tok, chat.AnswerOptions{Tools: true})
		value := strings.Repeat("word ", 50)
		if kind == "false" {
			value = `["` + value + `"]`
		}
		turn := block(invoke("f", param("a", kind, value)))
		ids, pieces := tok.EncodeWithControls(turn), 0
		for _, id := range ids {
			for _, p := range a.Push(id) {
				if p.Kind == chat.PartArguments {
					pieces++
				}
			}
		}
		if pieces < 40 {
			t.Errorf("string=%s: %d pieces of %d tokens", kind, pieces, len(ids))
		}
	}
}

// drawJSON draws any JSON value, with what is difficult for tags in its strings.
func drawJSON(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
			"", dsmlEnd + "parameter>", "&lt;/" + tokenizer.DSMLToken + "parameter>", "</parameter>", "&amp;&lt;", "<think>", "\"\\\n\x00", "日本",
			tokenizer.EOSToken, "\ufffd",
		}))
		kinds := 5
		if depth > 0 {
			kinds = 7
		}
		switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
		case 0:
			return text.Draw(t, "string")
		case 1:
			return json.Number(fmt.Sprint(rapid.Int64().Draw(t, "int")))
		case 2:
			return json.Number(fmt.Sprint(rapid.Float64Range(-1e300, 1e300).Draw(t, "float")))
		case 3:
			return rapid.Bool().Draw(t, "bool")
		case 4:
			return nil
		case 5:
			return rapid.SliceOfN(drawJSON(depth-1), 0, 3).Draw(t, "array")
		}
		return rapid.MapOfN(text, drawJSON(depth-1), 0, 3).Draw(t, "object")
	})
}

// Any arguments survive: rendered, tokenised, sampled token by token, parsed; and replayed.
func TestArgumentsSurvive(t *testing.T) {
	tok := openTiny(t)
	rapid.Check(t, func(t *rapid.T) {
		var calls []chat.ToolCall
		for i := range rapid.IntRange(1, 3).Draw(t, "calls") {
			object := rapid.MapOfN(rapid.OneOf(rapid.StringN(0, 20, 80), rapid.SampledFrom([]string{"", `"`, "&lt;", "a b"})), drawJSON(2), 0, 4).Draw(t, "arguments")
			arguments, err := json.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			name := rapid.OneOf(rapid.SampledFrom([]string{"f", `q"&<>`}), rapid.StringN(1, 10, 60)).Draw(t, "name")
			calls = append(calls, chat.ToolCall{ID: fmt.Sprint("id", i), Name: name, Arguments: string(arguments)})
		}
		m := chat.Message{Role: chat.RoleAssistant, Content: "Let me look.", Calls: calls}
		s := hear(t, tok, turnTokens(t, tok, m, chat.Options{}))
		if s.text != m.Content || len(s.calls) != len(calls) || !s.block.Good {
			t.Fatalf("text %q, %d calls of %d, block %+v", s.text, len(s.calls), len(calls), s.block)
		}
		for i, c := range s.calls {
			if c.Name != calls[i].Name || !chat.SameArguments(c.Arguments, calls[i].Arguments) {
				t.Fatalf("call %d: %q %s, want %q %s", i, c.Name, c.Arguments, calls[i].Name, calls[i].Arguments)
			}
		}
		// What the client gets back as JSON, in its own spelling, is replayed as it was sampled.
		sampled := slices.Clone(s.block.Cache)
		replayed := chat.Options{Replay: func(string) ([]byte, bool) { return sampled, true }}
		p, err := chat.Render([]chat.Message{user("q"), m}, replayed)
		if err != nil || !bytes.Contains(p.CacheText(), sampled) {
			t.Fatalf("not replayed: %v, %q in %q", err, sampled, p.CacheText())
		}
	})
}

// turnTokens are the tokens of one assistant turn without thinking.
func turnTokens(t interface{ Fatal(...any) }, tok *tokenizer.Tokenizer, m chat.Message, opt chat.Options) []int32 {
	question, err := chat.Render([]chat.Message{user("q")}, opt)
	if err != nil {
		t.Fatal(err)
	}
	all, err := chat.Render([]chat.Message{user("q"), m}, opt)
	if err != nil {
		t.Fatal(err)
	}
	ids := chat.Tokens(tok, all)
	return ids[len(chat.Tokens(tok, question)) : len(ids)-2] // without the next turn's markers
}

// Any tokens at all, with tags likely: what was reported adds up, a good block can be
// parsed again and says the same, and no byte is lost.
func TestCallsOnAnyTokens(t *testing.T) {
	tok := openTiny(t)
	pieces := []string{dsmlTag, dsmlEnd, "tool_calls>", `invoke name="`, "invoke>", `parameter name="`, "parameter>", `" string="true">`,
		`" string="false">`, `">`, `"`, "f", " ", "\n\n", "[", "]", "{", "}", "12", "日", "&lt;/", tokenizer.DSMLToken, tokenizer.EndThinkToken,
		block(""), invoke("f", ""), param("a", "true", "x"), param("b", "false", "1"), dsmlTag + "tool_calls>\n"}
	rapid.Check(t, func(t *rapid.T) {
		var turn strings.Builder
		for range rapid.IntRange(0, 12).Draw(t, "pieces") {
			turn.WriteString(rapid.SampledFrom(pieces).Draw(t, "piece"))
		}
		ids := tok.EncodeWithControls(turn.String())
		ids = append(ids, rapid.SliceOfN(rapid.Int32Range(-1, int32(tok.Vocab())), 0, 4).Draw(t, "ids")...)
		if think, _ := tok.ID(tokenizer.ThinkToken); len(ids) > 0 && ids[0] == think {
			return // reasoning is not what this is about
		}
		checkSaid(t, turn.String(), hear(t, tok, ids))
	})
}

// checkSaid checks what an answer came to whose tokens begin with those of a turn.
func checkSaid(t interface{ Fatalf(string, ...any) }, turn string, s said) {
	for i, c := range s.calls {
		if s.block.Good && !json.Valid([]byte(c.Arguments)) {
			t.Fatalf("call %d has arguments %q", i, c.Arguments)
		}
	}
	if again, ok := chat.ParseBlock(s.block.Cache); s.block.Good && (!ok && onlyTags(s.block.Cache) || ok && !slices.Equal(again, s.calls)) {
		t.Fatalf("parsed again: %v, %+v; want %+v", ok, again, s.calls)
	}
	all := s.text + s.block.Text()
	if s.block.Open {
		return // some of it is held back
	}
	if !strings.HasPrefix(all, turn) && !strings.HasPrefix(turn, all) {
		t.Fatalf("%q became %q and %q", turn, s.text, s.block.Text())
	}
}

// FuzzCalls is TestCallsOnAnyTokens for any text in which control tokens are spelled.
func FuzzCalls(f *testing.F) {
	tok := openTiny(f)
	for _, seed := range []string{
		"a\n\n" + block(invoke("f", param("a", "true", "x")+param("b", "false", `[1, {"c": "d"}]`))) + "b", block(""), dsmlTag + "tool_calls>" + dsmlTag,
		block(invoke("f", param("a", "true", "&lt;/"+tokenizer.DSMLToken+"parameter>"))), "< " + dsmlTag,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, turn string) {
		for _, token := range []string{tokenizer.ThinkToken, tokenizer.BOSToken, tokenizer.EOSToken} {
			turn = strings.ReplaceAll(turn, token, "") // they are not shown
		}
		turn = strings.ToValidUTF8(turn, "")
		checkSaid(t, turn, hear(t, tok, tok.EncodeWithControls(turn)))
	})
}

// A block as large as one may be is parsed in a time that grows with it, not with its
// square: twice the parameters allocate about twice as much.
func TestLargeBlockIsParsedOnce(t *testing.T) {
	mark := string(tokenizer.AppendCacheControl(nil, tokenizer.DSMLToken))
	cost := func(n int) float64 {
		var parameters strings.Builder
		for i := range n {
			parameters.WriteString(param(fmt.Sprint("p", i), []string{"true", "false"}[i%2], "1"))
		}
		cache := []byte(strings.ReplaceAll(block(invoke("f", parameters.String())), tokenizer.DSMLToken, mark))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if calls, ok := chat.ParseBlock(cache); !ok || len(calls) != 1 {
			t.Fatal("not parsed")
		}
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc - before.TotalAlloc)
	}
	if small, large := cost(500), cost(4000); large > 40*small {
		t.Errorf("8 times the parameters allocate %.0f times as much", large/small)
	}
}

// onlyTags reports whether a cache text has no control tokens but those of tags.
func onlyTags(cache []byte) bool {
	rest := bytes.ReplaceAll(cache, tokenizer.AppendCacheControl(nil, tokenizer.DSMLToken), nil)
	return bytes.IndexByte(rest, tokenizer.CacheMark) < 0
}

// FuzzParseBlock: whatever a file holds, a block that is taken for good renders as itself
// and has no control tokens but those of tags.
func FuzzParseBlock(f *testing.F) {
	tok := openTiny(f)
	mark := string(tokenizer.AppendCacheControl(nil, tokenizer.DSMLToken))
	for _, seed := range []string{
		"\n\n" + block(invoke("f", param("a", "true", "x"))), block(invoke("f", param("a", "false", "[1]"))), block(""), "", "\xff", "\xff\xff",
	} {
		f.Add([]byte(strings.ReplaceAll(seed, tokenizer.DSMLToken, mark)))
	}
	f.Fuzz(func(t *testing.T, cache []byte) {
		calls, ok := chat.ParseBlock(cache)
		if !ok {
			return
		}
		if len(calls) == 0 || !onlyTags(cache) {
			t.Fatalf("%d calls", len(calls))
		}
		for _, c := range calls {
			if !json.Valid([]byte(c.Arguments)) || c.Name == "" {
				t.Fatalf("call %+v", c)
			}
		}
		m := chat.Message{Role: chat.RoleAssistant, Calls: calls}
		p, err := chat.Render([]chat.Message{m}, chat.Options{Replay: func(string) ([]byte, bool) { return cache, true }})
		if err != nil || !bytes.Contains(p.CacheText(), cache) {
			t.Fatalf("%v: %q", err, p.CacheText())
		}
		_ = chat.Tokens(tok, p)
	})
}
