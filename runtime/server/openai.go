package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"ds4/runtime/scheduler"
)

// answer is what all chunks of one chat completion have in common.
type answer struct {
	id           string
	created      int64 // unix seconds
	model        string
	includeUsage bool
	logprobs     bool
}

// chatCompletion is the answer in one piece.
type chatCompletion struct {
	ID      string       `json:"id"`
	Object  string       `json:"object"`
	Created int64        `json:"created"`
	Model   string       `json:"model"`
	Choices []fullChoice `json:"choices"`
	Usage   *usage       `json:"usage"`
	Timings *timings     `json:"timings"`
}

type fullChoice struct {
	Index        int             `json:"index"`
	Message      fullMessage     `json:"message"`
	Logprobs     *choiceLogprobs `json:"logprobs,omitempty"`
	FinishReason string          `json:"finish_reason"`
}

type fullMessage struct {
	Role      string     `json:"role"`
	Content   *string    `json:"content"` // null beside calls
	Reasoning string     `json:"reasoning_content,omitempty"`
	Calls     []fullCall `json:"tool_calls,omitempty"`
}

type fullCall struct {
	ID       string       `json:"id"`
	Type     string       `json:"type"`
	Function fullFunction `json:"function"`
}

type fullFunction struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// chatChunk is one event of a streamed answer.
type chatChunk struct {
	ID      string        `json:"id"`
	Object  string        `json:"object"`
	Created int64         `json:"created"`
	Model   string        `json:"model"`
	Choices []chunkChoice `json:"choices"`
	Usage   *usage        `json:"usage,omitempty"`
	Timings *timings      `json:"timings,omitempty"`
}

type chunkChoice struct {
	Index        int             `json:"index"`
	Delta        chunkDelta      `json:"delta"`
	Logprobs     *choiceLogprobs `json:"logprobs,omitempty"`
	FinishReason *string         `json:"finish_reason"`
}

type chunkDelta struct {
	Role      string      `json:"role,omitempty"`
	Reasoning string      `json:"reasoning_content,omitempty"`
	Content   string      `json:"content,omitempty"`
	Calls     []chunkCall `json:"tool_calls,omitempty"`
}

// chunkCall begins a call, with its id and name, or carries a piece of its arguments.
type chunkCall struct {
	Index    int           `json:"index"`
	ID       string        `json:"id,omitempty"`
	Type     string        `json:"type,omitempty"`
	Function chunkFunction `json:"function"`
}

type chunkFunction struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}

// usage counts tokens as OpenAI's API does. Cached and written tokens never overlap:
// the former were reused, the latter evaluated for this request.
type usage struct {
	PromptTokens     int          `json:"prompt_tokens"`
	CompletionTokens int          `json:"completion_tokens"`
	TotalTokens      int          `json:"total_tokens"`
	PromptDetails    usageDetails `json:"prompt_tokens_details"`
}

type usageDetails struct {
	CachedTokens     int `json:"cached_tokens"`
	CacheWriteTokens int `json:"cache_write_tokens"`
}

// timings is an extension: what the request cost, by the backend's own clock.
type timings struct {
	PromptTokens     int     `json:"prompt_tokens"`
	CachedTokens     int     `json:"cached_tokens"`    // reused from memory or disk
	RestoredTokens   int     `json:"restored_tokens"`  // of the cached ones, read from disk
	EvaluatedTokens  int     `json:"evaluated_tokens"` // of the prompt, by the backend
	CompletionTokens int     `json:"completion_tokens"`
	QueueMS          float64 `json:"queue_ms"`
	RestoreMS        float64 `json:"restore_ms"`
	PrefillMS        float64 `json:"prefill_ms"`
	DecodeMS         float64 `json:"decode_ms"`
	Source           string  `json:"source"`
	Attempts         int     `json:"attempts"` // prefills begun on the device
}

func newUsage(res *scheduler.Result) *usage {
	return &usage{
		PromptTokens:     res.PromptTokens,
		CompletionTokens: res.CompletionTokens,
		TotalTokens:      res.PromptTokens + res.CompletionTokens,
		PromptDetails:    usageDetails{CachedTokens: res.CachedTokens, CacheWriteTokens: res.EvaluatedTokens},
	}
}

func newTimings(res *scheduler.Result) *timings {
	return &timings{
		PromptTokens:     res.PromptTokens,
		CachedTokens:     res.CachedTokens,
		RestoredTokens:   res.RestoredTokens,
		EvaluatedTokens:  res.EvaluatedTokens,
		CompletionTokens: res.CompletionTokens,
		QueueMS:          milliseconds(res.Queue),
		RestoreMS:        milliseconds(res.RestoreTime),
		PrefillMS:        milliseconds(res.Prefill),
		DecodeMS:         milliseconds(res.Decode),
		Source:           res.Source,
		Attempts:         res.Attempts,
	}
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}

func (a *answer) chunk(d chunkDelta, finish *string) *chatChunk {
	return &chatChunk{
		ID: a.id, Object: "chat.completion.chunk", Created: a.created, Model: a.model,
		Choices: []chunkChoice{{Delta: d, FinishReason: finish}},
	}
}

// handleChat serves POST /v1/chat/completions.
func (s *Server) handleChat(w http.ResponseWriter, r *http.Request) error {
	// net/http cancels the request's context when the peer closes the connection;
	// leaving this function does the same for a peer that stopped reading.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var q *chatRequest
	run, err := s.readTurn(ctx, w, r, func(body []byte) (_ *turn, err error) {
		if q, err = parseChatRequest(body); err != nil {
			return nil, err
		}
		return q.turn()
	})
	if err != nil {
		return err
	}
	a := s.newAnswer(q)
	if q.streaming() {
		return s.stream(ctx, w, run, &chatStream{answer: a})
	}
	full, err := run.collect(ctx)
	if err != nil {
		return err
	}
	return s.writeJSON(w, http.StatusOK, a.completion(full))
}

func (s *Server) newAnswer(q *chatRequest) *answer {
	model := q.model
	if model == "" {
		model = s.cfg.Model.ID
	}
	return &answer{
		id:           fmt.Sprintf("chatcmpl-%s-%d", s.startID, s.completions.Add(1)),
		created:      s.cfg.Now().Unix(),
		model:        model,
		includeUsage: q.wantsUsage(),
		logprobs:     q.logprobs != nil && *q.logprobs,
	}
}

// completion is the answer in one piece.
func (a *answer) completion(full *wholeAnswer) *chatCompletion {
	m := fullMessage{Role: "assistant", Content: &full.text, Reasoning: full.reasoning}
	for _, c := range full.calls {
		m.Calls = append(m.Calls, fullCall{ID: c.ID, Type: "function", Function: fullFunction{Name: c.Name, Arguments: c.Arguments}})
	}
	if len(m.Calls) > 0 && full.text == "" {
		m.Content = nil
	}
	return &chatCompletion{
		ID: a.id, Object: "chat.completion", Created: a.created, Model: a.model,
		Choices: []fullChoice{{Message: m, Logprobs: a.logprobsOf(full.logprobs), FinishReason: full.result.Finish}},
		Usage:   newUsage(full.result),
		Timings: newTimings(full.result),
	}
}

// appendJSON appends v without escaping <, > and &, which models write a lot.
func appendJSON(dst []byte, v any) []byte {
	buf := bytes.NewBuffer(dst)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("server: encode " + err.Error()) // only types of this package get here
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}
