package speed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"ds4/runtime/client"
)

// maxAnswerBytes bounds one answer of the server.
const maxAnswerBytes = 16 << 20

// api talks to the server. It is not runtime/client, because a measurement needs
// two extensions that clients should not use: ignore_eos and timings.
type api struct {
	url  string
	http *http.Client
	page *client.Client // for its counters
}

func newAPI(base string) (*api, error) {
	page, err := client.New(base)
	if err != nil {
		return nil, fmt.Errorf("speed: %w", err)
	}
	return &api{page: page, url: strings.TrimRight(base, "/") + "/v1/chat/completions", http: &http.Client{
		// The server is never behind a proxy, and a connection kept open would
		// outlive the measurement.
		Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true},
	}}, nil
}

// reads are the server's counters of what decode had to read.
type reads struct {
	bytes, tokens float64
}

// reads asks for the counters; ok is false if the server has none.
func (a *api) reads(ctx context.Context) (r reads, ok bool) {
	page, err := a.page.Metrics(ctx)
	if err != nil {
		return r, false
	}
	bytes, has := page.Sum("ds4_decode_read_bytes_total", nil)
	tokens, hasTokens := page.Sum("ds4_decode_tokens_total", nil)
	return reads{bytes, tokens}, has && hasTokens
}

// perToken is what each token since before had to read; 0 if there was none.
func (r reads) perToken(before reads) float64 {
	if r.tokens <= before.tokens || r.bytes < before.bytes {
		return 0
	}
	return (r.bytes - before.bytes) / (r.tokens - before.tokens)
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

	// The same figures under llama.cpp's names.
	PromptN     int     `json:"prompt_n"` // evaluated
	CacheN      int     `json:"cache_n"`
	PromptMS    float64 `json:"prompt_ms"`
	PredictedN  int     `json:"predicted_n"`
	PredictedMS float64 `json:"predicted_ms"`
}

// unify moves llama.cpp's figures to the names of ours.
func (t *timings) unify() {
	if t.PromptTokens > 0 || t.PromptN < 1 || t.CacheN < 0 {
		return
	}
	t.PromptTokens, t.CachedTokens, t.EvaluatedTokens = t.PromptN+t.CacheN, t.CacheN, t.PromptN
	t.PrefillMS, t.CompletionTokens, t.DecodeMS = t.PromptMS, t.PredictedN, t.PredictedMS
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
	t.unify()
	if t.PromptTokens < 1 || t.EvaluatedTokens < 0 || t.CachedTokens < 0 || t.CompletionTokens < 0 ||
		t.CachedTokens+t.EvaluatedTokens > t.PromptTokens || t.PrefillMS < 0 || t.DecodeMS < 0 ||
		t.PromptTokens > MaxFrontier || t.CompletionTokens > MaxFrontier {
		return answer{}, fmt.Errorf("timings that cannot be: %+v", *t)
	}
	return answer{text: got.Choices[0].Message.Content, Timings: *t}, nil
}
