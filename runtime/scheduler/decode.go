package scheduler

import (
	"slices"

	"ds4/runtime/chat"
	"ds4/runtime/sample"
)

// decodeLogTokens is how often a decoding request writes a log line.
const decodeLogTokens = 50

// decoded carries on after a sampled token was evaluated.
func (s *Scheduler) decoded(j *job) {
	sl := j.slot
	sl.past.append([]int32{j.next}, s.tok.CacheText)
	sl.past.sampledEnd = len(sl.past.tokens)
	s.reword(j)
	j.alone = false
	s.uncured = 0
	s.settle(s.ladder.succeed(j.rangeKey, stageDecode, j.cold()))
	s.saveSegment(j)
	id := s.sample(j)
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
		j.slot.thought = j.req.Prompt.KeepsReasoning
		j.slot.hidden = !j.slot.thought
	}
	s.logprob(j, id)
	events, stopped := j.answer.push(id)
	s.emit(j, events)
	if n := len(events); n > 0 && events[n-1].Kind == EventCallEnd && j.req.ToolUse.Single {
		s.force(j, chat.CallsEnd())
	}
	switch {
	case stopped:
		s.complete(j, FinishStop)
		return
	case j.answer.parts.Ended():
		s.finishAnswer(j, FinishToolCalls)
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

// reword gives the control tokens of an answer that were shown as text the text that
// they come back with.
func (s *Scheduler) reword(j *job) {
	list := j.answer.parts.Literals(j.reworded)
	for i := range list {
		list[i] += j.total()
	}
	// The last one that was sampled need not be evaluated yet.
	for len(list) > 0 && list[len(list)-1] >= len(j.slot.past.tokens) {
		list = list[:len(list)-1]
	}
	if len(list) > 0 {
		j.slot.past.reword(list, s.tok)
		j.reworded += len(list)
	}
}

func (s *Scheduler) emit(j *job, events []Event) {
	j.addLogprobs(events)
	for _, e := range events {
		j.out.put(e)
	}
	j.sent = j.sent || len(events) > 0
}

// finishAnswer ends an answer that no stop string ended so far: one may hide in
// what was held back.
func (s *Scheduler) finishAnswer(j *job, reason string) {
	events, stopped := j.answer.flush()
	s.emit(j, events)
	if stopped {
		reason = FinishStop
	}
	s.complete(j, reason)
}

// checkBlock looks at the tool calls of an answer that ends for a reason and returns
// the reason to tell. A block that was cut must not be obeyed; one that is no block is
// an answer like another, with a warning.
func (s *Scheduler) checkBlock(j *job, reason string) string {
	j.block = j.answer.parts.Block()
	switch {
	case j.block.Open && s.cfg.Unsafe.ObeyCutCalls:
		return FinishToolCalls
	case j.block.Open:
		j.problem = ProblemUnterminated
		return FinishError
	case j.block.Closed && !j.block.Good:
		j.problem = ProblemMalformed
		return FinishStop
	}
	return reason
}

// complete ends a request that worked.
func (s *Scheduler) complete(j *job, reason string) {
	j.short = reason == FinishLength
	reason = s.checkBlock(j, reason)
	s.logFinish(j, reason, string(j.problem))
	j.slot.hidden = j.slot.hidden || j.answer.overshot()
	s.detach(j)
	s.end(j, Event{Kind: EventDone, Result: j.result(reason)}, reason)
	if j.unsaved && j.slot.idle() && !j.slot.hidden {
		_ = s.save(s.ctx, j.slot, reasonContinued)
	}
}

// detach takes a request off its slot, which stays as it is.
func (s *Scheduler) detach(j *job) {
	s.disk.dismissed(j)
	if i := slices.Index(s.active, j); i >= 0 {
		s.active = slices.Delete(s.active, i, i+1)
	}
	if sl := j.slot; sl != nil && sl.job == j {
		if j.phase == phaseDecode && len(sl.past.tokens) >= j.total() {
			s.reword(j)
			sl.hidden = sl.hidden || !j.answer.parts.Settled()
		}
		sl.job = nil
		s.uses++
		sl.used = s.uses
	}
}
