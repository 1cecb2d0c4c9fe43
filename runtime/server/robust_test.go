package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sort"
	"strings"
	"testing"

	"ds4/runtime/scheduler"
)

// everyField is a document with the fields of every protocol. Each is replaced in
// turn by what no client in its right mind sends.
var everyField = map[string]string{
	"model": `"m"`, "messages": `[{"role":"user","content":"hi"}]`, "prompt": `"hi"`, "input": `"hi"`,
	"max_tokens": `4`, "max_completion_tokens": `4`, "max_output_tokens": `4`, "temperature": `0`, "top_p": `1`, "min_p": `0`,
	"top_k": `0`, "seed": `1`, "n": `1`, "stop": `"x"`, "stop_sequences": `["x"]`, "stream": `false`,
	"stream_options": `{"include_usage":true}`, "thinking": `{"type":"disabled"}`, "think": `false`, "reasoning_effort": `"low"`,
	"reasoning": `{"effort":"low"}`, "tools": `[]`, "tool_choice": `"none"`, "system": `"s"`, "instructions": `"s"`,
	"output_config": `{}`, "logprobs": `false`, "top_logprobs": `0`, "ignore_eos": `false`, "metadata": `{}`, "unknown": `1`,
}

func document(fields map[string]string) string {
	var parts []string
	for name, value := range fields {
		parts = append(parts, fmt.Sprintf("%q:%s", name, value))
	}
	sort.Strings(parts)
	return "{" + strings.Join(parts, ",") + "}"
}

// TestNastyRequests: whatever the body, each endpoint answers, or says in a JSON
// error what is wrong: 400 or 413, and no handler panics.
func TestNastyRequests(t *testing.T) {
	sched := &fakeScheduler{submit: play(text("hi"), done(scheduler.FinishStop))}
	s := newTestServer(t, sched, nil)
	nest := strings.Repeat("[", 100_000)
	values := []string{
		"null", "true", "0", "-1", "-0.0", "1e400", "-1e400", "1e-400", "99999999999999999999", "0.1", `""`, `"\u0000"`,
		`"\ud800"`, "\"\xff\xfe\xc3\"", "[]", "{}", "[null]", "[[]]", `[{}]`, `{"type":null}`, `{"a":{"a":{"a":{}}}}`, nest,
		nest + strings.Repeat("]", len(nest)), `[{"role":null,"content":null}]`, `[{"role":"user","content":[null]}]`,
		`[{"role":"user","content":[{"type":"text","text":null}]}]`, `[{"type":null}]`, `[{"function":null}]`,
		`[{"type":"function","function":{"name":null,"parameters":null}}]`, `[{"role":"assistant","tool_calls":[null]}]`,
		"nul", `"` + strings.Repeat("x", 1<<16) + `"`, `[` + strings.Repeat(`"",`, 1<<16) + `""]`,
	}
	bodies := []string{"", " ", "null", "[]", "{", "}", `{"a"`, "\xff", "\x00", `{"messages":[{"role":"user","content":"a"}]}x`, document(everyField)}
	for name := range everyField {
		for _, v := range values {
			if len(v) > 1<<12 && !strings.Contains("messages prompt input tools stop unknown", name) {
				continue // seconds, and always the same reader
			}
			fields := map[string]string{}
			for k, old := range everyField {
				fields[k] = old
			}
			fields[name] = v
			bodies = append(bodies, document(fields))
		}
	}
	for path, methods := range s.routes {
		if methods[http.MethodPost] == nil {
			continue
		}
		for _, body := range bodies {
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
			var e struct {
				Error *struct{ Message, Type string }
			}
			err := json.Unmarshal(w.Body.Bytes(), &e)
			good := w.Code == http.StatusOK || w.Code == http.StatusNoContent
			refused := w.Code >= 400 && w.Code < 500 && err == nil && e.Error != nil && e.Error.Message != "" && e.Error.Type != ""
			if path == "/v1/kv/clear" || path == "/v1/kv/purge" || path == "/v1/kv/restore" {
				refused = refused || w.Code == http.StatusServiceUnavailable || w.Code == http.StatusNotFound
			}
			if !good && !refused {
				t.Fatalf("%s: status %d, %.300s\nto %.300s", path, w.Code, w.Body, body)
			}
		}
	}
}
