package server

import (
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ds4/runtime/chat"
)

const hiInput = `"input":"hi"`

// TestResponsesConversation: items become the conversation that the model sees.
func TestResponsesConversation(t *testing.T) {
	user := chat.Message{Role: "user", Content: "hi"}
	item := func(items string) string { return `{"input":[{"role":"user","content":"hi"},` + items + `]}` }
	call := `{"type":"function_call","id":"fc_1","call_id":"c1","name":"f","arguments":"{\"a\":1}","status":"completed"}`
	tests := []struct {
		name, body string
		want       []chat.Message
	}{
		{"string", `{` + hiInput + `}`, []chat.Message{user}},
		{"instructions", `{"instructions":"be brief",` + hiInput + `}`, []chat.Message{{Role: "system", Content: "be brief"}, user}},
		{"parts", `{"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"a"},{"text":"b"}]}]}`,
			[]chat.Message{{Role: "user", Content: "a\n\nb"}}},
		{"developer", item(`{"role":"developer","content":"d"}`), []chat.Message{user, {Role: "developer", Content: "d"}}},
		{"developer after an answer", item(`{"role":"assistant","content":"a"},{"role":"developer","content":"d"}`),
			[]chat.Message{user, {Role: "assistant", Content: "a"}, {Role: "user", Content: "d"}}},
		{"one turn of several items", item(`{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm"}]},
			{"type":"message","role":"assistant","content":[{"type":"output_text","text":"a","annotations":[]},{"type":"refusal","refusal":"no"}]},` + call + `,
			{"type":"function_call","call_id":"c2","name":"g","arguments":""},
			{"type":"function_call_output","call_id":"c1","output":"one"},
			{"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"two"}]},
			{"type":"message","role":"assistant","content":"done"}`),
			[]chat.Message{
				user,
				{Role: "assistant", Reasoning: "hm", Content: "ano", Calls: []chat.ToolCall{
					{ID: "c1", Name: "f", Arguments: `{"a":1}`}, {ID: "c2", Name: "g"},
				}},
				{Role: "tool", CallID: "c1", Content: "one"},
				{Role: "tool", CallID: "c2", Content: "two"},
				{Role: "assistant", Content: "done"},
			}},
		{"reasoning begins a turn", item(`{"role":"assistant","content":"a"},{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"r"}]},` + call),
			[]chat.Message{user, {Role: "assistant", Content: "a"},
				{Role: "assistant", Reasoning: "r", Calls: []chat.ToolCall{{ID: "c1", Name: "f", Arguments: `{"a":1}`}}}}},
		{"sealed reasoning", item(`{"type":"reasoning","summary":[],"encrypted_content":"` + sealReasoning("r\n\xc3\xa4") + `"},{"role":"assistant","content":"a"}`),
			[]chat.Message{user, {Role: "assistant", Reasoning: "r\n\xc3\xa4", Content: "a"}}},
		{"reasoning that another server sealed", item(`{"type":"reasoning","summary":[],"encrypted_content":"gAAAA"},{"role":"assistant","content":"a"}`),
			[]chat.Message{user, {Role: "assistant", Content: "a"}}},
		{"free-form call", item(`{"type":"custom_tool_call","call_id":"c1","name":"patch","input":"*** \"x\"\n"},{"type":"custom_tool_call_output","call_id":"c1","output":"ok"}`),
			[]chat.Message{user, {Role: "assistant", Calls: []chat.ToolCall{{ID: "c1", Name: "patch", Arguments: `{"input":"*** \"x\"\n"}`, FreeForm: true}}},
				{Role: "tool", CallID: "c1", Content: "ok"}}},
		{"search for tools", item(`{"type":"tool_search_call","call_id":"c1","execution":"client","arguments":{"query":"q"}},
			{"type":"tool_search_output","call_id":"c1","tools":[{"type":"function","name":"g"}]}`),
			[]chat.Message{user, {Role: "assistant", Calls: []chat.ToolCall{{ID: "c1", Name: "tool_search", Arguments: `{"query":"q"}`}}},
				{Role: "tool", CallID: "c1", Content: `[{"type":"function","name":"g"}]`}}},
		{"another agent", item(`{"type":"agent_message","content":[{"type":"input_text","text":"psst"}]}`),
			[]chat.Message{user, {Role: "user", Content: "psst"}}},
		{"traces of other servers", item(`{"type":"web_search_call","status":"completed"},{"type":"ghost_snapshot","ghost_commit":{}}`), []chat.Message{user}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, err := parseResponsesRequest([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, q.messages, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestResponsesTools: each kind of tool is a function for the model, and a call of it
// finds the way back.
func TestResponsesTools(t *testing.T) {
	q, err := parseResponsesRequest([]byte(`{"input":[{"role":"user","content":"hi"},
			{"type":"additional_tools","tools":[{"type":"function","name":"late"}]},
			{"type":"function_call","call_id":"c0","name":"read","namespace":"b","arguments":"{}"},
			{"type":"tool_search_output","call_id":"c1","tools":[{"type":"namespace","name":"c","tools":[{"type":"function","name":"found"}]}]}],
		"tools":[{"type":"function","name":"f","description":"d","strict":false,"parameters":{"type":"object"}},
			{"type":"custom","name":"patch","description":"p","format":{"type":"grammar","syntax":"lark","definition":"start: x"}},
			{"type":"namespace","name":"a","description":"x","tools":[{"type":"function","name":"read"}]},
			{"type":"namespace","name":"b","tools":[{"type":"function","name":"read"}]},
			{"type":"tool_search","execution":"client","description":"s","parameters":{}},
			{"type":"web_search"},{"type":"image_generation"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []chat.Tool{
		{Name: "f", Description: "d", Parameters: `{"type":"object"}`},
		{Name: "patch", Description: "p\n\nIts input follows this grammar (lark):\nstart: x", Parameters: customSchema},
		{Name: "read"},
		{Name: "b.read"},
		{Name: "tool_search", Description: "s", Parameters: `{}`},
		{Name: "late"},
	}
	if diff := cmp.Diff(want, q.tools); diff != "" {
		t.Error(diff)
	}
	if got := q.messages[1].Calls[0].Name; got != "b.read" {
		t.Errorf("the model called %q in its own words", got)
	}
	for spoken, want := range map[string]responsesTool{
		"read":        {itemFunctionCall, "a", "read", "read"},
		"b.read":      {itemFunctionCall, "b", "read", "b.read"},
		"patch":       {itemCustomCall, "", "patch", "patch"},
		"found":       {itemFunctionCall, "c", "found", "found"},
		"tool_search": {itemToolSearchCall, "", "tool_search", "tool_search"},
		"unknown":     {itemFunctionCall, "", "unknown", "unknown"},
	} {
		if got, _ := q.declared.called(spoken); got != want {
			t.Errorf("a call of %s is one of %+v, want %+v", spoken, got, want)
		}
	}
}

// TestResponsesChoice: a tool that must be called is known to the model by its own name
// for it.
func TestResponsesChoice(t *testing.T) {
	const tools = `"tools":[{"type":"function","name":"read"},{"type":"namespace","name":"a","tools":[{"type":"function","name":"read"}]}],` + hiInput + `}`
	for choice, want := range map[string]chat.ToolChoice{
		`null`:                              {},
		`"auto"`:                            {},
		`"none"`:                            {Kind: chat.ChoiceNone},
		`"required"`:                        {Kind: chat.ChoiceRequired},
		`{"type":"function","name":"read"}`: {Kind: chat.ChoiceNamed, Name: "read"},
		`{"type":"function","name":"read","namespace":"a"}`: {Kind: chat.ChoiceNamed, Name: "a.read"},
	} {
		q, err := parseResponsesRequest([]byte(`{"parallel_tool_calls":false,"tool_choice":` + choice + `,` + tools))
		if err != nil {
			t.Fatal(err)
		}
		if turn, err := q.turn(); err != nil || turn.choice != want || !turn.oneCall || turn.param != "input" {
			t.Errorf("%s: %+v, %v", choice, turn, err)
		}
	}
}

// TestResponsesAsAgentsSend: fields beyond the ones that matter break nothing.
func TestResponsesAsAgentsSend(t *testing.T) {
	q, err := parseResponsesRequest([]byte(`{"model":"m","stream":true,"tool_choice":"auto","parallel_tool_calls":true,"store":false,
		"reasoning":{"effort":"none","summary":"auto"},"include":["reasoning.encrypted_content"],"prompt_cache_key":"k",
		"client_metadata":{"a":{"b":[1]}},"previous_response_id":null,"conversation":null,"text":{"verbosity":"low","format":{"type":"text"}},"service_tier":"auto",` + hiInput + `}`))
	if err != nil {
		t.Fatal(err)
	}
	if mode, err := q.mode(); err != nil || mode != chat.None || !q.streaming() || q.summary != "auto" || !q.wantsSealed() {
		t.Errorf("%+v, mode %v, %v", q, mode, err)
	}
}

// TestManyItemsOfOneTurn: a turn that comes in very many pieces takes memory for its
// bytes, not for a copy of the turn with each of them.
func TestManyItemsOfOneTurn(t *testing.T) {
	piece := strings.Repeat("x", 900)
	body := func(begin, one, end string) []byte {
		return []byte(begin + strings.Repeat(one+",", maxBlocks-1) + one + end)
	}
	for name, parse := range map[string]func() (chat.Message, int){
		"responses": func() (chat.Message, int) {
			b := body(`{"input":[`, `{"role":"assistant","content":"`+piece+`"}`, `]}`)
			q, err := parseResponsesRequest(b)
			if err != nil || len(q.messages) != 1 {
				t.Fatal(err)
			}
			return q.messages[0], len(b)
		},
		"messages": func() (chat.Message, int) {
			b := body(`{"messages":[{"role":"assistant","content":[`, `{"type":"text","text":"`+piece+`"}`, `]}]}`)
			q, err := parseAnthropicRequest(b)
			if err != nil || len(q.messages) != 1 {
				t.Fatal(err)
			}
			return q.messages[0], len(b)
		},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, size := parse()
		runtime.ReadMemStats(&after)
		took := after.TotalAlloc - before.TotalAlloc
		if len(m.Content) != maxBlocks*len(piece) || took > 40*uint64(size) {
			t.Errorf("%s: %d bytes of text, %d allocated for a body of %d", name, len(m.Content), took, size)
		}
	}
}

// TestBadResponsesRequests: every refusal says what and where.
func TestBadResponsesRequests(t *testing.T) {
	item := func(s string) string { return `{"input":[` + s + `]}` }
	tests := []struct{ name, body, want string }{
		{"cut", `{"input":[`, "the document ends too early"},
		{"no input", `{}`, "missing input"},
		{"null input", `{"input":null}`, "missing input"},
		{"input", `{"input":1}`, "input: want a string or an array of items, got a number"},
		{"input object", `{"input":{}}`, "input: want a string or an array of items, got an object"},
		{"empty", `{"input":[]}`, "input: want at least one item"},
		{"item", item(`"x"`), "input[0]: want an object, got a string"},
		{"no type", item(`{"id":"x"}`), "missing input[0].type"},
		{"type", item(`{"type":"item_reference","id":"x"}`), `input[0].type: an item of type "item_reference" is not supported`},
		{"role", item(`{"role":"wizard","content":"x"}`), `input[0].role: want system, developer, user or assistant, got "wizard"`},
		{"no role", item(`{"type":"message","content":"x"}`), "missing input[0].role"},
		{"no content", item(`{"role":"user"}`), "missing input[0].content"},
		{"image", item(`{"role":"user","content":[{"type":"input_image","image_url":"u"}]}`), `input[0].content[0]: a part of type "input_image" is not supported`},
		{"call without id", item(`{"type":"function_call","name":"f","arguments":"{}"}`), "missing input[0].call_id"},
		{"call without name", item(`{"type":"function_call","call_id":"c","arguments":"{}"}`), "missing input[0].name"},
		{"arguments", item(`{"type":"function_call","call_id":"c","name":"f","arguments":[]}`), "input[0].arguments: want a string that holds a JSON object, got an array"},
		{"output without id", item(`{"type":"function_call_output","output":"x"}`), "missing input[0].call_id"},
		{"only outputs", item(`{"role":"system","content":"s"},{"type":"function_call_output","call_id":"c","output":"x"}`), "input: tool outputs without the calls that they answer; replay the full history"},
		{"previous", `{"previous_response_id":"resp_1",` + hiInput + `}`, "previous_response_id is not supported; replay full input instead"},
		{"conversation", `{"conversation":{"id":"x"},` + hiInput + `}`, "conversation is not supported; replay full input instead"},
		{"background", `{"background":true,` + hiInput + `}`, "background: answers are given at once only"},
		{"choice", `{"tool_choice":"always",` + hiInput + `}`, "tool_choice=always not supported; want none, auto"},
		{"choice number", `{"tool_choice":1,` + hiInput + `}`, "tool_choice: want an object, got a number"},
		{"hosted choice", `{"tool_choice":{"type":"web_search"},` + hiInput + `}`, `tool_choice.type: want function or custom, got "web_search"`},
		{"required of nothing", `{"tool_choice":"required",` + hiInput + `}`, "tool_choice: required, but the request has no tools"},
		{"unknown tool", `{"tool_choice":{"type":"function","name":"f"},` + hiInput + `}`, `tool_choice: "f" is none of the request's tools`},
		{"effort", `{"reasoning":{"effort":"heroic"},` + hiInput + `}`, "reasoning.effort: want none, minimal"},
		{"reasoning", `{"reasoning":"high",` + hiInput + `}`, "reasoning: want an object, got a string"},
		{"include", `{"include":[1],` + hiInput + `}`, "include[0]: want a string, got a number"},
		{"schema", `{"text":{"verbosity":"low","format":{"type":"json_schema","schema":{}}},` + hiInput + `}`, `text.format: type "json_schema" is not supported`},
		{"tools", `{"tools":{},` + hiInput + `}`, "tools: want an array, got an object"},
		{"nameless tool", `{"tools":[{"type":"function"}],` + hiInput + `}`, "missing tools[0].name"},
		{"nested namespace", `{"tools":[{"type":"namespace","name":"a","tools":[{"type":"namespace","name":"b","tools":[]}]}],` + hiInput + `}`,
			"tools[0].tools[0]: a namespace in a namespace is not supported"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseResponsesRequest([]byte(tt.body))
			checkRefusal(t, err, tt.want)
		})
	}
}

// FuzzResponsesRequest: whatever comes is refused with a reason, or can be asked of
// the model.
func FuzzResponsesRequest(f *testing.F) {
	for _, seed := range []string{
		`{"model":"m","instructions":"i","stream":true,"max_output_tokens":5,"tool_choice":"none","include":["x"],` + hiInput + `}`,
		`{"input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"reasoning","summary":[{"text":"r"}],"encrypted_content":"ds4:eA=="},
			{"type":"function_call","call_id":"c","name":"f","namespace":"n","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":[{"text":"x"}]},
			{"type":"custom_tool_call","call_id":"d","name":"p","input":"x"},{"type":"tool_search_output","call_id":"e","tools":[{"type":"function","name":"z"}]}],
			"tools":[{"type":"namespace","name":"n","tools":[{"type":"function","name":"f","parameters":{}}]},{"type":"custom","name":"p","format":{"syntax":"s","definition":"d"}}]}`,
		`{"input":[{"type":"message","content":{}}]}`, `{"input":[[`, `{"tools":[{"type":"namespace","name":"a","tools":[{`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	s := newTestServer(f, &fakeScheduler{}, nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := parseResponsesRequest(body)
		if err != nil {
			checkRefusal(t, err, "")
			return
		}
		checkAccepted(t, s, &q.chatRequest)
	})
}
