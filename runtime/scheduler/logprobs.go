package scheduler

import (
	"ds4/runtime/sample"
)

// MaxTopLogprobs bounds Request.TopLogprobs.
const MaxTopLogprobs = 20

// TokenLogprob is one token of the visible text, with how likely it was.
type TokenLogprob struct {
	Bytes   []byte
	Logprob float64        // natural logarithm, before temperature and the like
	Top     []TokenLogprob // the most likely tokens in its place, without a Top of their own
}

// logprob describes the token that was just drawn, if the request wants to know.
func (s *Scheduler) logprob(j *job, id int32) {
	if !j.req.Logprobs || j.answer.parts.Reasoning() {
		return
	}
	of, top := sample.Logprobs(j.slot.sess.Logits(), id, j.req.TopLogprobs)
	l := TokenLogprob{Bytes: s.tok.Bytes(id), Logprob: of}
	for _, p := range top {
		l.Top = append(l.Top, TokenLogprob{Bytes: s.tok.Bytes(p.ID), Logprob: p.Logprob})
	}
	j.logprobs = append(j.logprobs, l)
}

// addLogprobs gives the text among events the tokens since the last text. Those of tool
// calls, and those that a stop string took away, are nobody's.
func (j *job) addLogprobs(events []Event) {
	for i := range events {
		switch events[i].Kind {
		case EventText:
			events[i].Logprobs, j.logprobs = j.logprobs, nil
		case EventCall, EventReasoning:
			j.logprobs = nil
		}
	}
}
