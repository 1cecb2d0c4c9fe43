package scheduler

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"ds4/metal"
	"ds4/runtime/engine"
	"ds4/runtime/sample"
)

// decodeLogTokens is how often a decoding request writes a log line.
const decodeLogTokens = 50

// batch is one pass over the device: the next token of every decoding request,
// and a chunk of one request's prompt.
type batch struct {
	seqs    []engine.Sequence
	prefill *job
	chunk   int // tokens of prefill
	decodes []*job
}

// step runs one pass over the device; false if no request wants one.
func (s *Scheduler) step() bool {
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
		s.stepFailed(b, err)
		return true
	}
	s.policy = s.policy.Success()
	s.account(b, took)
	for _, j := range b.decodes {
		s.decoded(j)
	}
	if b.prefill != nil {
		s.prefilled(b.prefill, b.chunk, took)
	}
	return true
}

// nextBatch chooses what the next pass evaluates. Requests that prefill take
// turns; a request that is alone after a failed pass gets one to itself.
func (s *Scheduler) nextBatch() batch {
	var b batch
	if s.down {
		return b
	}
	var prefills []*job
	for _, j := range s.active {
		switch j.phase {
		case phaseDecode:
			if j.alone {
				return batch{seqs: []engine.Sequence{j.decodeStep()}, decodes: []*job{j}}
			}
			if len(b.decodes) < s.chunk {
				b.decodes = append(b.decodes, j)
				b.seqs = append(b.seqs, j.decodeStep())
			}
		case phasePrefill:
			prefills = append(prefills, j)
		}
	}
	room := s.chunk - len(b.decodes)
	if len(prefills) == 0 || room <= 0 {
		return b
	}
	s.turns++
	j := prefills[s.turns%len(prefills)]
	pos := j.slot.sess.Len()
	end := s.chunkEnd(j, pos, room)
	b.prefill, b.chunk = j, end-pos
	b.seqs = append(b.seqs, engine.Sequence{Session: j.slot.sess, Tokens: j.attempt.tokens[pos:end]})
	return b
}

func (j *job) decodeStep() engine.Sequence {
	return engine.Sequence{Session: j.slot.sess, Tokens: []int32{j.next}}
}

