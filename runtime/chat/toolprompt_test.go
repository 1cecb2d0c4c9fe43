package chat_test

import (
	"bytes"
	"strings"
	"testing"

	"ds4/runtime/chat"
	"ds4/runtime/tokenizer"
)

var weather = chat.Tool{
	Name: "get_weather", Description: "The weather\nof \"a city\"",
	Parameters: `{ "type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}},"x":"a:b,c" }`,
}

func toolResult(id, s string) chat.Message {
	return chat.Message{Role: chat.RoleTool, CallID: id, Content: s}
}

func callOf(reasoning, text string, calls ...chat.ToolCall) chat.Message {
	return chat.Message{Role: chat.RoleAssistant, Reasoning: reasoning, Content: text, Calls: calls}
}

// The section is as the embedded model has learned it: word for word, tags and think
// markers as control tokens.
func TestToolSection(t *testing.T) {
	p, err := chat.Render([]chat.Message{system("S"), user("Hi")}, chat.Options{Tools: []chat.Tool{weather, {Name: "now"}}})
	if err != nil {
		t.Fatal(err)
	}
	got := shortTags.Replace(show(p))
	for _, want := range []string{
		"[BOS]{S\n\n## Tools\n\nYou have access to a set of tools to help answer the user question. You can invoke tools by writing a \"<}[D]{tool_calls>\" block",
		"{invoke name=\"$TOOL_NAME\">\n<}[D]{parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</}[D]{parameter>\n...\n",
		"(triggered by }[T]{), you MUST output your complete reasoning inside }[T]{...}[/T]{ BEFORE any tool calls or final response.\n\n",
		"### Available Tool Schemas\n\n" +
			`{"name": "get_weather", "description": "The weather\nof \"a city\"", "parameters": ` +
			`{"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "x": "a:b,c"}}` +
			"\n{\"name\": \"now\"}\n\nYou MUST strictly follow",
		"Use the exact parameter names from the schemas.}[U]{Hi}[A][/T]",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%q", want, got)
		}
	}
}

var shortTags = strings.NewReplacer(tokenizer.DSMLToken, "[D]", "{[D]}", "[D]")

// Turns of a conversation with tools: all reasoning stays, results are user turns in the
// order of the calls, parameters stand in the order of the schema.
func TestRenderCalls(t *testing.T) {
	a := chat.ToolCall{ID: "a", Name: "get_weather", Arguments: `{"days": 2, "city": "Paris"}`}
	b := chat.ToolCall{ID: "b", Name: "now", Arguments: ""}
	odd := chat.ToolCall{ID: "c", Name: "f", Arguments: `not {JSON`}
	half := chat.ToolCall{ID: "d", Name: "f", Arguments: `{"x":"\ud800"}`}
	const paris = "<[D]invoke name=\"get_weather\">\n<[D]parameter name=\"city\" string=\"true\">Paris</[D]parameter>\n" +
		"<[D]parameter name=\"days\" string=\"false\">2</[D]parameter>\n</[D]invoke>\n"
	calls := func(body string) string { return "\n\n<[D]tool_calls>\n" + body + "</[D]tool_calls>[EOS]" }
	one := func(name, value, kind string) string {
		return "<[D]invoke name=\"f\">\n<[D]parameter name=\"" + name + "\" string=\"" + kind + "\">" + value + "</[D]parameter>\n</[D]invoke>\n"
	}
	offered := chat.Options{Thinking: chat.High, Tools: []chat.Tool{weather}}
	for _, c := range []struct {
		name     string
		messages []chat.Message
		opt      chat.Options
		want     string
	}{
		{"call and result", []chat.Message{user("q"), callOf("r", "look", a), toolResult("a", "18")}, offered,
			"[U]q[A][T]r[/T]look" + calls(paris) + "[U]<tool_result>18</tool_result>[A][T]"},
		{"results in the order of the calls, and a text", []chat.Message{user("q"), callOf("", "", a, b), toolResult("b", "noon"), toolResult("a", "18"), user("so?")}, offered,
			"[U]q[A][T][/T]" + calls(paris+"<[D]invoke name=\"now\">\n</[D]invoke>\n") +
				"[U]<tool_result>18</tool_result>\n\n<tool_result>noon</tool_result>\n\nso?[A][T]"},
		{"past calls keep all reasoning", []chat.Message{user("p"), answer("r0", "x"), user("q"), callOf("r1", "", b), toolResult("b", "t"), answer("", "done"), user("more")},
			chat.Options{Thinking: chat.High},
			"[U]p[A][T]r0[/T]x[EOS][U]q[A][T]r1[/T]" + calls("<[D]invoke name=\"now\">\n</[D]invoke>\n") +
				"[U]<tool_result>t</tool_result>[A][T][/T]done[EOS][U]more[A][T]"},
		{"offered tools keep all reasoning", []chat.Message{user("p"), answer("r0", "x"), user("q")}, offered, "[U]p[A][T]r0[/T]x[EOS][U]q[A][T]"},
		{"no thinking", []chat.Message{user("q"), callOf("r", "", b)}, chat.Options{}, "[U]q[A][/T]" + calls("<[D]invoke name=\"now\">\n</[D]invoke>\n") + "[A][/T]"},
		{"no object", []chat.Message{callOf("", "", odd)}, chat.Options{}, "[A][/T]" + calls(one("arguments", "not {JSON", "true")) + "[A][/T]"},
		{"half a character", []chat.Message{callOf("", "", half)}, chat.Options{}, "[A][/T]" + calls(one("x", `"\ud800"`, "false")) + "[A][/T]"},
		{"result that ends itself", []chat.Message{toolResult("", "x</tool_result>y<tool_result>")}, chat.Options{},
			"[U]<tool_result>x&lt;/tool_result>y<tool_result></tool_result>[A][/T]"},
	} {
		p, err := chat.Render(c.messages, c.opt)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got strings.Builder
		for _, piece := range p.Pieces {
			got.WriteString(piece.Text)
		}
		text := strings.TrimPrefix(short.Replace(shortTags.Replace(got.String())), "[BOS]")
		if i := strings.Index(text, "from the schemas."); i >= 0 {
			text = text[i+len("from the schemas."):]
		}
		if text != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.name, text, c.want)
		}
	}
}

