package speed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxAnswerBytes bounds one answer of the server.
const maxAnswerBytes = 16 << 20

// api talks to the server. It is not runtime/client, because a measurement needs
// two extensions that clients should not use: ignore_eos and timings.
type api struct {
	url  string
	http *http.Client
}

func newAPI(base string) *api {
	return &api{url: strings.TrimRight(base, "/") + "/v1/chat/completions", http: &http.Client{
		// The server is never behind a proxy, and a connection kept open would
		// outlive the measurement.
		Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true},
	}}
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// timings are the server's figures for one request, by its backend's clock.
type timings struct {
	PromptTokens     int     `json:"prompt_tokens"`
	CachedTokens     int     `json:"cached_tokens"`
	EvaluatedTokens  int     `json:"evaluated_tokens"`
	CompletionTokens int     `json:"completion_tokens"`
	PrefillMS        float64 `json:"prefill_ms"`
	DecodeMS         float64 `json:"decode_ms"`
	Attempts         int     `json:"attempts"`
	DecodeReadBytes  float64 `json:"decode_read_bytes"` // of one token, on average
}

// answer is what is kept of a completion.
type answer struct {
	text    string
	Timings timings
}

// chat asks for a greedy completion of exactly n tokens.
func (a *api) chat(ctx context.Context, messages []message, n int) (answer, error) {
	body, err := json.Marshal(map[string]any{
		"messages": messages, "max_tokens": n, "temperature": 0, "think": false, "ignore_eos": true,
	})
	if err != nil {
		return answer{}, fmt.Errorf("encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	switch {
	case err != nil:
		return answer{}, fmt.Errorf("read answer: %w", err)
	case len(data) > maxAnswerBytes:
		return answer{}, fmt.Errorf("answer is longer than %d bytes", maxAnswerBytes)
	case resp.StatusCode != http.StatusOK:
		const head = 300
		return answer{}, fmt.Errorf("server answered %d: %s", resp.StatusCode, bytes.TrimSpace(data[:min(len(data), head)]))
	}
	return decode(data)
}

// decode reads a completion and refuses one that proves nothing.
func decode(data []byte) (answer, error) {
	var got struct {
		Choices []struct {
			Message message `json:"message"`
		} `json:"choices"`
		Timings *timings `json:"timings"`
	}
	if err := json.Unmarshal(data, &got); err != nil {
		return answer{}, fmt.Errorf("answer: %w", err)
	}
	if len(got.Choices) == 0 {
		return answer{}, fmt.Errorf("answer without a choice")
	}
	t := got.Timings
	if t == nil {
		return answer{}, ErrNoTimings
	}
	if t.PromptTokens < 1 || t.EvaluatedTokens < 0 || t.CachedTokens < 0 || t.CompletionTokens < 0 ||
		t.CachedTokens+t.EvaluatedTokens > t.PromptTokens || t.PrefillMS < 0 || t.DecodeMS < 0 || t.DecodeReadBytes < 0 {
		return answer{}, fmt.Errorf("timings that cannot be: %+v", *t)
	}
	return answer{text: got.Choices[0].Message.Content, Timings: *t}, nil
}
