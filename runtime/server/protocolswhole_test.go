package server

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"
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
