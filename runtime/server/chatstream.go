package server

import (
	"ds4/runtime/scheduler"
)

// Comments that keep a connection alive. Clients skip them; they say what the server
// is busy with.
const (
	commentPrefill = ": prefill\n\n"
	commentDecode  = ": decode\n\n"
)

// chatStream writes one chat completion as server-sent events.
type chatStream struct {
	*answer
	begun bool // the role chunk was sent
}

func (c *chatStream) event(b []byte, e turnEvent) []byte {
	b = c.begin(b)
	switch e.Kind {
	case scheduler.EventText:
		chunk := c.chunk(chunkDelta{Content: e.Text}, nil)
		chunk.Choices[0].Logprobs = c.logprobsOf(e.Logprobs)
		b = appendData(b, chunk)
	case scheduler.EventReasoning:
		b = c.delta(b, chunkDelta{Reasoning: e.Text})
	case scheduler.EventCall:
		b = c.delta(b, chunkDelta{Calls: []chunkCall{{
			Index: e.Index, ID: e.CallID, Type: "function", Function: chunkFunction{Name: e.Text},
		}}})
	case scheduler.EventArguments:
		b = c.delta(b, chunkDelta{Calls: []chunkCall{{Index: e.Index, Function: chunkFunction{Arguments: e.Text}}}})
	case scheduler.EventDone:
		b = c.finish(b, e.Result)
	}
	return b
}

// delta sends one piece of the answer.
func (c *chatStream) delta(b []byte, d chunkDelta) []byte {
	return appendData(b, c.chunk(d, nil))
}

// begin puts the role chunk before the first piece. It waits until there is one: a
// prefill that fails may only have sent comments.
func (c *chatStream) begin(b []byte) []byte {
	if c.begun {
		return b
	}
	c.begun = true
	return c.delta(b, chunkDelta{Role: "assistant"})
}

// finish sends the last chunk, the usage if it was asked for, and the end mark.
func (c *chatStream) finish(b []byte, res *scheduler.Result) []byte {
	last := c.chunk(chunkDelta{}, &res.Finish)
	if c.includeUsage {
		b = appendData(b, last)
		last = c.chunk(chunkDelta{}, nil)
		last.Choices = []chunkChoice{}
		last.Usage = newUsage(res)
	}
	last.Timings = newTimings(res)
	return append(appendData(b, last), "data: [DONE]\n\n"...)
}

// fail sends the one event after which nothing comes.
func (c *chatStream) fail(b []byte, e *apiError) []byte {
	return appendEvent(b, "error", errorBody{e})
}

func (c *chatStream) idle(b []byte) []byte {
	if c.begun {
		return append(b, commentDecode...)
	}
	return append(b, commentPrefill...)
}
