// Package client is a small client for OpenAI-compatible chat servers, streaming
// and not, with the numbers that measurements need: when the first token came,
// how long the silences were, what the server says it reused.
//
// It promises typed errors (*Error with the server's own code and its word on
// whether to retry), bounded memory whatever a server sends, and that a context
// ends every call. It never retries by itself: who sends the same request again
// must know that it does.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxBodyBytes bounds an answer that is not a stream, and the text of one that is.
const maxBodyBytes = 64 << 20

// Client talks to one server. It is safe for concurrent use.
type Client struct {
	base string
	http *http.Client
	now  func() time.Time
}

// New returns a client for a base URL such as http://127.0.0.1:8000. Connections
// are not kept: a server that was killed leaves nothing behind here.
func New(base string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("client: %q is not an http URL", base)
	}
	return &Client{
		base: strings.TrimRight(u.String(), "/"),
		http: &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			Proxy:             nil, // the server under test is never behind one
			DialContext:       (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		}},
		now: time.Now,
	}, nil
}

// Base is the server's URL without a slash at the end.
func (c *Client) Base() string { return c.base }

// Message is one turn of a conversation.
type Message struct {
	Role       string     `json:"role"`
	Content    string     `json:"content"`
	ToolCalls  []ToolCall `json:"tool_calls,omitempty"`   // of an assistant turn
	ToolCallID string     `json:"tool_call_id,omitempty"` // of a tool's result
}

// ToolCall is a call that the model made.
type ToolCall struct {
	ID       string   `json:"id"`
	Type     string   `json:"type"`
	Function Function `json:"function"`
}

// Function is what a ToolCall calls.
type Function struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"` // JSON
}

// Request is a chat completion.
type Request struct {
	Messages    []Message
	Model       string // echoed by most servers; empty means "default"
	MaxTokens   int    // 0: the server's default
	Temperature float64
	Seed        uint64 // 0: none sent
	Thinking    bool
	Tools       json.RawMessage // offered, as the API has them; nil: none
	Stream      bool
	IgnoreEOS   bool // an extension for measurements: answers of MaxTokens exactly
	// Completions asks /v1/completions, with the texts of the messages as the prompt.
	Completions bool
	// Standard leaves out what only some servers know, such as Thinking: strict
	// ones refuse unknown fields.
	Standard bool
	// OnEvent is called for every event of a stream, before it is added to the
	// answer. False hangs up, and Chat returns ErrAbandoned.
	OnEvent func(Event) bool
}

// Event is one server-sent event as it arrived.
type Event struct {
	At      time.Duration // since the request was sent
	Text    string        // visible text, may be empty
	Hidden  string        // reasoning
	Comment bool          // a keepalive comment
}

// Answer is a finished, or abandoned, completion.
type Answer struct {
	Text      string
	Reasoning string
	Calls     []ToolCall
	Finish    string // stop, length, tool_calls, error
	Usage     Usage
	HasUsage  bool

	Events     int           // events with data
	Keepalives int           // comments
	Headers    time.Duration // request sent until headers received
	FirstToken time.Duration // until the first visible or hidden text; of the whole answer if not streamed
	Total      time.Duration
	MaxGap     time.Duration // longest silence between two events or comments of a stream, its start included
}

// Usage counts tokens as the server reports them.
type Usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	Details          struct {
		CachedTokens     int `json:"cached_tokens"`
		CacheWriteTokens int `json:"cache_write_tokens"`
	} `json:"prompt_tokens_details"`
}

