package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"ds4/runtime/chat"
	"ds4/runtime/config"
	"ds4/runtime/scheduler"
)

const (
	// progressEvery is how often a log that is no terminal hears of prefill.
	progressEvery = time.Second
	// localShutdown is how long run and chat may take to save their session.
	localShutdown = 20 * time.Second
)

// localSettings are the settings of the commands at a terminal.
type localSettings struct {
	settings
	model    config.Model
	kv       config.KV
	sampling config.Sampling
	faults   config.Faults
	verbose  bool
	quiet    bool
}

func (s *localSettings) add() {
	s.AddSampling(&s.sampling)
	s.AddModel(&s.model)
	s.AddKV(&s.kv)
	s.AddFaults(&s.faults)
}

// dialogue is one conversation with a model in this process.
type dialogue struct {
	*app
	st       *stack
	s        *localSettings
	mode     chat.Mode
	messages []chat.Message
}

// newDialogue starts the model for one user.
func (a *app) newDialogue(ctx context.Context, s *localSettings) (*dialogue, error) {
	mode, err := chat.ParseMode(s.sampling.Think)
	if err != nil {
		return nil, &usageError{err: err}
	}
	var defaults config.Set
	var recovery config.Recovery
	defaults.AddRecovery(&recovery)
	log := func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		if s.verbose || strings.HasPrefix(line, "fault ") || strings.HasPrefix(line, "WARNING") || strings.HasPrefix(line, "packing ") {
			a.plainLog("%s", line)
		}
	}
	st, err := a.newStack(ctx, stackOptions{
		model: &s.model, kv: &s.kv, recovery: &recovery, faults: &s.faults, sessions: 1, queue: 1, tokens: s.sampling.Tokens,
	}, log, func(line string) { fmt.Fprintln(a.Err, line) }, nil)
	if err != nil {
		return nil, err
	}
	if st.cacheProblem != "" {
		a.plainLog("the disk cache is off: %s", st.cacheProblem)
	}
	d := &dialogue{app: a, st: st, s: s, mode: mode}
	d.clear()
	return d, nil
}

// clear forgets all turns but the system prompt.
func (d *dialogue) clear() {
	d.messages = nil
	if d.s.sampling.System != "" {
		d.messages = []chat.Message{{Role: chat.RoleSystem, Content: d.s.sampling.System}}
	}
}

// close saves what the settings ask for and ends the model.
func (d *dialogue) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), localShutdown)
	defer cancel()
	return d.st.close(ctx)
}

// ask sends one user turn and streams the answer: text to Out, reasoning and
// progress to Err. What was answered becomes part of the conversation, also when
// ctx ends it early; a turn without any answer is taken back.
func (d *dialogue) ask(ctx context.Context, text string) error {
	turn := append(d.messages[:len(d.messages):len(d.messages)], chat.Message{Role: chat.RoleUser, Content: text})
	opt := chat.Options{Thinking: d.mode, ContextTokens: d.s.model.Context, MaxPrefix: d.st.maxPrefix}
	prompt, err := chat.Render(turn, opt)
	if err != nil {
		return err
	}
	params := d.s.sampling.Params
	if params.Seed == 0 {
		params.Seed = rand.Uint64()
	}
	events, err := d.st.sched.Submit(ctx, &scheduler.Request{
		Kind: "chat", Prompt: prompt, MaxTokens: d.s.sampling.Tokens, Sampling: params, Thinking: d.mode != chat.None,
	})
	if err != nil {
		return err
	}
	v := &view{out: d.Out, err: d.Err, terminal: isTerminal(d.Err), quiet: d.s.quiet}
	answer := chat.Message{Role: chat.RoleAssistant}
	var failure error
	for e := range events {
		switch e.Kind {
		case scheduler.EventPrefill:
			v.prefill(e.Done, e.Total)
		case scheduler.EventReasoning:
			answer.Reasoning += e.Text
			v.reasoning(e.Text)
		case scheduler.EventText:
			answer.Content += e.Text
			v.text(e.Text)
		case scheduler.EventDone:
			v.done(e.Result, params.Seed)
		case scheduler.EventError:
			failure = e.Err
			v.end()
		}
	}
	if failure == nil || answer.Content != "" {
		d.messages = append(turn, answer)
	}
	if failure == nil {
		failure = v.failure
	}
	return failure
}