// TestReplay: the sampled bytes are used if, and only if, they make the calls of the
// message.
func TestReplay(t *testing.T) {
	mark := string(tokenizer.AppendCacheControl(nil, tokenizer.DSMLToken))
	sampled := strings.ReplaceAll(" \n"+block("\n"+invoke("f", param("b", "false", " 1")+param("a", "true", "x"))), tokenizer.DSMLToken, mark)
	patch := strings.ReplaceAll(block(invoke("f", param("patch", "true", "*** x"))), tokenizer.DSMLToken, mark)
	for _, c := range []struct {
		name, block string
		call        chat.ToolCall
		want        bool
	}{
		{"same", sampled, chat.ToolCall{Name: "f", Arguments: `{"a": "\u0078", "b": 1}`}, true},
		{"other name", sampled, chat.ToolCall{Name: "g", Arguments: `{"a":"x","b":1}`}, false},
		{"edited", sampled, chat.ToolCall{Name: "f", Arguments: `{"a":"y","b":1}`}, false},
		{"a large number is not rounded", strings.Replace(sampled, " 1<", "9007199254740993<", 1),
			chat.ToolCall{Name: "f", Arguments: `{"a":"x","b":9007199254740992}`}, false},
		{"one argument less", sampled, chat.ToolCall{Name: "f", Arguments: `{"b":1}`}, false},
		{"torn", sampled[:len(sampled)-1], chat.ToolCall{Name: "f", Arguments: `{"a":"x","b":1}`}, false},
		{"more behind it", sampled + "x", chat.ToolCall{Name: "f", Arguments: `{"a":"x","b":1}`}, false},
		{"text before it", "x" + sampled, chat.ToolCall{Name: "f", Arguments: `{"a":"x","b":1}`}, false},
		{"ends the turn inside", strings.Replace(sampled, ">x<", ">x\xff"+tokenizer.EOSToken+"<", 1),
			chat.ToolCall{Name: "f", Arguments: `{"a":"x` + tokenizer.EOSToken + `","b":1}`}, false},
		{"free-form input under another name", patch, chat.ToolCall{Name: "f", Arguments: `{"input":"*** x"}`, FreeForm: true}, true},
		{"an argument under another name", patch, chat.ToolCall{Name: "f", Arguments: `{"input":"*** x"}`}, false},
		{"other free-form input", patch, chat.ToolCall{Name: "f", Arguments: `{"input":"*** y"}`, FreeForm: true}, false},
		{"no free-form input", sampled, chat.ToolCall{Name: "f", Arguments: `{"input":"{\"b\":1,\"a\":\"x\"}"}`, FreeForm: true}, true},
		{"garbage", "\xff\xff\xff", chat.ToolCall{Name: "f", Arguments: `{}`}, false},
	} {
		asked := ""
		c.call.ID = "the id"
		p, err := chat.Render([]chat.Message{callOf("", "", c.call)}, chat.Options{Replay: func(id string) ([]byte, bool) {
			asked = id
			return []byte(c.block), true
		}})
		if err != nil || asked != "the id" {
			t.Errorf("%s: %v, asked for %q", c.name, err, asked)
		}
		if got := bytes.Contains(p.CacheText(), []byte(c.block+"\xff"+tokenizer.EOSToken)); got != c.want {
			t.Errorf("%s: replayed %v", c.name, got)
		}
	}
}

func TestSameArguments(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{`{"a":1,"b":[2]}`, ` {"b": [2], "a": 1}`, true}, {`{"a":"é"}`, `{"a":"\u00e9"}`, true}, {`x`, `x`, true}, {`x`, `y`, false},
		{`{"a":1}`, `{"a":2}`, false}, {`{"a":1}`, `{"a":1} x`, false}, {`{"a":1}`, `{"a":1.0}`, true}, {`[1e2]`, `[100]`, true}, {`[0]`, `[-0.0e5]`, true},
		{`[9007199254740993]`, `[9007199254740992]`, false}, {`[1e999999999]`, `[1e999999998]`, false}, {`[1e-999999999]`, `[0]`, false},
		{`[1e-999999999]`, `[2e-999999999]`, false}, {`[0.1]`, `[0.10000000000000001]`, false}, {`[1]`, `["1"]`, false}, {`[null]`, `[false]`, false},
		{`{"a":null}`, `{"b":null}`, false}, {`{"a":{"b":[{}]}}`, `{"a":{"b":[{}]} }`, true}, {`[1,2]`, `[2,1]`, false},
	} {
		if got := chat.SameArguments(c.a, c.b); got != c.want {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}
