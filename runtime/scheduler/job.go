package scheduler

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"time"

	"ds4/runtime/chat"
	"ds4/runtime/sample"
)

// phase is where a request stands.
type phase int

const (
	phaseQueued phase = iota
	phaseRestoring
	phasePrefill
	phaseDecode
	phaseDone
)

// job is one request on its way. Until the worker takes it from the queue it
// belongs to whoever holds it there; afterwards to the worker alone.
type job struct {
	ctx       context.Context
	req       *Request
	out       *outbox
	unwatch   func() bool // ends the watch over ctx
	rangeKey  string      // 40 hex digits
	prompt    target      // as the client sent it
	maxTokens int
	submitted time.Time

	phase   phase
	started time.Time // when it left the queue
	slot    *slot
	plan    plan
	attempt struct { // what changes when the request tries again
		tokens   []int32 // to be evaluated in all: the prompt, or what stands for it
		cached   int
		restored int
		source   string
		chain    []string // segments under the state; blamed if it fails
		mark     int      // position at which the session is kept
		chunks   int
		prefill  time.Duration
	}
	attempts    int  // given to the device
	noDisk      bool // a restore did not work out
	noJoin      bool // nor would one in the middle of the prompt
	shortened   bool // the second, shorter chain is being restored
	restoreTime time.Duration

	sampler  *sample.Sampler
	answer   *answer
	reworded int            // control tokens of the answer that have their text in the slot's history
	forced   []int32        // tokens that come next, whatever the logits
	logprobs []TokenLogprob // of tokens whose text was not shown yet
	block    chat.Block     // of tool calls, at the end
	problem  Problem
	short    bool  // the limit of tokens, or the context's room, ended it
	next     int32 // sampled, not yet evaluated
	sampled  int
	decode   time.Duration
	sent     bool // the client has seen content
	unsaved  bool // a full segment ended inside a block of tool calls
	alone    bool // the next token, or the prompt, must not share a pass

	lastChunk struct { // of the "decoding" log line
		at, sampled int
		decode      time.Duration
	}
}

const (
	rangeBytes    = 64 << 10 // of a prompt without turns, for its range key
	rangeKeyShown = 12       // hex digits in errors and logs
)

// rangeKeyOf names the context range of a prompt: it stays the same while the
// conversation grows. identity separates models.
func rangeKeyOf(identity [32]byte, cacheText []byte, rangeEnd int) string {
	if rangeEnd <= 0 || rangeEnd > len(cacheText) {
		rangeEnd = min(len(cacheText), rangeBytes)
	}
	h := sha1.New()
	h.Write(identity[:])
	h.Write(cacheText[:rangeEnd])
	return hex.EncodeToString(h.Sum(nil))
}

func (j *job) shortRange() string { return j.rangeKey[:rangeKeyShown] }

// cancelled reports whether the client has gone.
func (j *job) cancelled() bool { return j.ctx.Err() != nil }

// cold reports whether the attempt reused nothing.
func (j *job) cold() bool { return j.attempt.cached == 0 }

// total is the number of prompt tokens, as far as it is known.
func (j *job) total() int {
	if j.attempt.tokens == nil {
		return len(j.prompt.tokens)
	}
	return len(j.attempt.tokens)
}

func (j *job) kind() string {
	if j.req.Kind == "" {
		return "chat"
	}
	return j.req.Kind
}

func (j *job) flags() string {
	flags := ""
	if j.req.Responses {
		flags = " RESPPROTO"
	}
	if j.req.Tools {
		flags += " TOOLS"
	}
	if j.req.Thinking {
		flags += " THINKING"
	}
	if j.answer != nil && j.answer.parts.Begun() {
		flags += " DSML_START"
		if j.answer.parts.Ended() {
			flags += " DSML_END"
		}
	}
	return flags
}

// span is the "ctx=C..P:S" of log lines.
func (j *job) span() string {
	c, p := j.attempt.cached, j.total()
	return fmt.Sprintf("%s ctx=%d..%d:%d", j.kind(), c, p, p-c)
}

// logSource is the word for the source in log lines.
func (j *job) logSource() string {
	if j.attempt.source == SourceCold {
		return "none"
	}
	return j.attempt.source
}

func (j *job) result(finish string) *Result {
	return &Result{
		Finish:           finish,
		StopString:       j.answer.stop.found,
		Short:            j.short,
		Problem:          j.problem,
		Block:            j.block,
		PromptTokens:     j.total(),
		CachedTokens:     j.attempt.cached,
		EvaluatedTokens:  j.total() - j.attempt.cached,
		CompletionTokens: j.sampled,
		Source:           j.attempt.source,
		RestoredTokens:   j.attempt.restored,
		Attempts:         j.attempts,
		Queue:            j.started.Sub(j.submitted),
		RestoreTime:      j.restoreTime,
		Prefill:          j.attempt.prefill,
		Decode:           j.decode,
	}
}
