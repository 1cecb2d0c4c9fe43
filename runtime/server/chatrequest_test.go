package server

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ds4/runtime/chat"
	"ds4/runtime/sample"
	"ds4/runtime/scheduler"
)

const toolF = `{"type":"function","function":{"name":"f"}}`

const hello = `"messages":[{"role":"user","content":"hi"}]`

// TestBadRequests: every refusal is a 400 whose message says what and where.
func TestBadRequests(t *testing.T) {
	deep := strings.Repeat(`{"a":[`, 40) + strings.Repeat(`]}`, 40)
	tests := []struct{ name, body, want string }{
		{"empty", ``, "invalid JSON request: at byte 0: the document ends too early"},
		{"blank", " \n\t ", "the document ends too early"},
		{"garbage", `hello`, "invalid JSON request: at byte 0: invalid character 'h'"},
		{"binary", "\x00\x01\x02\xff\xfe", "invalid character"},
		{"gzip", "\x1f\x8b\x08\x00", "invalid character '\\x1f'"},
		{"cut", `{"messages":[{"role":"us`, "the document ends too early"},
		{"cut after name", `{"messages"`, "the document ends too early"},
		{"array", `[1,2]`, "want an object, got an array"},
		{"string", `"hi"`, "want an object, got a string"},
		{"null", `null`, "want an object, got null"},
		{"trailing brace", `{` + hello + `}}`, "more follows the object"},
		{"trailing object", `{` + hello + `}{}`, "more follows the object"},
		{"trailing garbage", `{` + hello + `} x`, "more follows the object"},
		{"trailing comma", `{` + hello + `,}`, "invalid character '}'"},
		{"NaN", `{"temperature":NaN,` + hello + `}`, "invalid character 'N'"},
		{"Infinity", `{"temperature":-Infinity,` + hello + `}`, "invalid character 'I'"},
		{"several choices", `{"n":2,` + hello + `}`, "2 choices are not supported"},
		{"hex number", `{"seed":0x10,` + hello + `}`, "invalid character 'x'"},
		{"raw line break", "{\"model\":\"a\nb\"," + hello + "}", "invalid character '\\n'"},
		{"bad escape", `{"model":"\q",` + hello + `}`, "invalid character 'q'"},
		{"too deep", `{"x":` + deep + `,` + hello + `}`, "nested deeper than 64 levels"},
		{"absurdly deep", strings.Repeat("[", 1<<20), "want an object"},
		{"absurdly deep field", `{"x":` + strings.Repeat("[", 1<<20), "nested deeper than 64 levels"},

		{"no messages", `{}`, "missing messages"},
		{"null messages", `{"messages":null}`, "missing messages"},
		{"empty messages", `{"messages":[]}`, "messages: want at least one message"},
		{"messages object", `{"messages":{}}`, "messages: want an array, got an object"},
		{"messages replaced by null", `{` + hello + `,"messages":null}`, "missing messages"},
		{"message number", `{"messages":[7]}`, "messages[0]: want an object, got a number"},
		{"no role", `{"messages":[{"content":"x"}]}`, "missing messages[0].role"},
		{"role number", `{"messages":[{"role":1}]}`, "messages[0].role: want a string, got a number"},
		{"role unknown", `{"messages":[{"role":"wizard","content":"x"}]}`, `messages[0].role: want system, developer, user, assistant or tool, got "wizard"`},
		{"no content", `{"messages":[{"role":"user"}]}`, "missing messages[0].content"},
		{"null content", `{"messages":[{"role":"user","content":null}]}`, "missing messages[0].content"},
		{"content number", `{"messages":[{"role":"user","content":1}]}`, "messages[0].content: want a string or an array of parts, got a number"},
		{"image", `{"messages":[{"role":"user","content":[{"type":"text","text":"x"},{"type":"image_url","image_url":{"url":"u"}}]}]}`,
			`messages[0].content[1]: a part of type "image_url" is not supported`},
		{"part string", `{"messages":[{"role":"user","content":["x"]}]}`, "messages[0].content[0]: want an object, got a string"},
		{"part without text", `{"messages":[{"role":"user","content":[{"type":"text"}]}]}`, "missing messages[0].content[0].text"},
		{"tool calls", `{"messages":[{"role":"assistant","tool_calls":[{"id":"x"}]}]}`, "missing messages[0].tool_calls[0].function.name"},
		{"calls of a user", `{"messages":[{"role":"user","content":"x","tool_calls":[{"id":"x","function":{"name":"f"}}]}]}`,
			"messages[0].tool_calls: only assistant messages call tools"},
		{"result without content", `{"messages":[{"role":"tool","tool_call_id":"x"}]}`, "missing messages[0].content"},
		{"arguments array", `{"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":[]}}]}]}`,
			"messages[0].tool_calls[0].function.arguments: want a string that holds a JSON object, got an array"},
		{"second message", `{"messages":[{"role":"user","content":"a"},{"role":"user"}]}`, "missing messages[1].content"},

		{"tool without function", `{"tools":[{"type":"function"}],` + hello + `}`, "missing tools[0].function"},
		{"tool without name", `{"tools":[{"type":"function","function":{}}],` + hello + `}`, "missing tools[0].function.name"},
		{"tool of another type", `{"tools":[{"type":"web_search"}],` + hello + `}`, `tools[0].type: tools of type "web_search" are not supported`},
		{"tool name", `{"tools":[{"type":"function","function":{"name":"` + strings.Repeat("n", 257) + `"}}],` + hello + `}`,
			"tools[0].function.name: 257 bytes, the limit is 256"},
		{"tools of one name", `{"tools":[` + toolF + `,` + toolF + `],` + hello + `}`, `tools[1].function.name: "f" is the name of another tool, too`},
		{"schema string", `{"tools":[{"type":"function","function":{"name":"f","parameters":"x"}}],` + hello + `}`,
			"tools[0].function.parameters: want an object, got a string"},
		{"many tools", `{"tools":[` + manyTools(1025) + `],` + hello + `}`, "tools: more than 1024"},
		{"choice word", `{"tool_choice":"any",` + hello + `}`, "tool_choice: want none, auto, required or an object"},
		{"choice number", `{"tool_choice":1,` + hello + `}`, "tool_choice: want a string or an object, got a number"},
		{"choice without tools", `{"tool_choice":"required",` + hello + `}`, "tool_choice: required, but the request has no tools"},
		{"choice of another", `{"tools":[` + toolF + `],"tool_choice":{"type":"function","function":{"name":"g"}},` + hello + `}`,
			`tool_choice: "g" is none of the request's tools`},
		{"choice of nothing", `{"tool_choice":{"type":"function"},` + hello + `}`, "missing tool_choice.function.name"},
		{"tools not array", `{"tools":{},` + hello + `}`, "tools: want an array, got an object"},
		{"JSON mode", `{"response_format":{"type":"json_object"},` + hello + `}`, `response_format: type "json_object" is not supported; only text is`},
		{"JSON schema", `{"response_format":{"json_schema":{"schema":{}},"type":"json_schema"},` + hello + `}`, `response_format: type "json_schema"`},
		{"format word", `{"response_format":"text",` + hello + `}`, "response_format: want an object, got a string"},
		{"top logprobs alone", `{"top_logprobs":2,` + hello + `}`, "top_logprobs: needs logprobs true"},
		{"many top logprobs", `{"logprobs":true,"top_logprobs":21,` + hello + `}`, "top_logprobs: want 0 to 20, got 21"},
		{"negative top logprobs", `{"logprobs":true,"top_logprobs":-1,` + hello + `}`, "top_logprobs: want 0 to 20, got -1"},
		{"logprobs number", `{"logprobs":2,` + hello + `}`, "logprobs: want true or false, got a number"},
		{"tokens string", `{"max_tokens":"5",` + hello + `}`, "max_tokens: want a number, got a string"},
		{"cold", `{"temperature":-0.1,` + hello + `}`, "temperature: want 0 to 100, got -0.1"},
		{"infinitely hot", `{"temperature":1e999,` + hello + `}`, "temperature: want 0 to 100, got +Inf"},
		{"top_p", `{"top_p":1.5,` + hello + `}`, "top_p: want 0 to 1, got 1.5"},
		{"min_p", `{"min_p":-1,` + hello + `}`, "min_p: want 0 to 1, got -1"},
		{"stream word", `{"stream":"yes",` + hello + `}`, "stream: want true or false, got a string"},
		{"stream options", `{"stream_options":[],` + hello + `}`, "stream_options: want an object, got an array"},
		{"usage", `{"stream_options":{"include_usage":1},` + hello + `}`, "stream_options.include_usage: want true or false, got a number"},
		{"stop number", `{"stop":1,` + hello + `}`, "stop: want a string or an array of strings, got a number"},
		{"stop array", `{"stop":["a",[]],` + hello + `}`, "stop[1]: want a string, got an array"},
		{"many stops", `{"stop":["` + strings.Repeat(`a","`, 16) + `b"],` + hello + `}`, "stop: more than 16 strings"},
		{"long stop", `{"stop":"` + strings.Repeat("a", 1025) + `",` + hello + `}`, "stop: 1025 bytes, the limit is 1024"},
		{"long model", `{"model":"` + strings.Repeat("m", 257) + `",` + hello + `}`, "model: 257 bytes, the limit is 256"},
		{"effort", `{"reasoning_effort":"heroic",` + hello + `}`, `reasoning_effort: want none, minimal, low, medium, high, xhigh or max, got "heroic"`},
		{"thinking word", `{"thinking":"on",` + hello + `}`, "thinking: want true, false or an object, got a string"},
		{"thinking type", `{"thinking":{"type":"sometimes"},` + hello + `}`, `thinking.type: want enabled or disabled, got "sometimes"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseChatRequest([]byte(tt.body))
			var api *apiError
			if !errors.As(err, &api) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			if api.status != http.StatusBadRequest || api.Type != typeInvalid {
				t.Errorf("status %d, type %s", api.status, api.Type)
			}
			if !strings.Contains(api.Message, tt.want) {
				t.Errorf("message %q, want %q", api.Message, tt.want)
			}
			if len(api.Message) > 400 {
				t.Errorf("message of %d bytes", len(api.Message))
			}
		})
	}
}

func TestTooManyMessages(t *testing.T) {
	one := `{"role":"user","content":""}`
	body := `{"messages":[` + strings.Repeat(one+",", maxMessages) + one + `]}`
	_, err := parseChatRequest([]byte(body))
	if err == nil || !strings.Contains(err.Error(), "messages: more than 65536") {
		t.Errorf("got %v", err)
	}
}

// TestFields: what arrives at the scheduler.
func TestFields(t *testing.T) {
	p := func(v float64) *float64 { return &v }
	n := func(v int64) *int64 { return &v }
	yes, no := true, false
	user := []chat.Message{{Role: "user", Content: "hi"}}
	tests := []struct {
		name, body string
		want       chatRequest
	}{
		{"plain", `{` + hello + `}`, chatRequest{messages: user}},
		{"null is absent",
			`{"model":null,"temperature":null,"top_k":null,"stop":null,"stream":null,"stream_options":null,"thinking":null,
			  "tools":null,"tool_choice":null,"logprobs":null,"top_logprobs":null,"response_format":null,"parallel_tool_calls":null,
			  "n":null,"ignore_eos":null,"think":null,"min_p":null,"top_p":null,"max_completion_tokens":null,"max_tokens":null,"seed":null,"reasoning_effort":null,` + hello + `}`,
			chatRequest{messages: user}},
		{"unknown fields", `{"x":{"y":[1,{"z":null}]},"logit_bias":{"1":2},` + hello + `}`, chatRequest{messages: user}},
		{"one choice", `{` + hello + `,"n":1}`, chatRequest{messages: user, choices: n(1)}},
		{"names match exactly", `{"Messages":[],"STREAM":true,` + hello + `}`, chatRequest{messages: user}},
		{"duplicates replace",
			`{"messages":[{"role":"system","content":"s","reasoning_content":"r"},{"role":"user","content":"u"}],"temperature":1,"temperature":0,
			  "stop":["a","b"],"stop":"c","stream":true,"stream":null,"messages":[{"role":"system","role":"user","content":"x","content":"hi"}]}`,
			chatRequest{messages: user, temperature: p(0), stop: []string{"c"}}},
		{"huge numbers clamp",
			`{"max_tokens":1e400,"seed":-1e30,"top_k":99999999999999999999,` + hello + `}`,
			chatRequest{messages: user, maxTokens: n(math.MaxInt64), seed: n(math.MinInt64), topK: n(math.MaxInt64)}},
		{"fractions are cut", `{"max_tokens":7.9,"top_k":-0.5,` + hello + `}`, chatRequest{messages: user, maxTokens: n(7), topK: n(0)}},
		{"big seed is exact", `{"seed":9007199254740993,` + hello + `}`, chatRequest{messages: user, seed: n(9007199254740993)}},
		{"tiny number", `{"temperature":1e-400,` + hello + `}`, chatRequest{messages: user, temperature: p(0)}},
		{"stop", `{"stop":["a","","b"],` + hello + `}`, chatRequest{messages: user, stop: []string{"a", "b"}}},
		{"empty stop", `{"stop":"",` + hello + `}`, chatRequest{messages: user}},
		{"stream", `{"stream":true,"stream_options":{"include_usage":true,"x":[]},` + hello + `}`,
			chatRequest{messages: user, stream: &yes, includeUsage: &yes}},
		{"thinking object", `{"thinking":{"type":"disabled","budget_tokens":5},` + hello + `}`, chatRequest{messages: user, thinking: &no}},
		{"think", `{"think":true,` + hello + `}`, chatRequest{messages: user, think: &yes}},
		{"hidden tools", `{"tools":[` + toolF + `],"tool_choice":"none",` + hello + `}`,
			chatRequest{messages: user, tools: []chat.Tool{{Name: "f"}}, toolChoice: chat.ToolChoice{Kind: chat.ChoiceNone}}},
		{"tools", `{"tools":[{"type":"function","function":{"strict":true,"parameters":{"type": "object"},"description":"d","name":"f","x":1},"y":[]}],"tool_choice":"auto",` + hello + `}`,
			chatRequest{messages: user, tools: []chat.Tool{{Name: "f", Description: "d", Parameters: `{"type": "object"}`}}}},
		{"calls and results", `{"messages":[{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\": 1}"}},
			{"id":"b","function":{"arguments":{"y": [2]},"name":"g"}}]},{"role":"tool","tool_call_id":"a","content":"r"},{"role":"function","name":"g","content":"s"}]}`,
			chatRequest{messages: []chat.Message{
				{Role: "assistant", Calls: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{"x": 1}`}, {ID: "b", Name: "g", Arguments: `{"y": [2]}`}}},
				{Role: "tool", CallID: "a", Content: "r"}, {Role: "tool", Content: "s"},
			}}},
		{"no tools", `{"tools":[],"tool_choice":"auto",` + hello + `}`, chatRequest{messages: user}},
		{"parts", `{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"text":"b","type":"text","cache_control":{}}]}]}`,
			chatRequest{messages: []chat.Message{{Role: "user", Content: "ab"}}}},
		{"no parts", `{"messages":[{"role":"user","content":[]}]}`, chatRequest{messages: []chat.Message{{Role: "user"}}}},
		{"assistant", `{"messages":[{"role":"assistant","content":null,"reasoning_content":"r","tool_calls":[]}]}`,
			chatRequest{messages: []chat.Message{{Role: "assistant", Reasoning: "r"}}}},
		{"other name of reasoning", `{"messages":[{"role":"assistant","reasoning":"r","reasoning_content":null}]}`,
			chatRequest{messages: []chat.Message{{Role: "assistant", Reasoning: "r"}}}},
		{"escapes", `{"messages":[{"role":"user","content":"\ud83d\ude00\u0000\ud800"}]}`,
			chatRequest{messages: []chat.Message{{Role: "user", Content: "😀\x00\ufffd"}}}},
		{"not UTF-8", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\xffb\"}]}",
			chatRequest{messages: []chat.Message{{Role: "user", Content: "a\ufffdb"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseChatRequest([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tt.want, got, cmp.AllowUnexported(chatRequest{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestThinkingMode(t *testing.T) {
	tests := []struct {
		body string
		want chat.Mode
	}{
		{`{`, chat.High},
		{`{"model":"deepseek-chat",`, chat.None},
		{`{"model":"deepseek-reasoner",`, chat.High},
		{`{"model":"deepseek-chat","thinking":true,`, chat.High},
		{`{"model":"deepseek-reasoner","thinking":{"type":"disabled"},`, chat.None},
		{`{"model":"deepseek-chat","thinking":{},`, chat.None},
		{`{"think":false,"thinking":{"type":"enabled"},`, chat.High},
		{`{"thinking":true,"think":false,`, chat.High},
		{`{"thinking":true,"think":null,`, chat.High}, // null says nothing
		{`{"reasoning_effort":"low",`, chat.High},
		{`{"reasoning_effort":"MAX",`, chat.Max},
		{`{"reasoning_effort":"none",`, chat.None},
		{`{"reasoning_effort":"",`, chat.High},
		{`{"reasoning_effort":"none","thinking":true,`, chat.High},
		{`{"reasoning_effort":"max","thinking":false,`, chat.None},
		{`{"reasoning_effort":"max","thinking":true,`, chat.Max},
		{`{"reasoning_effort":"medium","model":"deepseek-chat",`, chat.High},
	}
	for _, tt := range tests {
		q, err := parseChatRequest([]byte(tt.body + hello + `}`))
		if err != nil {
			t.Fatalf("%s: %v", tt.body, err)
		}
		if mode, err := q.mode(); err != nil || mode != tt.want {
			t.Errorf("%s: got %v, %v, want %v", tt.body, mode, err, tt.want)
		}
	}
}

func manyTools(n int) string {
	var list []string
	for i := range n {
		list = append(list, strings.Replace(toolF, `"f"`, fmt.Sprintf(`"f%d"`, i), 1))
	}
	return strings.Join(list, ",")
}

func mustTurn(t testing.TB, q *chatRequest) *turn {
	t.Helper()
	turn, err := q.turn()
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

// TestGeneration: thinking uses the model's own sampling unless the server is told
// otherwise; without thinking the client decides.
func TestGeneration(t *testing.T) {
	const knobs = `"temperature":0,"top_p":0.5,"min_p":0.25,"top_k":-3,"seed":-2,"max_tokens":9000000000,"ignore_eos":true,`
	asked := sample.Params{Temperature: 0, TopP: 0.5, MinP: 0.25, TopK: 0, Seed: math.MaxUint64 - 1}
	standard := sample.Defaults()
	standard.Seed = asked.Seed
	tests := []struct {
		name, body string
		honour     bool
		want       sample.Params
	}{
		{"thinking", `{` + knobs, false, standard},
		{"thinking, honoured", `{` + knobs, true, asked},
		{"not thinking", `{"thinking":false,` + knobs, false, asked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, &fakeScheduler{}, func(c *Config) { c.ThinkingSampling = tt.honour })
			q, err := parseChatRequest([]byte(tt.body + hello + `}`))
			if err != nil {
				t.Fatal(err)
			}
			req, err := s.generation(mustTurn(t, q))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, req.Sampling); diff != "" {
				t.Error(diff)
			}
			if !req.IgnoreEOS {
				t.Error("ignore_eos is lost")
			}
			if req.MaxTokens != testModel.ContextTokens {
				t.Errorf("max tokens %d", req.MaxTokens)
			}
			if req.Thinking != (tt.name != "not thinking") {
				t.Errorf("thinking %v", req.Thinking)
			}
		})
	}
}

// TestOutputLimit: the limit of output is clamped to what there is room for, in every
// protocol; nothing at all is a limit, too.
func TestOutputLimit(t *testing.T) {
	s := newTestServer(t, &fakeScheduler{}, nil)
	type parser func(body string) (*turn, error)
	protocols := map[string]struct {
		rest   string
		fields []string
		parse  parser
	}{
		"chat": {hello, []string{"max_tokens", "max_completion_tokens"}, func(body string) (*turn, error) {
			q, err := parseChatRequest([]byte(body))
			if err != nil {
				return nil, err
			}
			return q.turn()
		}},
		"completions": {`"prompt":"hi"`, []string{"max_tokens"}, func(body string) (*turn, error) {
			q, err := parseCompletionRequest([]byte(body))
			if err != nil {
				return nil, err
			}
			return q.turn()
		}},
		"responses": {`"input":"hi"`, []string{"max_output_tokens", "max_tokens"}, func(body string) (*turn, error) {
			q, err := parseResponsesRequest([]byte(body))
			if err != nil {
				return nil, err
			}
			return q.turn()
		}},
		"messages": {hello, []string{"max_tokens"}, func(body string) (*turn, error) {
			q, err := parseAnthropicRequest([]byte(body))
			if err != nil {
				return nil, err
			}
			return q.turn()
		}},
	}
	for name, p := range protocols {
		for _, field := range p.fields {
			for value, want := range map[string]int{"0": 0, "-1e300": 0, "-1": 0, "0.9": 0, "1": 1, "1e300": testModel.ContextTokens} {
				promptOnly := value == "0" || value == "0.9" // less is no limit
				tn, err := p.parse(`{"` + field + `":` + value + `,` + p.rest + `}`)
				if err != nil {
					t.Errorf("%s: %s %s: %v", name, field, value, err)
					continue
				}
				if req, err := s.generation(tn); err != nil || req.MaxTokens != want || req.PromptOnly != promptOnly || req.Responses != (name == "responses") {
					t.Errorf("%s: %s %s: %v, %+v", name, field, value, err, req)
				}
			}
			if tn, err := p.parse(`{"` + field + `":null,` + p.rest + `}`); err != nil || tn.maxTokens != nil {
				t.Errorf("%s: %s null: %v, %+v", name, field, err, tn)
			}
		}
	}
}

// TestToolsOfARequest: what the scheduler gets of tools and choice.
func TestToolsOfARequest(t *testing.T) {
	s := newTestServer(t, &fakeScheduler{}, nil)
	const tools = `"tools":[` + toolF + `,{"type":"function","function":{"name":"g"}}],`
	for _, tt := range []struct {
		body  string
		tools bool
		want  scheduler.ToolUse
	}{
		{`{`, false, scheduler.ToolUse{}},
		{`{` + tools, true, scheduler.ToolUse{}},
		{`{"tool_choice":"auto",` + tools, true, scheduler.ToolUse{}},
		{`{"tool_choice":"none",` + tools, false, scheduler.ToolUse{}},
		{`{"tool_choice":"required",` + tools, true, scheduler.ToolUse{Required: true, Names: []string{"f", "g"}}},
		{`{"tool_choice":{"type":"function","function":{"name":"g"}},` + tools, true, scheduler.ToolUse{Required: true, Names: []string{"g"}}},
		{`{"parallel_tool_calls":false,` + tools, true, scheduler.ToolUse{Single: true}},
	} {
		q, err := parseChatRequest([]byte(tt.body + hello + `}`))
		if err != nil {
			t.Fatalf("%s: %v", tt.body, err)
		}
		req, err := s.generation(mustTurn(t, q))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, req.ToolUse); diff != "" || req.Tools != tt.tools {
			t.Errorf("%s: tools %v, %s", tt.body, req.Tools, diff)
		}
		if shown := strings.Contains(string(req.Prompt.CacheText()), "## Tools"); shown != tt.tools {
			t.Errorf("%s: the prompt shows tools: %v", tt.body, shown)
		}
	}
}

// TestRandomSeed: without a seed two requests differ.
func TestRandomSeed(t *testing.T) {
	s := newTestServer(t, &fakeScheduler{}, nil)
	for _, body := range []string{`{`, `{"seed":0,`, `{"seed":null,`} {
		q, err := parseChatRequest([]byte(body + hello + `}`))
		if err != nil {
			t.Fatal(err)
		}
		a, err := s.generation(mustTurn(t, q))
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.generation(mustTurn(t, q))
		if err != nil {
			t.Fatal(err)
		}
		if a.Sampling.Seed == b.Sampling.Seed || a.Sampling.Seed == 0 {
			t.Errorf("%s: seeds %d and %d", body, a.Sampling.Seed, b.Sampling.Seed)
		}
		if a.MaxTokens != 0 {
			t.Errorf("max tokens %d, want the scheduler's default", a.MaxTokens)
		}
	}
}

// FuzzChatRequest: any bytes are either refused with a short 400 or understood within
// the limits.
func FuzzChatRequest(f *testing.F) {
	for _, seed := range []string{
		`{` + hello + `}`,
		`{"model":"m","stream":true,"stream_options":{"include_usage":true},"max_tokens":5,"temperature":0.5,"stop":["a"],` + hello + `}`,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant","content":"b","reasoning_content":"c"}]}`,
		`{"thinking":{"type":"enabled"},"reasoning_effort":"max","seed":1e99,"tools":[],"tool_choice":"none",` + hello + `}`,
		`{"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}],"tool_choice":"auto",` + hello + `}`,
		`{"messages":[{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"r"}]}`,
		`{"messages":[[[[`, `{"x":{"x":{"x":`, `{}{}`, `nul`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	s := newTestServer(f, &fakeScheduler{}, nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := parseChatRequest(body)
		if err != nil {
			var api *apiError
			if !errors.As(err, &api) || api.status != http.StatusBadRequest || api.Message == "" {
				t.Fatalf("not a refusal: %v", err)
			}
			if len(api.Message) > 1024 {
				t.Fatalf("message of %d bytes", len(api.Message))
			}
			return
		}
		if len(q.messages) == 0 || len(q.stop) > maxStops || len(q.model) > maxModelBytes {
			t.Fatalf("limits passed: %+v", q)
		}
		req, err := s.generation(mustTurn(t, q))
		if err != nil {
			t.Fatalf("accepted, then refused: %v", err)
		}
		if err := req.Sampling.Validate(); err != nil {
			t.Fatal(err)
		}
		if req.MaxTokens < 0 {
			t.Fatalf("max tokens %d", req.MaxTokens)
		}
	})
}