// chunkEnd is where the next chunk of a prompt ends: at a place where the state
// is saved or kept, at the end of the prompt, or where room ends.
func (s *Scheduler) chunkEnd(j *job, pos, room int) int {
	end := min(pos+room, len(j.attempt.tokens))
	if pos < j.attempt.mark {
		end = min(end, j.attempt.mark)
	}
	if seg := s.cfg.SegmentTokens; s.disk.on() {
		end = min(end, (pos/seg+1)*seg)
	}
	return end
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
func (s *Scheduler) account(b batch, took time.Duration) {
	n := len(b.decodes)
	prefill := took * time.Duration(b.chunk) / time.Duration(b.chunk+n)
	decode := took - prefill
	for _, j := range b.decodes {
		j.decode += decode
	}
	if b.prefill != nil {
		b.prefill.attempt.prefill += prefill
	}
	s.count.add(func(st *Stats) {
		st.PrefillTokens += uint64(b.chunk)
		st.PrefillTime += prefill
		st.DecodeTokens += uint64(n)
		st.DecodeTime += decode
		if b.prefill != nil {
			st.PrefillChunks++
		}
	})
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
	sl.past.append(j.attempt.tokens[pos-n:pos], s.tok.CacheText)
	sl.hidden = false
	s.proven(j)
	done, all := pos-j.attempt.cached, j.total()-j.attempt.cached
	s.logChunk(j, done, all, rate(n, took))
	j.out.put(Event{Kind: EventPrefill, Done: done, Total: all})
	s.saveSegment(j)
	if pos == j.attempt.mark {
		sl.keep()
		if j.cold() {
			s.saveTail(j.ctx, sl, reasonCold)
		}
	}
	if pos < j.total() {
		return
	}
	first := j.sampler.Sample(sl.sess.Logits())
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
	j.phase = phaseDecode
	s.take(j, first)
}

// decoded carries on after a sampled token was evaluated.
func (s *Scheduler) decoded(j *job) {
	sl := j.slot
	sl.past.append([]int32{j.next}, s.tok.CacheText)
	sl.past.sampledEnd = len(sl.past.tokens)
	j.alone = false
	s.uncured = 0
	s.settle(s.ladder.succeed(j.rangeKey, stageDecode, j.cold()))
	s.saveSegment(j)
	id := j.sampler.Sample(sl.sess.Logits())
	if id == sample.NoToken {
		s.jobFailed(j, stageDecode, errGarbage)
		return
	}
	s.take(j, id)
}

// take does with a sampled token what is to be done: shows its text, and ends
// the request or evaluates it next.
func (s *Scheduler) take(j *job, id int32) {
	j.sampled++
	if id == s.tok.EOS() && !j.req.IgnoreEOS {
		s.finishAnswer(j, FinishStop)
		return
	}
	if j.answer.parts.Reasoning() {
		j.slot.hidden = true
	}
	reasoning, text, stopped := j.answer.push(id)
	s.emit(j, reasoning, text)
	switch {
	case stopped:
		s.complete(j, FinishStop)
		return
	case j.sampled >= j.maxTokens, j.slot.sess.Len() >= s.eng.ContextTokens():
		s.finishAnswer(j, FinishLength)
		return
	}
	j.next = id
	if j.sampled%decodeLogTokens == 0 {
		s.logDecoding(j)
	}
}

func (s *Scheduler) emit(j *job, reasoning, text string) {
	if reasoning != "" {
		j.out.put(Event{Kind: EventReasoning, Text: reasoning})
	}
	if text != "" {
		j.out.put(Event{Kind: EventText, Text: text})
	}
	j.sent = j.sent || reasoning != "" || text != ""
}

// finishAnswer ends an answer that no stop string ended so far: one may hide in
// what was held back.
func (s *Scheduler) finishAnswer(j *job, reason string) {
	reasoning, text, stopped := j.answer.flush()
	s.emit(j, reasoning, text)
	if stopped {
		reason = FinishStop
	}
	s.complete(j, reason)
}

// complete ends a request that worked.
func (s *Scheduler) complete(j *job, reason string) {
	s.logFinish(j, reason, "")
	s.detach(j)
	s.end(j, Event{Kind: EventDone, Result: j.result(reason)}, reason)
}

// detach takes a request off its slot, which stays as it is.
func (s *Scheduler) detach(j *job) {
	s.disk.dismissed(j)
	if i := slices.Index(s.active, j); i >= 0 {
		s.active = slices.Delete(s.active, i, i+1)
	}
	if sl := j.slot; sl != nil && sl.job == j {
		sl.job = nil
		s.uses++
		sl.used = s.uses
	}
}

// pace remembers how long passes take, for the watchdog and for the decision
// whether a restore is worth waiting for.
type pace struct {
	min      time.Duration // of a limit
	perToken time.Duration // slowest seen, chunks only
	prefill  float64       // tokens per second, smoothed
}

const (
	watchdogFactor = 20 // times the expected time
	watchdogFirst  = 8  // times min, while nothing is known
	paceSmoothing  = 0.25
	// paceUnknown, in tokens per second, is assumed until a chunk was timed.
	paceUnknown   = 100
	paceMinTokens = 16 // of a pass that tells something about prefill
)

func (p *pace) observe(tokens int, took time.Duration) {
	p.perToken = max(p.perToken, took/time.Duration(tokens))
	if tokens < paceMinTokens {
		return
	}
	r := rate(tokens, took)
	if p.prefill == 0 {
		p.prefill = r
	}
	p.prefill += paceSmoothing * (r - p.prefill)
}

// limit is when a pass over so many tokens counts as hung.
func (p *pace) limit(tokens int) time.Duration {
	if p.perToken == 0 {
		return watchdogFirst * p.min
	}
	return max(p.min, watchdogFactor*p.perToken*time.Duration(tokens))
}

// estimate is how long a cold prefill of so many tokens would take.
func (p *pace) estimate(tokens int) time.Duration {
	r := p.prefill
	if r == 0 {
		r = paceUnknown
	}
	return time.Duration(float64(tokens) / r * float64(time.Second))
}
