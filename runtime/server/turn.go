package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	mathrand "math/rand/v2"
	"net/http"
	"strings"

	"ds4/runtime/chat"
	"ds4/runtime/sample"
	"ds4/runtime/scheduler"
)

// turn is one generation, whatever API asks for it: each protocol reads its own
// requests into one, and writes the events of the run in its own form.
type turn struct {
	kind      string // "chat" or "completion", the word in log lines
	responses bool   // asked through the Responses API
	param     string // the field of the request that holds the prompt, for errors
	messages  []chat.Message
	tools     []chat.Tool
	choice    chat.ToolChoice
	oneCall   bool   // the answer ends behind its first call
	idPrefix  string // of the ids of calls: "call_" or "toolu_"
	thinking  chat.Mode
	sampling  sample.Params // what the client asked for, defaults filled in; Seed is not used
	seed      *int64        // nil or 0: random
	stop      []string
	// maxTokens caps what is sampled; nil: the server's default. The context's room
	// caps it too.
	maxTokens   *int64
	ignoreEOS   bool
	logprobs    bool
	topLogprobs int
}

// run is a turn that was submitted.
type run struct {
	turn   *turn
	events <-chan scheduler.Event
	calls  []string // ids, by index
	// What is known of the prompt while it is evaluated; the result has the last word.
	prompt, cached int // tokens
	memory         CallMemory
}

// turnEvent is one step of a run. The kinds are the scheduler's: reasoning, text, the
// beginning of a call (Text is its name), a piece of its arguments, its end, and last
// of all EventDone. Progress of prefill is not among them.
type turnEvent struct {
	scheduler.Event
	CallID string // of EventCall, EventArguments and EventCallEnd
}

// readTurn reads a request of an API, lets parse make a turn of it and submits that.
// The body counts until the scheduler has accepted or refused the prompt, whose length
// is bounded from then on. Errors are for the client, as far as there is one.
func (s *Server) readTurn(ctx context.Context, w http.ResponseWriter, r *http.Request, parse func(body []byte) (*turn, error)) (*run, error) {
	body, release, err := s.readBody(w, r, maxBodyBytes)
	if err != nil {
		return nil, err
	}
	defer release()
	t, err := parse(body)
	if err != nil {
		return nil, err
	}
	return s.submit(ctx, t)
}

// submit hands a turn to the scheduler.
func (s *Server) submit(ctx context.Context, t *turn) (*run, error) {
	req, err := s.generation(t)
	if err != nil {
		return nil, err
	}
	events, err := s.cfg.Scheduler.Submit(ctx, req)
	if err != nil {
		return nil, t.blame(err)
	}
	return &run{turn: t, events: events, memory: s.cfg.Calls}, nil
}

// blame names the field of the request that an error of the scheduler is about.
func (t *turn) blame(err error) error {
	var length *scheduler.ContextLengthError
	if !errors.As(err, &length) || t.param == "" {
		return err
	}
	e := fromScheduler(err)
	e.Param = t.param
	return e
}

// prompt renders the conversation, for generation and for counting tokens.
func (s *Server) prompt(t *turn) (chat.Prompt, error) {
	opt := chat.Options{
		Thinking: t.thinking, ContextTokens: s.cfg.Model.ContextTokens, MaxPrefix: s.cfg.Model.MaxPrefix,
		Tools: t.offered(),
	}
	if s.cfg.Calls != nil {
		opt.Replay = s.cfg.Calls.Lookup
	}
	prompt, err := chat.Render(t.messages, opt)
	if err != nil {
		return chat.Prompt{}, t.unrendered(err)
	}
	return prompt, nil
}

// unrendered says what of a request has no place in a prompt.
func (t *turn) unrendered(err error) error {
	path, kind := t.param, chat.ErrMessages
	if errors.Is(err, chat.ErrTools) {
		path, kind = "tools", chat.ErrTools
	}
	return badField(path, "%s", strings.TrimSuffix(strings.TrimPrefix(err.Error(), "chat: "), ": "+kind.Error()))
}

// offered is what the model sees of the tools.
func (t *turn) offered() []chat.Tool {
	if t.choice.Kind == chat.ChoiceNone {
		return nil
	}
	return t.tools
}

// toolUse is what the client wants of the tools, for the scheduler.
func (t *turn) toolUse() scheduler.ToolUse {
	use := scheduler.ToolUse{Single: t.oneCall}
	switch t.choice.Kind {
	case chat.ChoiceRequired:
		use.Required = true
		for _, tool := range t.tools {
			use.Names = append(use.Names, tool.Name)
		}
	case chat.ChoiceNamed:
		use.Required, use.Names = true, []string{t.choice.Name}
	}
	return use
}