// view shows one answer.
type view struct {
	out, err io.Writer
	terminal bool // err is one: lines can be rewritten
	quiet    bool
	status   bool      // a status line stands on the terminal
	thinking bool      // reasoning was begun and not ended
	newline  bool      // the last text ended a line
	written  bool      // any text
	begun    time.Time // of prefill
	said     time.Time // last progress line
	failure  error     // of a write
}

// prefill reports progress.
func (v *view) prefill(done, total int) {
	now := time.Now()
	if v.begun.IsZero() {
		v.begun, v.said = now, now
	}
	if v.quiet || total <= 0 {
		return
	}
	line := fmt.Sprintf("prefill %d/%d (%d%%)", done, total, done*100/total)
	if spent := now.Sub(v.begun).Seconds(); spent > 0 && done > 0 {
		line += fmt.Sprintf(" %.1f s", spent)
	}
	switch {
	case v.terminal:
		fmt.Fprintf(v.err, "\r\x1b[K%s", line)
		v.status = true
	case now.Sub(v.said) >= progressEvery:
		fmt.Fprintln(v.err, line)
		v.said = now
	}
}

// clearStatus takes the status line away.
func (v *view) clearStatus() {
	if v.status {
		fmt.Fprint(v.err, "\r\x1b[K")
		v.status = false
	}
}

// Colours of reasoning on a terminal.
const (
	dim    = "\x1b[2m"
	normal = "\x1b[0m"
)

func (v *view) reasoning(text string) {
	v.clearStatus()
	if v.quiet {
		return
	}
	if !v.thinking {
		v.thinking = true
		if v.terminal {
			fmt.Fprint(v.err, dim)
		}
	}
	fmt.Fprint(v.err, text)
}

func (v *view) endReasoning() {
	if !v.thinking {
		return
	}
	v.thinking = false
	if v.terminal {
		fmt.Fprint(v.err, normal)
	}
	fmt.Fprintln(v.err)
}

func (v *view) text(text string) {
	v.clearStatus()
	v.endReasoning()
	if _, err := io.WriteString(v.out, text); err != nil && v.failure == nil {
		v.failure = fmt.Errorf("write the answer: %w", err)
	}
	v.written, v.newline = true, strings.HasSuffix(text, "\n")
}

// end finishes the lines that are open.
func (v *view) end() {
	v.clearStatus()
	v.endReasoning()
	if v.written && !v.newline {
		fmt.Fprintln(v.out)
		v.newline = true
	}
}

func (v *view) done(r *scheduler.Result, seed uint64) {
	v.end()
	if v.quiet || r == nil {
		return
	}
	line := fmt.Sprintf("prompt %d tokens, %d reused", r.PromptTokens, r.CachedTokens)
	if r.EvaluatedTokens > 0 && r.Prefill > 0 {
		line += fmt.Sprintf(", %.1f t/s", float64(r.EvaluatedTokens)/r.Prefill.Seconds())
	}
	line += fmt.Sprintf("; answer %d tokens", r.CompletionTokens)
	if r.CompletionTokens > 0 && r.Decode > 0 {
		line += fmt.Sprintf(", %.1f t/s", float64(r.CompletionTokens)/r.Decode.Seconds())
	}
	fmt.Fprintf(v.err, "[%s; %s; seed %d]\n", line, r.Finish, seed)
}

// interrupted reports whether an answer ended because its user stopped it.
func interrupted(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)))
}
