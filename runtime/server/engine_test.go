package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"ds4/metal/cpu"
	"ds4/metal/fault"
	"ds4/runtime/engine"
	"ds4/runtime/kvstore/replay"
	"ds4/runtime/model"
	"ds4/runtime/model/tiny"
	"ds4/runtime/scheduler"
	"ds4/runtime/tokenizer"
)

// The tests of this file run the whole server on the embedded model.

// embedded is that model, mapped once.
var embedded = sync.OnceValues(func() (*loadedModel, error) {
	f, err := tiny.Open()
	if err != nil {
		return nil, err
	}
	m, err := model.Load(f)
	if err != nil {
		return nil, err
	}
	tok, err := tokenizer.FromGGUF(f)
	return &loadedModel{m, tok}, err
})

type loadedModel struct {
	model *model.Model
	tok   *tokenizer.Tokenizer
}

// whole is a server on the embedded model, on a device that can fail.
type whole struct {
	t     *testing.T
	url   string
	sched *scheduler.Scheduler
	http  *http.Client
}

const wholeContext = 1024

func newWhole(t *testing.T, faults string, change func(*scheduler.Config)) *whole {
	t.Helper()
	return newWholeOf(t, wholeContext, faults, change)
}

func newWholeOf(t *testing.T, context int, faults string, change func(*scheduler.Config)) *whole {
	t.Helper()
	l, err := embedded()
	if err != nil {
		t.Fatal(err)
	}
	rules, err := fault.Parse(faults)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := fault.NewPlan(rules, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	dev := fault.Wrap(inner, plan)
	eng, err := engine.New(l.model, dev, engine.Options{ContextTokens: context, ChunkTokens: 32, Numerics: model.Production})
	if err != nil {
		t.Fatal(err)
	}
	// Last made, first closed: the server's shutdown, which listen registers later,
	// comes before the engine's end.
	t.Cleanup(func() {
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg := scheduler.Config{Sessions: 2}
	if change != nil {
		change(&cfg)
	}
	sched, err := scheduler.New(eng, l.tok, nil, cfg)
	if err != nil {
		t.Fatal(err)
	}
	calls := replay.Open(replay.Options{})
	s := newTestServer(t, sched, func(c *Config) {
		c.Model.ContextTokens, c.Calls = context, calls
		c.ThinkingSampling = true // so that temperature 0 is
		c.Keepalive = time.Hour   // what a stream says does not depend on how long a busy machine takes
	})
	w := &whole{t: t, sched: sched, url: listen(t, s), http: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(w.http.CloseIdleConnections)
	return w
}

// ask sends a chat request without thinking at temperature 0 and returns status and
// body.
func (w *whole) ask(stream bool, tokens int, prompt string) (int, []byte) {
	w.t.Helper()
	resp, err := w.http.Post(w.url+"/v1/chat/completions", "application/json", bytes.NewReader(question(stream, tokens, prompt)))
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, body
}

func question(stream bool, tokens int, prompt string) []byte {
	body, err := json.Marshal(map[string]any{
		"stream": stream, "max_tokens": tokens, "temperature": 0, "thinking": false,
		"messages": []map[string]string{{"role": "user", "content": prompt}},
	})
	if err != nil {
		panic(err)
	}
	return body
}

// full asks for an answer in one piece.
func (w *whole) full(tokens int, prompt string) chatCompletion {
	w.t.Helper()
	status, body := w.ask(false, tokens, prompt)
	var c chatCompletion
	if err := json.Unmarshal(body, &c); err != nil || status != http.StatusOK {
		w.t.Fatalf("%d %v %s", status, err, body)
	}
	return c
}

// eventually waits for a condition that the scheduler reaches by itself.
func (w *whole) eventually(what string, ok func(scheduler.Stats) bool) {
	w.t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(w.sched.Stats()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not reached: %s: %+v", what, w.sched.Stats())
		}
	}
}

// TestWholeAnswers: the model's answer arrives, streamed or not, and the numbers that
// come with it add up.
func TestWholeAnswers(t *testing.T) {
	w := newWhole(t, "", nil)
	cold := w.full(12, "Who are you?")
	if got := cold.Choices[0]; !strings.HasPrefix(*got.Message.Content, "I am ds4-tiny") || got.FinishReason != "length" {
		t.Errorf("got %+v", got)
	}
	n := cold.Timings
	if n.Source != scheduler.SourceCold || n.CachedTokens != 0 || n.EvaluatedTokens != n.PromptTokens ||
		n.CompletionTokens != 12 || n.Attempts != 1 || n.PrefillMS <= 0 || n.DecodeMS <= 0 {
		t.Errorf("cold: %+v", n)
	}
	status, body := w.ask(true, 12, "Who are you?")
	var text strings.Builder
	var last chatChunk
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		last = chatChunk{}
		if err := json.Unmarshal([]byte(data), &last); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		text.WriteString(last.Choices[0].Delta.Content)
	}
	if status != http.StatusOK || text.String() != *cold.Choices[0].Message.Content {
		t.Errorf("%d, streamed %q", status, text.String())
	}
	if n = last.Timings; n == nil || n.Source == scheduler.SourceCold || n.CachedTokens+n.EvaluatedTokens != n.PromptTokens {
		t.Errorf("warm: %+v", n)
	}
	if !bytes.HasSuffix(body, []byte("\n\ndata: [DONE]\n\n")) {
		t.Errorf("the stream ends with %q", body[max(0, len(body)-40):])
	}
}

// TestWholeRefusesLongPrompts: the count is the tokenizer's, and the status is real
// for a stream too.
func TestWholeRefusesLongPrompts(t *testing.T) {
	w := newWhole(t, "", nil)
	for _, stream := range []bool{false, true} {
		status, body := w.ask(stream, 1, strings.Repeat("word ", wholeContext))
		if status != http.StatusBadRequest || !strings.Contains(string(body), `"code":"context_length_exceeded","n_prompt_tokens":10`) ||
			!strings.Contains(string(body), fmt.Sprintf(`"n_ctx":%d`, wholeContext)) {
			t.Errorf("stream %v: %d %s", stream, status, body)
		}
	}
}

// TestWholeDisconnect: a client that leaves in the middle of a prefill, or while it
// waits for a session, costs nothing more, and counts as no failure.
func TestWholeDisconnect(t *testing.T) {
	slow := "at=commit,label=^graph embed tokens$,phase=prefill,delay=20ms,pass=true" // on any machine
	w := newWhole(t, slow, func(c *scheduler.Config) { c.Sessions = 1 })
	long := strings.Repeat("bananas and apples ", 100)
	send := func() (leave func() error) {
		conn := dial(t, w.url)
		body := question(true, 5, long)
		if _, err := fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", chatHead, len(body), body); err != nil {
			t.Fatal(err)
		}
		return conn.Close
	}
	leaveRunning := send()
	w.eventually("a chunk of prefill", func(s scheduler.Stats) bool { return s.PrefillChunks > 0 })
	leaveWaiting := send()
	w.eventually("a waiting request", func(s scheduler.Stats) bool { return s.QueueDepth == 1 })
	leaveWaiting()
	w.eventually("an empty queue", func(s scheduler.Stats) bool { return s.QueueDepth == 0 && s.Cancelled == 1 })
	if st := w.sched.Stats(); st.ActiveRequests != 1 {
		t.Errorf("the first request no longer runs: %+v", st)
	}
	leaveRunning()
	w.eventually("the end of both", func(s scheduler.Stats) bool { return s.Cancelled == 2 && s.ActiveRequests == 0 })
	st := w.sched.Stats()
	if st.PrefillTokens > 500 || st.MaxStreak != 0 || st.Failures["device"] != 0 {
		t.Errorf("after two disconnects: %+v", st)
	}
	if got := *w.full(4, "Who are you?").Choices[0].Message.Content; got == "" || !strings.HasPrefix("I am ds4-tiny", got) {
		t.Errorf("afterwards: %q", got)
	}
}

// TestWholeFailure: a failing device is a typed error with the device's own words,
// as a status or as an event, until the fault is gone.
func TestWholeFailure(t *testing.T) {
	const message = "Metal graph embed tokens failed: Internal Error (00000001:Internal Error)"
	w := newWhole(t, "at=wait,label=^graph embed tokens$,phase=prefill,times=2", nil)
	status, body := w.ask(false, 4, "Who are you?")
	var failure errorBody
	if err := json.Unmarshal(body, &failure); err != nil || status != http.StatusInternalServerError {
		t.Fatalf("%d %v %s", status, err, body)
	}
	e := failure.Error
	if e.Code != scheduler.CodePrefillFailed || e.Retryable == nil || !*e.Retryable || e.Attempt != 1 || e.Limit != 3 ||
		len(e.Range) != 12 || !strings.Contains(e.Message, message) {
		t.Errorf("first: %s", body)
	}
	status, body = w.ask(true, 4, "Who are you?")
	if event, ok := strings.CutPrefix(string(body), "event: error\ndata: "); status != http.StatusOK || !ok ||
		!strings.Contains(event, `"attempt":2`) || !strings.Contains(event, e.Range) || strings.Contains(event, "DONE") {
		t.Errorf("second: %d %s", status, body)
	}
	if got := w.full(4, "Who are you?"); got.Timings.Source != scheduler.SourceCold {
		t.Errorf("third: %+v", got.Timings)
	}
}

// TestWholeShutdown: a stream that decodes is told, and nothing is left behind
// (goleak looks at the end).
func TestWholeShutdown(t *testing.T) {
	w := newWhole(t, "at=commit,label=^graph embed tokens$,phase=decode,delay=20ms,pass=true", nil)
	conn := dial(t, w.url)
	body := question(true, 900, "Repeat: a b c d e f g h i j k l m n o p")
	if _, err := fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", chatHead, len(body), body); err != nil {
		t.Fatal(err)
	}
	w.eventually("some decoding", func(s scheduler.Stats) bool { return s.DecodeTokens > 2 })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.sched.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	all, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if s := string(all); !strings.Contains(s, `"content"`) || strings.Contains(s, "[DONE]") ||
		!strings.Contains(s, "event: error\ndata: {\"error\":{\"message\":\"server shutting down\"") {
		t.Errorf("got %s", s)
	}
	status, answer := w.ask(true, 1, "x")
	if status != http.StatusServiceUnavailable || !strings.Contains(string(answer), "server shutting down") {
		t.Errorf("afterwards: %d %s", status, answer)
	}
}
