package server

import "ds4/runtime/scheduler"

// replay tells a whole answer as the events of a run, so that one piece of code puts
// both into the words of a protocol.
func (w *wholeAnswer) replay(say func(turnEvent)) {
	tell := func(kind scheduler.EventKind, text string, call int, id string) {
		say(turnEvent{Event: scheduler.Event{Kind: kind, Text: text, Index: call}, CallID: id})
	}
	if w.reasoning != "" {
		tell(scheduler.EventReasoning, w.reasoning, 0, "")
	}
	if w.text != "" {
		tell(scheduler.EventText, w.text, 0, "")
	}
	for i, c := range w.calls {
		tell(scheduler.EventCall, c.Name, i, c.ID)
		tell(scheduler.EventArguments, c.Arguments, i, c.ID)
		tell(scheduler.EventCallEnd, "", i, c.ID)
	}
	say(turnEvent{Event: scheduler.Event{Kind: scheduler.EventDone, Result: w.result}})
}

// broken reports whether a model spoilt its tool calls, so that nothing can be made of
// the answer. Calls that the limit of tokens cut are no such case: protocols that say
// so by another reason than "error" use it.
func broken(res *scheduler.Result) bool {
	return res.Finish == scheduler.FinishError && !res.Short
}