type wireRequest struct {
	Model         string          `json:"model"`
	Messages      []Message       `json:"messages,omitempty"`
	Prompt        string          `json:"prompt,omitempty"`
	MaxTokens     int             `json:"max_tokens,omitempty"`
	Temperature   float64         `json:"temperature"`
	Seed          uint64          `json:"seed,omitempty"`
	Thinking      *bool           `json:"think,omitempty"`
	Tools         json.RawMessage `json:"tools,omitempty"`
	Stream        bool            `json:"stream,omitempty"`
	IgnoreEOS     bool            `json:"ignore_eos,omitempty"`
	StreamOptions *streamOptions  `json:"stream_options,omitempty"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

type wireDelta struct {
	Content   string `json:"content"`
	Reasoning string `json:"reasoning_content"`
	Calls     []struct {
		Index int `json:"index"`
		ToolCall
	} `json:"tool_calls"`
}

type wireAnswer struct {
	Choices []struct {
		Message wireDelta `json:"message"`
		Text    string    `json:"text"` // of /v1/completions, whole or a piece
		Delta   wireDelta `json:"delta"`
		Finish  string    `json:"finish_reason"`
	} `json:"choices"`
	Usage *Usage     `json:"usage"`
	Error *wireError `json:"error"`
}

type wireError struct {
	Message   string `json:"message"`
	Type      string `json:"type"`
	Code      any    `json:"code"`
	Retryable bool   `json:"retryable"`
	Attempt   int    `json:"attempt"`
	Limit     int    `json:"limit"`
	Range     string `json:"range"`
}

// encode returns the path and the body of a request.
func (r *Request) encode() (path string, body []byte, err error) {
	w := wireRequest{Model: r.Model, Messages: r.Messages, MaxTokens: r.MaxTokens,
		Temperature: r.Temperature, Seed: r.Seed, Tools: r.Tools, Stream: r.Stream, IgnoreEOS: r.IgnoreEOS}
	if w.Model == "" {
		w.Model = "default"
	}
	if !r.Standard {
		w.Thinking = &r.Thinking
	}
	if r.Stream {
		w.StreamOptions = &streamOptions{IncludeUsage: true}
	}
	path = "/v1/chat/completions"
	if r.Completions {
		path, w.Messages = "/v1/completions", nil
		var texts []string
		for _, m := range r.Messages {
			texts = append(texts, m.Content)
		}
		w.Prompt = strings.Join(texts, "\n")
	}
	if body, err = json.Marshal(w); err != nil {
		return "", nil, fmt.Errorf("client: encode request: %w", err)
	}
	return path, body, nil
}

// Chat sends a request and reads the whole answer. The answer is returned with
// an error too, with what arrived before it.
func (c *Client) Chat(ctx context.Context, r Request) (Answer, error) {
	path, body, err := r.encode()
	if err != nil {
		return Answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return Answer{}, fmt.Errorf("client: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	start := c.now()
	resp, err := c.http.Do(req)
	if err != nil {
		return Answer{Total: c.now().Sub(start)}, fmt.Errorf("client: chat: %w", err)
	}
	defer resp.Body.Close()
	ans := Answer{Headers: c.now().Sub(start)}
	switch {
	case resp.StatusCode != http.StatusOK:
		err = errorAnswer(resp)
	case strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream"):
		err = c.readStream(resp.Body, start, r.OnEvent, &ans)
	default:
		err = readWhole(resp.Body, &ans)
	}
	ans.Total = c.now().Sub(start)
	if !r.Stream && err == nil {
		ans.FirstToken = ans.Total
	}
	if err != nil {
		return ans, fmt.Errorf("client: chat: %w", err)
	}
	return ans, nil
}

func readWhole(body io.Reader, ans *Answer) error {
	data, err := readBounded(body)
	if err != nil {
		return err
	}
	var w wireAnswer
	if err := json.Unmarshal(data, &w); err != nil {
		return fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	if len(w.Choices) == 0 {
		return fmt.Errorf("%w: no choice in it", ErrIncomplete)
	}
	ch := w.Choices[0]
	ans.Text, ans.Reasoning, ans.Finish = ch.Message.Content+ch.Text, ch.Message.Reasoning, ch.Finish
	for _, c := range ch.Message.Calls {
		ans.Calls = append(ans.Calls, c.ToolCall)
	}
	if w.Usage != nil {
		ans.Usage, ans.HasUsage = *w.Usage, true
	}
	return nil
}

// maxCalls bounds the tool calls of one answer.
const maxCalls = 1024

// addCalls adds what a chunk says of tool calls.
func (a *Answer) addCalls(d wireDelta) error {
	for _, c := range d.Calls {
		if c.Index < 0 || c.Index > len(a.Calls) || c.Index >= maxCalls {
			return fmt.Errorf("%w: tool call %d after %d", ErrIncomplete, c.Index, len(a.Calls))
		}
		if c.Index == len(a.Calls) {
			a.Calls = append(a.Calls, ToolCall{ID: c.ID, Type: c.Type})
		}
		f := &a.Calls[c.Index].Function
		f.Name += c.Function.Name
		if f.Arguments += c.Function.Arguments; len(f.Arguments) > maxBodyBytes {
			return fmt.Errorf("%w of %d bytes", ErrTooLarge, maxBodyBytes)
		}
	}
	return nil
}

func readBounded(body io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(body, maxBodyBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	if len(data) > maxBodyBytes {
		return nil, fmt.Errorf("%w of %d bytes", ErrTooLarge, maxBodyBytes)
	}
	return data, nil
}

// readStream reads events until [DONE], an error event or the end.
func (c *Client) readStream(body io.Reader, start time.Time, onEvent func(Event) bool, ans *Answer) error {
	sse := newSSEReader(body)
	var text, reasoning strings.Builder
	defer func() { ans.Text, ans.Reasoning = text.String(), reasoning.String() }()
	var last time.Duration
	for {
		ev, err := sse.next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("%w: no [DONE]: %w", ErrIncomplete, err)
		}
		at := c.now().Sub(start)
		ans.MaxGap = max(ans.MaxGap, at-last)
		last = at
		if ev.comment {
			ans.Keepalives++
			if onEvent != nil && !onEvent(Event{At: at, Comment: true}) {
				return ErrAbandoned
			}
			continue
		}
		if ev.data == "[DONE]" {
			return nil
		}
		ans.Events++
		var w wireAnswer
		if err := json.Unmarshal([]byte(ev.data), &w); err != nil {
			return fmt.Errorf("%w: event %d: %w", ErrIncomplete, ans.Events, err)
		}
		if w.Error != nil || ev.name == "error" {
			return streamError(w.Error)
		}
		if w.Usage != nil {
			ans.Usage, ans.HasUsage = *w.Usage, true
		}
		piece, hidden := "", ""
		if len(w.Choices) > 0 {
			d := w.Choices[0]
			piece, hidden = d.Delta.Content+d.Text, d.Delta.Reasoning
			text.WriteString(piece)
			reasoning.WriteString(hidden)
			if err := ans.addCalls(d.Delta); err != nil {
				return err
			}
			if d.Finish != "" {
				ans.Finish = d.Finish
			}
			if ans.FirstToken == 0 && (piece != "" || hidden != "" || len(d.Delta.Calls) > 0) {
				ans.FirstToken = at
			}
		}
		if text.Len()+reasoning.Len() > maxBodyBytes {
			return fmt.Errorf("%w of %d bytes", ErrTooLarge, maxBodyBytes)
		}
		if onEvent != nil && !onEvent(Event{At: at, Text: piece, Hidden: hidden}) {
			return ErrAbandoned
		}
	}
}

func streamError(w *wireError) error {
	if w == nil {
		return &Error{Status: http.StatusOK, Message: "error event without an error object"}
	}
	return w.typed(http.StatusOK)
}

func (w *wireError) typed(status int) *Error {
	e := &Error{Status: status, Known: true, Message: w.Message, Type: w.Type, Retryable: w.Retryable,
		Attempt: w.Attempt, Limit: w.Limit, Range: w.Range}
	switch code := w.Code.(type) { // some servers send a number
	case string:
		e.Code = code
	case float64:
		e.Code = strconv.Itoa(int(code))
	}
	return e
}

// errorAnswer reads the body of an answer whose status says that it failed.
func errorAnswer(resp *http.Response) error {
	const maxErrorBytes = 64 << 10
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBytes))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	e := &Error{Status: resp.StatusCode}
	var w wireAnswer
	if json.Unmarshal(data, &w) == nil && w.Error != nil {
		e = w.Error.typed(resp.StatusCode)
	} else {
		e.Message = strings.TrimSpace(string(data[:min(len(data), 200)]))
	}
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 && n < 1<<20 {
		e.RetryAfter = time.Duration(n) * time.Second
	}
	return e
}
