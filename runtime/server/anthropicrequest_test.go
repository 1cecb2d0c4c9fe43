package server

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ds4/runtime/chat"
)

const hiTurn = `"messages":[{"role":"user","content":"hi"}]`

// TestAnthropicConversation: what a client of the Messages API says becomes the
// conversation that the model sees.
func TestAnthropicConversation(t *testing.T) {
	user := chat.Message{Role: "user", Content: "hi"}
	tests := []struct {
		name, body string
		want       []chat.Message
	}{
		{"string", `{` + hiTurn + `}`, []chat.Message{user}},
		{"blocks", `{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b","cache_control":{"type":"ephemeral"}}]}]}`,
			[]chat.Message{{Role: "user", Content: "a\n\nb"}}},
		{"no blocks", `{"messages":[{"role":"user","content":[]}]}`, []chat.Message{{Role: "user"}}},
		{"system string", `{"system":"be brief",` + hiTurn + `}`, []chat.Message{{Role: "system", Content: "be brief"}, user}},
		{"system parts", `{"system":[{"type":"text","text":"a"},{"type":"text","text":"","cache_control":null},{"type":"text","text":"b"}],` + hiTurn + `}`,
			[]chat.Message{{Role: "system", Content: "a\n\nb"}, user}},
		{"billing header", `{"system":[{"type":"text","text":"x-anthropic-billing-header: cch=1;"},{"type":"text","text":"b"}],` + hiTurn + `}`,
			[]chat.Message{{Role: "system", Content: "b"}, user}},
		{"system turn before an answer", `{"messages":[{"role":"user","content":"hi"},{"role":"system","content":"s"}]}`,
			[]chat.Message{user, {Role: "system", Content: "s"}}},
		{"system turn after an answer", `{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"a"},{"role":"system","content":"s"}]}`,
			[]chat.Message{user, {Role: "assistant", Content: "a"}, {Role: "user", Content: "s"}}},
		{"tool use", `{"messages":[{"role":"user","content":"hi"},
			{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"a"},
				{"type":"tool_use","id":"t1","name":"f","input":{"b": 1, "a":[2]}},{"type":"tool_use","id":"t2","name":"g","input":{}}]},
			{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"one"},
				{"type":"tool_result","tool_use_id":"t2","is_error":true,"content":[{"type":"text","text":"t"},{"type":"text","text":"wo"}]},
				{"type":"tool_result","tool_use_id":"t3"},{"type":"text","text":"go on"}]}]}`,
			[]chat.Message{
				user,
				{Role: "assistant", Reasoning: "hm", Content: "a", Calls: []chat.ToolCall{
					{ID: "t1", Name: "f", Arguments: `{"b": 1, "a":[2]}`}, {ID: "t2", Name: "g", Arguments: `{}`},
				}},
				{Role: "tool", CallID: "t1", Content: "one"},
				{Role: "tool", CallID: "t2", Content: "two"},
				{Role: "tool", CallID: "t3"},
				{Role: "user", Content: "go on"},
			}},
		{"redacted thinking", `{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"redacted_thinking","data":"x"},{"type":"text","text":"a"}]}]}`,
			[]chat.Message{user, {Role: "assistant", Content: "a"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, err := parseAnthropicRequest([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, q.messages); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAnthropicSettings: the fields with a name of their own there.
func TestAnthropicSettings(t *testing.T) {
	mode := func(body string) chat.Mode {
		t.Helper()
		q, err := parseAnthropicRequest([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		m, err := q.mode()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for body, want := range map[string]chat.Mode{
		`{` + hiTurn + `}`: chat.High,
		`{"thinking":{"type":"disabled"},` + hiTurn + `}`:                                             chat.None,
		`{"thinking":{"type":"adaptive"},"output_config":{"effort":"max"},` + hiTurn + `}`:            chat.Max,
		`{"thinking":{"type":"enabled","budget_tokens":1024},"model":"deepseek-chat",` + hiTurn + `}`: chat.High,
		`{"thinking":null,"output_config":null,"model":"deepseek-chat",` + hiTurn + `}`:               chat.None,
	} {
		if got := mode(body); got != want {
			t.Errorf("%s: mode %v, want %v", body, got, want)
		}
	}
	q, err := parseAnthropicRequest([]byte(`{"max_tokens":5,"stop_sequences":["a","b"],"top_k":3,"tool_choice":{"type":"none"},"tools":[
		{"name":"f","description":"d","input_schema":{"type":"object", "properties":{}},"cache_control":{}},
		{"type":"web_search_20250305","name":"web_search","max_uses":5},{"type":"custom","name":"g"}],` + hiTurn + `}`))
	if err != nil {
		t.Fatal(err)
	}
	tools := []chat.Tool{{Name: "f", Description: "d", Parameters: `{"type":"object", "properties":{}}`}, {Name: "g"}}
	if diff := cmp.Diff(tools, q.tools); diff != "" || *q.maxTokens != 5 || *q.topK != 3 || len(q.stop) != 2 {
		t.Errorf("%+v\n%s", q, diff)
	}
}

// TestAnthropicChoice: what the client wants of the tools.
func TestAnthropicChoice(t *testing.T) {
	const tools = `"tools":[{"name":"f"}],` + hiTurn + `}`
	for choice, want := range map[string]chat.ToolChoice{
		`null`:                       {},
		`{"type":"auto"}`:            {},
		`{"type":"none"}`:            {Kind: chat.ChoiceNone},
		`{"type":"any"}`:             {Kind: chat.ChoiceRequired},
		`{"type":"tool","name":"f"}`: {Kind: chat.ChoiceNamed, Name: "f"},
	} {
		q, err := parseAnthropicRequest([]byte(`{"tool_choice":` + choice + `,` + tools))
		if err != nil {
			t.Fatal(err)
		}
		if turn, err := q.turn(); err != nil || turn.choice != want || turn.oneCall || turn.idPrefix != "toolu_" {
			t.Errorf("%s: %+v, %v", choice, turn, err)
		}
	}
	q, err := parseAnthropicRequest([]byte(`{"tool_choice":{"type":"auto","disable_parallel_tool_use":true},` + tools))
	if err != nil {
		t.Fatal(err)
	}
	if turn, err := q.turn(); err != nil || !turn.oneCall {
		t.Errorf("%+v, %v", turn, err)
	}
}

// TestBadAnthropicRequests: every refusal says what and where.
func TestBadAnthropicRequests(t *testing.T) {
	turn := func(role, content string) string {
		return `{"messages":[{"role":"` + role + `","content":` + content + `}]}`
	}
	tests := []struct{ name, body, want string }{
		{"cut", `{"messages":[`, "the document ends too early"},
		{"no messages", `{}`, "missing messages"},
		{"empty", `{"messages":[]}`, "messages: want at least one message"},
		{"only a system prompt", `{"system":"x","messages":[]}`, "messages: want at least one message"},
		{"role", turn("tool", `"x"`), `messages[0].role: want user, assistant or system, got "tool"`},
		{"no role", `{"messages":[{"content":"x"}]}`, "missing messages[0].role"},
		{"no content", `{"messages":[{"role":"user"}]}`, "missing messages[0].content"},
		{"content", turn("user", `1`), "messages[0].content: want a string or an array of blocks, got a number"},
		{"block", turn("user", `["x"]`), "messages[0].content[0]: want an object, got a string"},
		{"no type", turn("user", `[{"text":"x"}]`), "missing messages[0].content[0].type"},
		{"no text", turn("user", `[{"type":"text"}]`), "missing messages[0].content[0].text"},
		{"null text", turn("user", `[{"type":"text","text":null}]`), "missing messages[0].content[0].text"},
		{"image", turn("user", `[{"type":"image","source":{}}]`), `messages[0].content[0]: a block of type "image" is not supported here`},
		{"use by the user", turn("user", `[{"type":"tool_use","id":"a","name":"b","input":{}}]`), `a block of type "tool_use" is not supported here`},
		{"result by the assistant", turn("assistant", `[{"type":"tool_result","tool_use_id":"a"}]`), `a block of type "tool_result" is not supported here`},
		{"only results", turn("user", `[{"type":"tool_result","tool_use_id":"a"}]`), "messages: tool outputs without the calls that they answer; replay the full history"},
		{"use without id", turn("assistant", `[{"type":"tool_use","name":"b","input":{}}]`), "missing messages[0].content[0].id"},
		{"use without input", turn("assistant", `[{"type":"tool_use","id":"a","name":"b","input":null}]`), "missing messages[0].content[0].input"},
		{"input is no object", turn("assistant", `[{"type":"tool_use","id":"a","name":"b","input":"x"}]`), "messages[0].content[0].input: want an object, got a string"},
		{"result without id", turn("user", `[{"type":"tool_result"}]`), "missing messages[0].content[0].tool_use_id"},
		{"result with an image", turn("user", `[{"type":"tool_result","tool_use_id":"a","content":[{"type":"image"}]}]`),
			`messages[0].content[0].content[0]: a part of type "image" is not supported`},
		{"system", `{"system":1,` + hiTurn + `}`, "system: want a string or an array of text parts, got a number"},
		{"thinking", `{"thinking":true,` + hiTurn + `}`, "thinking: want an object, got true"},
		{"thinking type", `{"thinking":{"type":"always"},` + hiTurn + `}`, `thinking.type: want enabled, disabled or adaptive, got "always"`},
		{"effort", `{"output_config":{"effort":"heroic"},` + hiTurn + `}`, "output_config.effort: want none, minimal"},
		{"schema", `{"output_config":{"format":{"type":"json_schema"}},` + hiTurn + `}`, `output_config.format: type "json_schema" is not supported`},
		{"choice type", `{"tool_choice":{"type":"never"},` + hiTurn + `}`, `tool_choice.type: want auto, any, tool or none, got "never"`},
		{"unknown tool", `{"tool_choice":{"type":"tool","name":"f"},` + hiTurn + `}`, `tool_choice: "f" is none of the request's tools`},
		{"choice", `{"tool_choice":"none",` + hiTurn + `}`, "tool_choice: want an object, got a string"},
		{"tools", `{"tools":{},` + hiTurn + `}`, "tools: want an array, got an object"},
		{"tool", `{"tools":["f"],` + hiTurn + `}`, "tools[0]: want an object, got a string"},
		{"nameless tool", `{"tools":[{"input_schema":{}}],` + hiTurn + `}`, "missing tools[0].name"},
		{"schema", `{"tools":[{"name":"f","input_schema":[]}],` + hiTurn + `}`, "tools[0].input_schema: want an object, got an array"},
		{"stops", `{"stop_sequences":[1],` + hiTurn + `}`, "stop_sequences[0]: want a string, got a number"},
		{"many blocks", turn("user", `[`+strings.Repeat(`{"type":"text","text":""},`, maxBlocks)+`{"type":"text","text":""}]`), "messages[0].content: more than 4096 blocks"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseAnthropicRequest([]byte(tt.body))
			checkRefusal(t, err, tt.want)
		})
	}
}

// FuzzAnthropicRequest: whatever comes is refused with a reason, or can be asked of
// the model.
func FuzzAnthropicRequest(f *testing.F) {
	for _, seed := range []string{
		`{"model":"m","max_tokens":5,"stop_sequences":["a"],"system":[{"type":"text","text":"s"}],` + hiTurn + `}`,
		`{"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"tool_use","id":"t","name":"f","input":{"a":1}}]},
			{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"x"}]},{"type":"text","text":"y"}]}]}`,
		`{"tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"none"},"thinking":{"type":"adaptive"},"output_config":{"effort":"max"},` + hiTurn + `}`,
		`{"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":{}}]}]}`, `{"system":[[`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	s := newTestServer(f, &fakeScheduler{}, nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := parseAnthropicRequest(body)
		if err != nil {
			checkRefusal(t, err, "")
			return
		}
		checkAccepted(t, s, &q.chatRequest)
	})
}
