package scheduler

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"ds4/metal"
	"ds4/runtime/engine"
	"ds4/runtime/sample"
)

// step runs one pass over the device; false if no request wants one.
func (s *Scheduler) step() bool {
	if s.down {
		s.failActive()
		return false
	}
	s.endTrial()
	b := s.nextBatch()
	if len(b.seqs) == 0 {
		return false
	}
	if b.prefill != nil {
		b.prefill.attempt.chunks++
	}
	metal.SetScope(s.eng.Device(), b.scope())
	took, err := s.forward(b.seqs)
	if err != nil {
		s.stepFailed(&b, err)
		return true
	}
	s.policy = s.policy.Success()
	s.account(&b, took)
	s.shareWorked(&b)
	for _, j := range b.decodes {
		s.decoded(j)
	}
	if b.prefill != nil {
		s.prefilled(b.prefill, b.chunk, took)
	}
	return true
}

// scope tells the fault driver on whose behalf the pass runs. A pass that holds
// a chunk runs for its request; among decoding requests one whose state came
// from disk goes first.
func (b *batch) scope() metal.Scope {
	if j := b.prefill; j != nil {
		sc := j.scope("prefill")
		sc.Chunk = j.attempt.chunks
		return sc
	}
	for _, j := range b.decodes {
		if len(j.attempt.chain) > 0 {
			return j.scope("decode")
		}
	}
	return b.decodes[0].scope("decode")
}

// Words for the source of a state in fault rules.
const (
	scopeCold   = "cold"
	scopeMemory = "memory"
	scopeDisk   = "disk"
)

func (j *job) scopeSource() string {
	switch {
	case len(j.attempt.chain) > 0:
		return scopeDisk
	case j.cold():
		return scopeCold
	}
	return scopeMemory
}

func (j *job) scope(phase string) metal.Scope {
	sc := metal.Scope{Phase: phase, Source: j.scopeSource(), Range: j.rangeKey}
	if n := len(j.attempt.chain); n > 0 {
		sc.Entry = j.attempt.chain[n-1]
	}
	return sc
}

// forward runs a pass under the watchdog. A panic on the way is an error.
func (s *Scheduler) forward(seqs []engine.Sequence) (took time.Duration, err error) {
	tokens := 0
	for _, q := range seqs {
		tokens += len(q.Tokens)
	}
	limit := s.pace.limit(tokens)
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			err = s.panicError(v)
		}
	}()
	start := time.Now()
	err = s.eng.Forward(ctx, seqs)
	took = time.Since(start)
	if err != nil && s.ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %d tokens took longer than %s", errHang, tokens, limit)
	}
	if err == nil {
		s.pace.observe(tokens, took)
	}
	return took, err
}

// panicError turns a recovered panic into an error and logs where it came from.
func (s *Scheduler) panicError(v any) error {
	s.cfg.Log("worker panic=%q stack=%q", fmt.Sprint(v), debug.Stack())
	return fmt.Errorf("%w: panic: %v", errPanic, v)
}

// account books the time of a pass that worked. A mixed pass is shared out by
// tokens.
func (s *Scheduler) account(b *batch, took time.Duration) {
	n := len(b.decodes)
	prefill := took * time.Duration(b.chunk) / time.Duration(b.chunk+n)
	decode := took - prefill
	for _, j := range b.decodes {
		j.decode += decode
	}
	if b.prefill != nil {
		b.prefill.attempt.prefill += prefill
	}
	read := s.decodeBytes(b.decodes)
	s.count.add(func(st *Stats) {
		st.DecodeReadBytes += read
		st.PrefillTokens += uint64(b.chunk)
		st.PrefillTime += prefill
		st.DecodeTokens += uint64(n)
		st.DecodeTime += decode
		if b.prefill != nil {
			st.PrefillChunks++
		}
	})
}

// decodeBytes is what the decoding sequences of a pass made the device read.
func (s *Scheduler) decodeBytes(decodes []*job) (n uint64) {
	if len(decodes) == 0 {
		return 0
	}
	longest := 0
	for _, j := range decodes {
		pos := j.slot.sess.Len() - 1
		longest = max(longest, pos)
		n += s.eng.DecodeRowBytes(pos)
	}
	return n + s.eng.DecodeWeightBytes(len(decodes), longest)
}

// proven records that a request's state took a pass: the marker of its restore
// can go.
func (s *Scheduler) proven(j *job) {
	s.uncured = 0
	s.disk.proven(j)
}

// prefilled carries on after a chunk of a prompt was evaluated.
func (s *Scheduler) prefilled(j *job, n int, took time.Duration) {
	sl := j.slot
	pos := sl.sess.Len()
	sl.past.truncate(min(len(sl.past.tokens), pos-n)) // nothing, unless the recovery is off
	// Some may have been sampled, and come back as text.
	sl.past.appendLike(j.attempt.tokens[pos-n:pos], j.prompt.text, s.tok)
	sl.hidden, sl.thought = false, false
	s.proven(j)
	done, all := pos-j.attempt.cached, j.total()-j.attempt.cached
	s.logChunk(j, done, all, rate(n, took))
	j.out.put(Event{Kind: EventPrefill, Done: done, Total: all, Cached: j.attempt.cached})
	s.saveSegment(j)
	if pos < j.attempt.mark && s.rejoin(j) {
		return
	}
	if pos == j.attempt.mark {
		s.keep(sl)
		if j.cold() {
			_ = s.saveTail(j.ctx, sl, reasonCold)
		}
	}
	if pos < j.total() {
		return
	}
	first := s.sample(j)
	if first == sample.NoToken {
		s.jobFailed(j, stagePrefill, errGarbage)
		return
	}
	s.logPrompt(j, "prompt done "+seconds(j.attempt.prefill))
	s.settle(s.ladder.succeed(j.rangeKey, stagePrefill, j.cold()))
	s.count.add(func(st *Stats) {
		st.Reuse[j.attempt.source]++
		st.CachedTokens += uint64(j.attempt.cached)
		st.RestoredTokens += uint64(j.attempt.restored)
	})
	j.phase, j.alone = phaseDecode, false
	if j.req.PromptOnly {
		s.finishAnswer(j, FinishLength)
		return
	}
	s.take(j, first)
}
