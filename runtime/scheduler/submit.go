package scheduler

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"ds4/runtime/chat"
	"ds4/runtime/sample"
)

// gate is what Submit sees of the breaker.
type gate struct {
	reason string
	next   time.Time
}

// Submit queues a request. Errors at once: *ContextLengthError, ErrQueueFull,
// ErrShuttingDown, ErrRequest, *FailureError with code device_unavailable.
// Cancelling ctx cancels the request at the next chunk or token, or at once while
// it waits; that is never a failure. The channel is closed after EventDone or
// EventError; the reader must drain it or cancel ctx.
func (s *Scheduler) Submit(ctx context.Context, r *Request) (<-chan Event, error) {
	j, err := s.newJob(ctx, r)
	if err == nil {
		err = s.checkGate()
	}
	if err == nil {
		err = s.enqueue(j)
	}
	if err != nil {
		s.count.add(func(st *Stats) { st.Requests["rejected"]++ })
		return nil, err
	}
	go s.passEvents(j)
	s.signal()
	return j.out.ch, nil
}

// CountTokens returns how many tokens a prompt has, whatever the context holds. Only
// the end of ctx is an error.
func (s *Scheduler) CountTokens(ctx context.Context, p chat.Prompt) (int, error) {
	tokens, err := s.tokenise(ctx, p, len(p.CacheText()))
	return len(tokens), err
}

// enqueue puts j into the queue, and watches for its client to go.
func (s *Scheduler) enqueue(j *job) error {
	j.unwatch = context.AfterFunc(j.ctx, func() {
		if s.queue.remove(j) {
			s.cancel(j)
		}
		s.signal() // whoever runs it should look
	})
	if err := s.queue.put(j); err != nil {
		j.unwatch()
		return err
	}
	return nil
}

func (s *Scheduler) newJob(ctx context.Context, r *Request) (*job, error) {
	if err := checkRequest(r); err != nil {
		return nil, err
	}
	if err := chat.CheckPrompt(s.tok, r.Prompt); err != nil {
		return nil, fmt.Errorf("scheduler: %w: %w", ErrRequest, err)
	}
	text := r.Prompt.CacheText()
	j := &job{
		ctx: ctx, req: r, out: newOutbox(), submitted: time.Now(),
		prompt:   target{text: text},
		rangeKey: rangeKeyOf(s.identity, text, r.Prompt.RangeEnd),
	}
	var err error
	if j.prompt.tokens, err = s.tokens(ctx, r.Prompt, text); err != nil {
		return nil, err
	} else if len(j.prompt.tokens) == 0 {
		return nil, fmt.Errorf("scheduler: %w: the prompt is empty", ErrRequest)
	}
	switch j.maxTokens = r.MaxTokens; {
	case r.PromptOnly:
		j.maxTokens = 0
	case j.maxTokens <= 0:
		j.maxTokens = s.cfg.DefaultTokens
	}
	return j, nil
}

func checkRequest(r *Request) error {
	if len(r.Stop) > maxStops {
		return fmt.Errorf("scheduler: %w: %d stop strings, the limit is %d", ErrRequest, len(r.Stop), maxStops)
	}
	for _, stop := range r.Stop {
		if len(stop) > maxStopBytes {
			return fmt.Errorf("scheduler: %w: a stop string of %d bytes, the limit is %d", ErrRequest, len(stop), maxStopBytes)
		}
		if !utf8.ValidString(stop) {
			return fmt.Errorf("scheduler: %w: a stop string is not UTF-8", ErrRequest)
		}
	}
	if r.TopLogprobs < 0 || r.TopLogprobs > MaxTopLogprobs {
		return fmt.Errorf("scheduler: %w: %d top logprobs, the limit is %d", ErrRequest, r.TopLogprobs, MaxTopLogprobs)
	}
	if err := r.Sampling.Validate(); err != nil {
		return fmt.Errorf("scheduler: %w: %w", ErrRequest, err)
	}
	return nil
}

func (s *Scheduler) checkGate() error {
	g := s.gate.Load()
	if g == nil {
		return nil
	}
	return s.unavailable(g.reason, g.next.Sub(s.cfg.Now()))
}

func (s *Scheduler) unavailable(reason string, after time.Duration) *FailureError {
	return &FailureError{
		Code: CodeDeviceUnavailable, Retryable: true, Limit: s.cfg.PrefillFailureLimit,
		Message:    fmt.Sprintf("%s device unavailable: %s", s.backend(), reason),
		RetryAfter: max(after, time.Second),
	}
}

func newSampler(r *Request) *sample.Sampler { return sample.New(r.Sampling) }
