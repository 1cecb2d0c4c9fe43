package scheduler

import (
	"ds4/runtime/chat"
	"ds4/runtime/sample"
)

// ToolUse says how an answer may call tools.
type ToolUse struct {
	Required bool     // it must call one: the answer, behind its reasoning, begins with a call
	Names    []string // of the tools that a required call may name; one is prescribed, several leave the choice
	Single   bool     // it ends behind its first call
}

// begin returns what the answer must begin with, as cache text.
func (u ToolUse) begin() []byte {
	switch {
	case !u.Required:
		return nil
	case len(u.Names) == 1:
		return chat.CallsForced(u.Names[0])
	}
	return chat.CallsForced("")
}

// sample draws the next token: one that the request prescribes if there is one, what the
// format of tool calls prescribes greedily, all else as the request wants it.
func (s *Scheduler) sample(j *job) int32 {
	parts, logits := j.answer.parts, j.slot.sess.Logits()
	if len(j.forced) > 0 && !parts.Reasoning() {
		id := j.forced[0]
		j.forced = j.forced[1:]
		return id
	}
	if j.req.ToolUse.Required {
		if allowed := parts.NextName(j.req.ToolUse.Names); allowed != nil {
			id := j.sampler.GreedyOf(logits, func(id int32) bool { return !s.tok.Control(id) && allowed(s.tok.Bytes(id)) })
			if id != sample.NoToken {
				return id
			}
		}
	}
	var id int32
	if parts.Syntax() {
		id = j.sampler.Greedy(logits)
	} else {
		id = j.sampler.Sample(logits)
	}
	if end := s.endThink(); id == s.tok.EOS() && len(j.forced) > 0 && end != sample.NoToken {
		return end // the turn cannot end inside the reasoning
	}
	return id
}

// newAnswer starts the answer of a request, for the first time or once more.
func (s *Scheduler) newAnswer(j *job) {
	j.answer, j.sampler = newAnswer(s.tok, j.req), newSampler(j.req)
	j.sampled, j.logprobs, j.reworded, j.unsaved = 0, nil, 0, false
	s.force(j, j.req.ToolUse.begin())
}

// force prescribes what comes next.
func (s *Scheduler) force(j *job, cache []byte) { j.forced = s.tok.EncodeCacheText(cache) }
