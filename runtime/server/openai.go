package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"ds4/runtime/chat"
	"ds4/runtime/sample"
	"ds4/runtime/scheduler"
)

// answer is what all chunks of one chat completion have in common.
type answer struct {
	id           string
	created      int64 // unix seconds
	model        string
	includeUsage bool
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
	Index        int         `json:"index"`
	Message      fullMessage `json:"message"`
	FinishReason string      `json:"finish_reason"`
}

type fullMessage struct {
	Role      string `json:"role"`
	Content   string `json:"content"`
	Reasoning string `json:"reasoning_content,omitempty"`
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
	Index        int        `json:"index"`
	Delta        chunkDelta `json:"delta"`
	FinishReason *string    `json:"finish_reason"`
}

type chunkDelta struct {
	Role      string `json:"role,omitempty"`
	Reasoning string `json:"reasoning_content,omitempty"`
	Content   string `json:"content,omitempty"`
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
	q, events, err := s.submitChat(ctx, w, r)
	if err != nil {
		return err
	}
	a := s.newAnswer(q)
	if q.streaming() {
		return s.stream(ctx, w, a, events)
	}
	full, err := collect(ctx, a, events)
	if err != nil {
		return err
	}
	return s.writeJSON(w, http.StatusOK, full)
}

// submitChat reads, parses and submits a request. Its body counts until the scheduler
// has accepted or refused its prompt, whose length is bounded from then on.
func (s *Server) submitChat(ctx context.Context, w http.ResponseWriter, r *http.Request) (*chatRequest, <-chan scheduler.Event, error) {
	body, release, err := s.readBody(w, r, maxBodyBytes)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	q, err := parseChatRequest(body)
	if err != nil {
		return nil, nil, err
	}
	req, err := s.generation(q)
	if err != nil {
		return nil, nil, err
	}
	events, err := s.cfg.Scheduler.Submit(ctx, req)
	return q, events, err
}

// generation turns a request of the API into one of the scheduler.
func (s *Server) generation(q *chatRequest) (*scheduler.Request, error) {
	mode, err := q.mode()
	if err != nil {
		return nil, err
	}
	opt := chat.Options{Thinking: mode, ContextTokens: s.cfg.Model.ContextTokens, MaxPrefix: s.cfg.Model.MaxPrefix}
	prompt, err := chat.Render(q.messages, opt)
	if err != nil {
		return nil, badRequest("%v", err)
	}
	req := &scheduler.Request{
		Kind:     "chat",
		Prompt:   prompt,
		Sampling: q.params(),
		Stop:     q.stop,
		Thinking: mode != chat.None,
		// For the time of a decode whose length must be known.
		IgnoreEOS: q.ignoreEOS != nil && *q.ignoreEOS,
	}
	if req.Thinking && !s.cfg.ThinkingSampling {
		req.Sampling = sample.Defaults()
	}
	if req.Sampling.Seed = rand.Uint64(); q.seed != nil && *q.seed != 0 {
		req.Sampling.Seed = uint64(*q.seed)
	}
	if n := q.outputLimit(); n != nil {
		req.MaxTokens = int(min(*n, int64(s.cfg.Model.ContextTokens)))
	}
	return req, nil
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
	}
}

// collect waits for the whole answer.
func collect(ctx context.Context, a *answer, events <-chan scheduler.Event) (*chatCompletion, error) {
	var content, reasoning strings.Builder
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", errClientGone, context.Cause(ctx))
		case ev, open := <-events:
			if !open {
				return nil, errNoEnd
			}
			switch ev.Kind {
			case scheduler.EventText:
				content.WriteString(ev.Text)
			case scheduler.EventReasoning:
				reasoning.WriteString(ev.Text)
			case scheduler.EventError:
				return nil, ev.Err
			case scheduler.EventDone:
				return &chatCompletion{
					ID: a.id, Object: "chat.completion", Created: a.created, Model: a.model,
					Choices: []fullChoice{{
						Message:      fullMessage{Role: "assistant", Content: content.String(), Reasoning: reasoning.String()},
						FinishReason: ev.Result.Finish,
					}},
					Usage:   newUsage(ev.Result),
					Timings: newTimings(ev.Result),
				}, nil
			}
		}
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
