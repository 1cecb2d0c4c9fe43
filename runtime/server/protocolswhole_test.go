package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"ds4/runtime/scheduler"
)

// counted is what the protocols say about tokens, each in its own words.
type counted struct {
	Usage struct {
		// OpenAI's chat and plain completions.
		PromptTokens  int           `json:"prompt_tokens"`
		PromptDetails *usageDetails `json:"prompt_tokens_details"`
		// OpenAI's responses, and Anthropic's messages.
		InputTokens     int           `json:"input_tokens"`
		InputDetails    *usageDetails `json:"input_tokens_details"`
		CacheReadTokens int           `json:"cache_read_input_tokens"`
		CacheMadeTokens int           `json:"cache_creation_input_tokens"`
	}
}

// tokens returns the prompt's tokens, those of them that were reused, and the others.
func (c *counted) tokens() (prompt, cached, written int) {
	u := &c.Usage
	for _, d := range []*usageDetails{u.PromptDetails, u.InputDetails} {
		if d != nil {
			return u.PromptTokens + u.InputTokens, d.CachedTokens, d.CacheWriteTokens
		}
	}
	return u.InputTokens + u.CacheReadTokens + u.CacheMadeTokens, u.CacheReadTokens, u.CacheMadeTokens
}

// TestWholeUsage: what each protocol says about cached and written tokens is what the
// backend counted, cold and warm.
func TestWholeUsage(t *testing.T) {
	for path, body := range map[string]string{
		"/v1/chat/completions": `{"max_tokens":2,"thinking":false,"messages":[{"role":"user","content":"What does strings.Cut do?"}]}`,
		"/v1/completions":      `{"max_tokens":2,"prompt":"What does strings.Cut do?"}`,
		"/v1/responses":        `{"max_output_tokens":2,"reasoning":{"effort":"none"},"input":"What does strings.Cut do?"}`,
		"/v1/messages":         `{"max_tokens":2,"thinking":{"type":"disabled"},"messages":[{"role":"user","content":"What does strings.Cut do?"}]}`,
	} {
		t.Run(path, func(t *testing.T) {
			w := newWhole(t, "", nil)
			for _, warm := range []bool{false, true} {
				before := w.sched.Stats()
				resp, err := w.http.Post(w.url+path, "application/json", bytes.NewReader([]byte(body)))
				if err != nil {
					t.Fatal(err)
				}
				data, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				var c counted
				if err != nil || json.Unmarshal(data, &c) != nil || resp.StatusCode != http.StatusOK {
					t.Fatalf("%d %v %s", resp.StatusCode, err, data)
				}
				after := w.sched.Stats()
				prompt, cached, written := c.tokens()
				if got := int(after.CachedTokens - before.CachedTokens); got != cached || warm != (cached > 0) {
					t.Errorf("warm %v: says %d cached tokens, the backend counted %d", warm, cached, got)
				}
				if got := int(after.PrefillTokens - before.PrefillTokens); got != written || cached+written != prompt {
					t.Errorf("warm %v: says %d written of %d tokens, the backend counted %d", warm, written, prompt, got)
				}
			}
		})
	}
}

// TestWholeShutdownOfProtocols: whatever runs or waits when the server is told to end, its
// client hears so in the words of its protocol: a stream in its last event, who waits for
// all of the answer in a 503 that says when to come back; and so does who comes later.
func TestWholeShutdownOfProtocols(t *testing.T) {
	const turns = `"messages":[{"role":"user","content":"Who are you?"}],"max_tokens":900`
	protocols := map[string]struct{ body, event, whole string }{
		"/v1/chat/completions": {turns, "event: error\ndata: {\"error\":{\"message\":\"server shutting down\",\"type\":\"server_error\"}}\n\n", `{"error":{"message":"server shutting down","type":"server_error"}}`},
		"/v1/completions": {`"prompt":"x","max_tokens":900`, "event: error\ndata: {\"error\":{\"message\":\"server shutting down\",\"type\":\"server_error\"}}\n\n",
			`{"error":{"message":"server shutting down","type":"server_error"}}`},
		"/v1/responses": {`"input":"x","max_output_tokens":900`, `"status":"failed","model":"ds4-tiny","error":{"code":"server_error","message":"server shutting down"}`,
			`{"error":{"message":"server shutting down","type":"server_error"}}`},
		"/v1/messages": {turns, "event: error\ndata: {\"type\":\"error\",\"error\":{\"message\":\"server shutting down\",\"type\":\"overloaded_error\"}}\n\n",
			`{"type":"error","error":{"message":"server shutting down","type":"overloaded_error"}}`},
	}
	w := newWhole(t, "at=commit,label=^graph embed tokens$,phase=decode,delay=20ms,pass=true", nil)
	send := func(path, body string) (status int, retry, answer string) {
		resp, err := w.http.Post(w.url+path, "application/json", strings.NewReader(body))
		if err != nil {
			return 0, "", err.Error()
		}
		defer resp.Body.Close()
		all, err := io.ReadAll(resp.Body)
		if err != nil {
			return 0, "", err.Error()
		}
		return resp.StatusCode, resp.Header.Get("Retry-After"), string(all)
	}
	refused := func(what string, status int, retry, answer, want string) {
		if status != http.StatusServiceUnavailable || retry != "1" || strings.TrimSpace(answer) != want {
			t.Errorf("%s: %d, retry after %q, %s", what, status, retry, answer)
		}
	}
	var clients sync.WaitGroup
	for path, p := range protocols {
		clients.Go(func() {
			status, _, answer := send(path, `{"stream":true,"ignore_eos":true,`+p.body+`}`)
			if last := answer[max(0, strings.LastIndex(strings.TrimSpace(answer), "\n\n")):]; status != http.StatusOK ||
				!strings.Contains(last, p.event) || strings.Contains(answer, "[DONE]") || strings.Contains(answer, "message_stop") {
				t.Errorf("%s, streamed: %d %s", path, status, answer)
			}
		})
		clients.Go(func() {
			status, retry, answer := send(path, `{"ignore_eos":true,`+p.body+`}`)
			refused(path, status, retry, answer, p.whole)
		})
	}
	w.eventually("two that run and six that wait", func(s scheduler.Stats) bool {
		return s.DecodeTokens > 2 && s.ActiveRequests == 2 && s.QueueDepth == 2*len(protocols)-2
	})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := w.sched.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	clients.Wait()
	for path, p := range protocols {
		status, retry, answer := send(path, `{"stream":true,`+p.body+`}`)
		refused(path+" afterwards", status, retry, answer, p.whole)
	}
}