// generation turns a turn into a request of the scheduler.
func (s *Server) generation(t *turn) (*scheduler.Request, error) {
	prompt, err := s.prompt(t)
	if err != nil {
		return nil, err
	}
	req := &scheduler.Request{
		Kind:      t.kind,
		Responses: t.responses,
		Prompt:    prompt,
		Sampling:  t.sampling,
		Stop:      t.stop,
		Thinking:  t.thinking != chat.None,
		Tools:     len(t.offered()) > 0,
		ToolUse:   t.toolUse(),
		IgnoreEOS: t.ignoreEOS,
		Logprobs:  t.logprobs, TopLogprobs: t.topLogprobs,
	}
	if req.Thinking && !s.cfg.ThinkingSampling {
		req.Sampling = sample.Defaults()
	}
	if req.Sampling.Seed = mathrand.Uint64(); t.seed != nil && *t.seed != 0 {
		req.Sampling.Seed = uint64(*t.seed)
	}
	// -1 is how other local servers and their clients say that there is no limit.
	if t.maxTokens != nil && *t.maxTokens >= 0 {
		req.MaxTokens = int(min(*t.maxTokens, int64(s.cfg.Model.ContextTokens)))
		req.PromptOnly = req.MaxTokens == 0
	}
	return req, nil
}

// newCallID returns an id that no client can guess and no other call has.
func newCallID(prefix string) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return prefix + hex.EncodeToString(b[:])
}

// take turns an event of the scheduler into those of the run; none for progress. A block
// of calls that was none is text, as long as no call of it was reported; if one was, the
// run ends with an error that makes clients drop it.
func (r *run) take(e scheduler.Event) []turnEvent {
	out := turnEvent{Event: e}
	switch e.Kind {
	case scheduler.EventPrefill:
		r.prompt, r.cached = e.Cached+e.Total, e.Cached
		return nil
	case scheduler.EventCall:
		for len(r.calls) <= e.Index {
			r.calls = append(r.calls, newCallID(r.turn.idPrefix))
		}
		out.CallID = r.calls[e.Index]
	case scheduler.EventArguments, scheduler.EventCallEnd:
		out.CallID = r.calls[e.Index]
	case scheduler.EventDone:
		if e.Result.Block.Good && r.memory != nil {
			r.memory.Remember(r.calls, e.Result.Block.Cache)
		}
		if e.Result.Problem != scheduler.ProblemMalformed {
			break
		}
		if len(r.calls) == 0 {
			text := turnEvent{Event: scheduler.Event{Kind: scheduler.EventText, Text: e.Result.Block.Text()}}
			return []turnEvent{text, out}
		}
		res := *e.Result
		res.Finish = scheduler.FinishError
		out.Result = &res
	}
	return []turnEvent{out}
}

// wholeAnswer is an answer in one piece.
type wholeAnswer struct {
	reasoning, text string
	calls           []chat.ToolCall
	logprobs        []scheduler.TokenLogprob
	result          *scheduler.Result
}

// collect waits for the whole answer. Calls are there only if they may be made.
func (r *run) collect(ctx context.Context) (*wholeAnswer, error) {
	var text, reasoning, arguments strings.Builder // arguments of the last call
	var calls []chat.ToolCall
	var logprobs []scheduler.TokenLogprob
	for {
		ev, err := r.next(ctx)
		if err != nil {
			return nil, err
		}
		for _, e := range r.take(ev) {
			switch e.Kind {
			case scheduler.EventText:
				text.WriteString(e.Text)
				logprobs = append(logprobs, e.Logprobs...)
			case scheduler.EventReasoning:
				reasoning.WriteString(e.Text)
			case scheduler.EventCall:
				calls = append(calls, chat.ToolCall{ID: e.CallID, Name: e.Text})
			case scheduler.EventArguments:
				arguments.WriteString(e.Text)
			case scheduler.EventCallEnd:
				calls[e.Index].Arguments = arguments.String()
				arguments.Reset()
			case scheduler.EventDone:
				w := &wholeAnswer{reasoning: reasoning.String(), text: text.String(), calls: calls, logprobs: logprobs, result: e.Result}
				w.withoutBadCalls()
				return w, nil
			}
		}
	}
}

// withoutBadCalls drops the calls of a block that was cut or malformed; the latter is
// shown as text.
func (w *wholeAnswer) withoutBadCalls() {
	if w.result.Problem == "" {
		return
	}
	if w.result.Problem == scheduler.ProblemMalformed && len(w.calls) > 0 {
		w.text += w.result.Block.Text()
		res := *w.result
		res.Finish = scheduler.FinishStop
		w.result = &res
	}
	w.calls = nil
}

// next waits for the next event of the scheduler. The error says how the run failed.
func (r *run) next(ctx context.Context) (scheduler.Event, error) {
	select {
	case <-ctx.Done():
		return scheduler.Event{}, clientGone(ctx)
	case ev, open := <-r.events:
		switch {
		case !open:
			return ev, errNoEnd
		case ev.Kind == scheduler.EventError:
			return ev, ev.Err
		}
		return ev, nil
	}
}
