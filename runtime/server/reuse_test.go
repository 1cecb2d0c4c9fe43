package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// exampleTools are what the embedded model was trained with, among others.
const exampleTools = `[
 {"type":"function","function":{"name":"get_weather","description":"Get the current weather of a city",
  "parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}},
 {"type":"function","function":{"name":"add","description":"Add two integers",
  "parameters":{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"required":["a","b"]}}}]`

// talk is a conversation that grows as an agent's does: what comes back is sent again.
type talk struct {
	*whole
	t        *testing.T
	fields   map[string]any // of every request
	messages []map[string]any
}

// say sends a user's text, or the results of the last turn's calls, and returns the
// answer. The numbers of its usage must be those that the backend counts.
func (k *talk) say(messages ...map[string]any) (*chatCompletion, uint64) {
	k.t.Helper()
	k.messages = append(k.messages, messages...)
	body := map[string]any{"messages": k.messages, "max_tokens": 120, "seed": 7, "temperature": 0}
	for name, v := range k.fields {
		body[name] = v
	}
	before := k.sched.Stats()
	full := k.post(k.t, body)
	after := k.sched.Stats()
	evaluated := after.PrefillTokens - before.PrefillTokens
	u := full.Usage
	if int(evaluated) != u.PromptDetails.CacheWriteTokens || u.PromptDetails.CachedTokens+u.PromptDetails.CacheWriteTokens != u.PromptTokens ||
		after.DecodeTokens-before.DecodeTokens != uint64(u.CompletionTokens-1) {
		k.t.Errorf("usage %+v, but the backend evaluated %d and decoded %d", u, evaluated, after.DecodeTokens-before.DecodeTokens)
	}
	m := full.Choices[0].Message
	var back map[string]any
	data, err := json.Marshal(m)
	if err == nil {
		err = json.Unmarshal(data, &back)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	k.messages = append(k.messages, back)
	return full, evaluated
}

func (w *whole) post(t *testing.T, body map[string]any) *chatCompletion {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := w.http.Post(w.url+"/v1/chat/completions", "application/json", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v %s: %s", err, resp.Status, answer)
	}
	full := new(chatCompletion)
	if err := json.Unmarshal(answer, full); err != nil {
		t.Fatal(err)
	}
	return full
}

func userSays(text string) map[string]any { return map[string]any{"role": "user", "content": text} }

func results(full *chatCompletion, text string) (list []map[string]any) {
	for _, c := range full.Choices[0].Message.Calls {
		list = append(list, map[string]any{"role": "tool", "tool_call_id": c.ID, "content": text})
	}
	return list
}

// TestReuseOverFiveTurns: from the second turn on, the backend evaluates what is new and
// nothing else, in every thinking mode, with and without tools (package chat has the same of maximal
// effort, which needs a larger context). Only where the template
// drops the reasoning of the turn before, its answer is evaluated again without it.
func TestReuseOverFiveTurns(t *testing.T) {
	about := map[bool][]string{
		false: {"What does strings.Cut do?", "dimly?", "Who are you?", "Explain math.J1.", "Describe package crypto/sha512."},
		true: {"What is the weather in Paris?", "What is 12 plus 30?", "What is the weather in Tokyo?", "What is 918 plus 917?",
			"What is the weather in Rome?"},
	}
	for _, tools := range []bool{false, true} {
		for _, effort := range []string{"none", "high", "max"} {
			if tools && effort == "max" {
				continue // in a context of this size it is high
			}
			t.Run(fmt.Sprintf("tools=%v/%s", tools, effort), func(t *testing.T) {
				k := &talk{whole: newWholeOf(t, 2048, "", nil), t: t, fields: map[string]any{"reasoning_effort": effort}}
				k.fields["max_tokens"] = 40
				if tools {
					k.fields["max_tokens"] = 120
					k.fields["tools"] = json.RawMessage(exampleTools)
				}
				called, past, prompt := 0, 0, 0
				step := func(messages ...map[string]any) *chatCompletion {
					full, evaluated := k.say(messages...)
					u := full.Usage
					// The last token of an answer was sampled and not evaluated.
					known := past - 1
					if effort != "none" && !tools {
						known = prompt - 1 // up to the think marker, which the template now leaves out
					}
					if past > 0 && int(evaluated) != u.PromptTokens-known {
						t.Errorf("evaluated %d of %d tokens, %d were known", evaluated, u.PromptTokens, known)
					}
					past, prompt = u.TotalTokens, u.PromptTokens
					return full
				}
				for _, q := range about[tools] {
					full := step(userSays(q))
					if list := results(full, "18"); len(list) > 0 {
						called++
						full = step(list...)
					}
					if len(full.Choices[0].Message.Calls) > 0 {
						step(results(full, "18")...) // it calls once more
					}
				}
				if tools && called < 4 {
					t.Errorf("the model called tools in %d turns of %d", called, len(about[tools]))
				}
			})
		}
	}
}

var callID = regexp.MustCompile(`^call_[0-9a-f]{32}$`)

// TestWholeToolDialogue: the embedded model calls the right tool, streamed and not, and
// answers with the result.
func TestWholeToolDialogue(t *testing.T) {
	k := &talk{whole: newWhole(t, "", nil), t: t, fields: map[string]any{"thinking": false, "tools": json.RawMessage(exampleTools)}}
	full, _ := k.say(userSays("What is 12 plus 30?"))
	c := full.Choices[0]
	if len(c.Message.Calls) != 1 || c.FinishReason != "tool_calls" || c.Message.Content != nil {
		t.Fatalf("got %+v", c)
	}
	call := c.Message.Calls[0]
	if call.Function.Name != "add" || call.Function.Arguments != `{"a":12,"b":30}` || call.Type != "function" || !callID.MatchString(call.ID) {
		t.Errorf("call %+v", call)
	}
	full, _ = k.say(results(full, "42")...)
	if c := full.Choices[0]; c.FinishReason != "stop" || c.Message.Content == nil || !strings.Contains(*c.Message.Content, "42") {
		t.Errorf("answer %+v", c)
	}
	// The same, streamed.
	body := fmt.Sprintf(`{"stream":true,"thinking":false,"temperature":0,"max_tokens":120,"tools":%s,"messages":[{"role":"user","content":"What is 12 plus 30?"}]}`, exampleTools)
	resp, err := k.http.Post(k.url+"/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var calls []fullCall
	pieces, finish := 0, ""
	for _, line := range strings.Split(string(text), "\n") {
		data, ok := strings.CutPrefix(line, "data: {")
		if !ok {
			continue
		}
		var chunk chatChunk
		if err := json.Unmarshal([]byte("{"+data), &chunk); err != nil {
			t.Fatal(err)
		}
		for _, d := range chunk.Choices[0].Delta.Calls {
			if d.ID != "" {
				calls = append(calls, fullCall{ID: d.ID, Function: fullFunction{Name: d.Function.Name}})
			}
			calls[d.Index].Function.Arguments += d.Function.Arguments
			pieces++
		}
		if f := chunk.Choices[0].FinishReason; f != nil {
			finish = *f
		}
	}
	if len(calls) != 1 || calls[0].Function != call.Function || calls[0].ID == call.ID || pieces < 4 || finish != "tool_calls" {
		t.Errorf("streamed: %+v in %d pieces, %s", calls, pieces, finish)
	}
}

// TestForcedCalls: a call that is required is made, of a tool that is there, whatever
// the question, with and without reasoning; one call if more are not wanted.
func TestForcedCalls(t *testing.T) {
	w := newWhole(t, "", nil)
	for _, c := range []struct {
		name, fields string
		want         []string
	}{
		{"required", `"thinking":false,"tool_choice":"required"`, []string{"get_weather", "add"}},
		{"required, thinking", `"thinking":true,"tool_choice":"required"`, []string{"get_weather", "add"}},
		{"named", `"thinking":false,"tool_choice":{"type":"function","function":{"name":"add"}}`, []string{"add"}},
		{"named, thinking, one", `"thinking":true,"parallel_tool_calls":false,"tool_choice":{"type":"function","function":{"name":"add"}}`, []string{"add"}},
	} {
		var body map[string]any
		text := fmt.Sprintf(`{"temperature":0,"max_tokens":200,"tools":%s,"messages":[{"role":"user","content":"Who are you?"}],%s}`, exampleTools, c.fields)
		if err := json.Unmarshal([]byte(text), &body); err != nil {
			t.Fatal(err)
		}
		got := w.post(t, body).Choices[0]
		if len(got.Message.Calls) == 0 || got.FinishReason != "tool_calls" {
			t.Errorf("%s: %+v", c.name, got)
			continue
		}
		for _, call := range got.Message.Calls {
			if !slices.Contains(c.want, call.Function.Name) || !json.Valid([]byte(call.Function.Arguments)) {
				t.Errorf("%s: %+v", c.name, call)
			}
		}
		if strings.Contains(c.name, "one") && len(got.Message.Calls) != 1 {
			t.Errorf("%s: %d calls", c.name, len(got.Message.Calls))
		}
	}
}

// TestLogprobs: the tokens of the text and nothing else, streamed and not; at temperature
// 0 each is the most likely one.
func TestLogprobs(t *testing.T) {
	w := newWhole(t, "", nil)
	body := map[string]any{"temperature": 0, "thinking": false, "max_tokens": 12, "logprobs": true, "top_logprobs": 3,
		"messages": []any{userSays("Who are you?")}}
	c := w.post(t, body).Choices[0]
	if c.Logprobs == nil || len(c.Logprobs.Content) != 12 {
		t.Fatalf("got %+v", c.Logprobs)
	}
	text := ""
	for i, l := range c.Logprobs.Content {
		text += l.Token
		if len(l.Top) != 3 || l.Top[0].Token != l.Token || l.Top[0].Logprob != l.Logprob || l.Logprob > 0 || l.Top[1].Logprob > l.Logprob ||
			len(l.Bytes) != len(l.Token) {
			t.Errorf("token %d: %+v", i, l)
		}
	}
	if text != *c.Message.Content {
		t.Errorf("tokens %q of %q", text, *c.Message.Content)
	}
	body["tools"], body["messages"] = json.RawMessage(exampleTools), []any{userSays("What is 12 plus 30?")}
	body["max_tokens"] = 120
	if c := w.post(t, body).Choices[0]; c.FinishReason != "tool_calls" || c.Logprobs == nil || len(c.Logprobs.Content) > 0 {
		t.Errorf("of a call: %+v", c)
	}
}
