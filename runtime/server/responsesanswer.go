package server

import (
	"encoding/json"
)

// States of a response and of its items.
const (
	statusInProgress = "in_progress"
	statusCompleted  = "completed"
	statusIncomplete = "incomplete"
	statusFailed     = "failed"
)

// reasonLength is why a response is incomplete: the limit of output tokens.
const reasonLength = "max_output_tokens"

// response is the answer to POST /v1/responses, whole or as it grows.
type response struct {
	ID           string             `json:"id"`
	Object       string             `json:"object"` // "response"
	CreatedAt    int64              `json:"created_at"`
	Status       string             `json:"status"`
	Model        string             `json:"model"`
	Error        *responseError     `json:"error"`
	Incomplete   *incompleteDetails `json:"incomplete_details"`
	Instructions *string            `json:"instructions"`
	MaxOutput    *int64             `json:"max_output_tokens"`
	Output       []outputItem       `json:"output"`
	Parallel     bool               `json:"parallel_tool_calls"`
	Previous     *string            `json:"previous_response_id"`
	Reasoning    responseReasoning  `json:"reasoning"`
	Store        bool               `json:"store"`
	ToolChoice   json.RawMessage    `json:"tool_choice"` // as the client sent it
	Usage        *responsesUsage    `json:"usage"`
	Timings      *timings           `json:"timings,omitempty"`
}

// responseError says why a response failed: an error object as the other protocols
// have it, with the code where clients of this one look for the type.
type responseError struct {
	Code    string `json:"code"`
	Message string `json:"message"`

	Retryable *bool  `json:"retryable,omitempty"`
	Attempt   int    `json:"attempt,omitempty"`
	Limit     int    `json:"limit,omitempty"`
	Range     string `json:"range,omitempty"`
}

type incompleteDetails struct {
	Reason string `json:"reason"`
}

type responseReasoning struct {
	Effort  *string `json:"effort"`
	Summary *string `json:"summary"`
}

type responsesUsage struct {
	InputTokens   int           `json:"input_tokens"`
	InputDetails  usageDetails  `json:"input_tokens_details"`
	OutputTokens  int           `json:"output_tokens"`
	OutputDetails outputDetails `json:"output_tokens_details"`
	TotalTokens   int           `json:"total_tokens"`
}

type outputDetails struct {
	ReasoningTokens int `json:"reasoning_tokens"` // not counted apart
}

// outputItem is one item of an answer; the fields that its type does not have are left
// out.
type outputItem struct {
	ID        string           `json:"id"`
	Type      string           `json:"type"`
	Status    string           `json:"status"`
	Role      string           `json:"role,omitempty"`    // of a message
	Content   *[]outputPart    `json:"content,omitempty"` // of a message
	Summary   *[]outputPart    `json:"summary,omitempty"` // of reasoning
	Sealed    *string          `json:"encrypted_content,omitempty"`
	CallID    string           `json:"call_id,omitempty"`   // of a call
	Name      string           `json:"name,omitempty"`      // of a call
	Namespace string           `json:"namespace,omitempty"` // of a call
	Execution string           `json:"execution,omitempty"` // of a search for tools
	Arguments *json.RawMessage `json:"arguments,omitempty"` // a string, or an object of a search for tools
	Input     *string          `json:"input,omitempty"`     // of a call with free-form input
}

type outputPart struct {
	Type        string  `json:"type"`
	Text        string  `json:"text"`
	Annotations *[]bool `json:"annotations,omitempty"` // of output_text: always empty
}

// responsesEvent is one event of a stream; the fields that its type does not have are
// left out.
type responsesEvent struct {
	Type         string      `json:"type"`
	Sequence     int         `json:"sequence_number"`
	Response     *response   `json:"response,omitempty"`
	OutputIndex  *int        `json:"output_index,omitempty"`
	ItemID       string      `json:"item_id,omitempty"`
	ContentIndex *int        `json:"content_index,omitempty"`
	SummaryIndex *int        `json:"summary_index,omitempty"`
	Item         *outputItem `json:"item,omitempty"`
	Part         *outputPart `json:"part,omitempty"`
	Delta        *string     `json:"delta,omitempty"`
	Text         *string     `json:"text,omitempty"`
	Arguments    *string     `json:"arguments,omitempty"`
	Input        *string     `json:"input,omitempty"`
}

// responsesAnswer builds a response from what the model says, and tells a client that
// wants a stream of each step.
type responsesAnswer struct {
	response response
	tools    *responsesTools
	newID    func(prefix string) string
	summary  bool                 // show the reasoning
	sealed   bool                 // return it in a form that the client sends back
	send     func(responsesEvent) // nil if the client wants it in one piece
	sequence int
	open     *outputItem // the item that grows, nil if none does
	tool     responsesTool
	text     []byte    // of that item
	input    freeInput // of that item, if it is a call with free-form input
	whole    []wholeCall
}

// wholeCall is a call that is complete, in a block of calls that is not.
type wholeCall struct {
	item  outputItem
	text  string // its arguments
	input freeInput
}

func (a *responsesAnswer) emit(e responsesEvent) {
	if a.send != nil {
		e.Sequence = a.sequence
		a.sequence++
		a.send(e)
	}
}

// state sends an event that carries the whole response.
func (a *responsesAnswer) state(event string) {
	r := a.response
	a.emit(responsesEvent{Type: event, Response: &r})
}

// begin sends the first event; false if it was sent before.
func (a *responsesAnswer) begin() bool {
	if a.sequence > 0 {
		return false
	}
	a.state("response.created")
	return true
}

// index is the place of the item that is open, or comes next.
func (a *responsesAnswer) index() *int {
	i := len(a.response.Output) + len(a.whole)
	return &i
}

// about fills in which item an event is about.
func (a *responsesAnswer) about(e responsesEvent) {
	e.OutputIndex, e.ItemID = a.index(), a.open.ID
	a.emit(e)
}

// start opens an item, and closes the one before it.
func (a *responsesAnswer) start(it outputItem) {
	a.stop(statusCompleted)
	it.Status = statusInProgress
	a.open = &it
	a.emit(responsesEvent{Type: "response.output_item.added", OutputIndex: a.index(), Item: &it})
}

func (a *responsesAnswer) reasoning(text string) {
	if !a.summary && !a.sealed {
		return
	}
	if a.open == nil || a.open.Type != itemReasoning {
		a.start(outputItem{ID: a.newID("rs_"), Type: itemReasoning, Summary: &[]outputPart{}})
		if a.summary {
			a.about(responsesEvent{
				Type: "response.reasoning_summary_part.added", SummaryIndex: new(int), Part: &outputPart{Type: "summary_text"},
			})
		}
	}
	a.text = append(a.text, text...)
	if a.summary {
		a.about(responsesEvent{Type: "response.reasoning_summary_text.delta", SummaryIndex: new(int), Delta: &text})
	}
}

func (a *responsesAnswer) words(text string) {
	if a.open == nil || a.open.Type != itemMessage {
		a.start(outputItem{ID: a.newID("msg_"), Type: itemMessage, Role: "assistant", Content: &[]outputPart{}})
		part := newOutputText("")
		a.about(responsesEvent{Type: "response.content_part.added", ContentIndex: new(int), Part: &part})
	}
	a.text = append(a.text, text...)
	a.about(responsesEvent{Type: "response.output_text.delta", ContentIndex: new(int), Delta: &text})
}

func newOutputText(text string) outputPart {
	return outputPart{Type: "output_text", Text: text, Annotations: &[]bool{}}
}

func (a *responsesAnswer) callStart(id, name string) {
	a.tool, _ = a.tools.called(name)
	it := outputItem{Type: a.tool.kind, CallID: id}
	switch it.Type {
	case itemFunctionCall:
		empty := json.RawMessage(`""`)
		it.ID, it.Name, it.Namespace, it.Arguments = a.newID("fc_"), a.tool.name, a.tool.namespace, &empty
	case itemCustomCall:
		it.ID, it.Name, it.Namespace, it.Input = a.newID("ctc_"), a.tool.name, a.tool.namespace, new(string)
		a.input = freeInput{}
	case itemToolSearchCall:
		empty := json.RawMessage("{}")
		it.ID, it.Execution, it.Arguments = a.newID("tsc_"), "client", &empty
	}
	a.start(it)
}

// callArguments adds to the arguments of the call. Those of functions and free-form
// input are shown as they come; a search for tools has no event for them.
func (a *responsesAnswer) callArguments(fragment string) {
	switch a.tool.kind {
	case itemFunctionCall:
		a.about(responsesEvent{Type: "response.function_call_arguments.delta", Delta: &fragment})
	case itemCustomCall:
		if input := a.input.write(fragment); input != "" {
			a.about(responsesEvent{Type: "response.custom_tool_call_input.delta", Delta: &input})
		}
		return
	}
	a.text = append(a.text, fragment...)
}

// callEnd lays a call aside until the block is complete: if it never is, none of its
// calls may be made, and there are clients that make one as soon as its item is done.
func (a *responsesAnswer) callEnd() {
	a.whole = append(a.whole, wholeCall{*a.open, string(a.text), a.input})
	a.open, a.text = nil, nil
}

// stopCalls closes the calls of a block that is complete.
func (a *responsesAnswer) stopCalls() {
	whole := a.whole
	a.whole = nil
	for _, c := range whole {
		a.open, a.text, a.input = &c.item, []byte(c.text), c.input
		a.stop(statusCompleted)
	}
}

// stop closes the item that is open, with a status that says whether it is whole. A
// call that is not whole is never closed, and no part of the response: there are
// clients that obey a call when its item is done, whatever the status.
func (a *responsesAnswer) stop(status string) {
	if a.open == nil {
		return
	}
	it, text := a.open, string(a.text)
	if status != statusCompleted && it.CallID != "" {
		a.open, a.text = nil, nil
		return
	}
	it.Status = status
	switch it.Type {
	case itemReasoning:
		a.stopReasoning(it, text)
	case itemMessage:
		part := newOutputText(text)
		it.Content = &[]outputPart{part}
		a.about(responsesEvent{Type: "response.output_text.done", ContentIndex: new(int), Text: &text})
		a.about(responsesEvent{Type: "response.content_part.done", ContentIndex: new(int), Part: &part})
	case itemFunctionCall:
		arguments := json.RawMessage(appendJSON(nil, text))
		it.Arguments = &arguments
		a.about(responsesEvent{Type: "response.function_call_arguments.done", Arguments: &text})
	case itemCustomCall:
		input, passed := a.input.whole()
		it.Input = &input
		if !passed {
			a.about(responsesEvent{Type: "response.custom_tool_call_input.delta", Delta: &input})
		}
		a.about(responsesEvent{Type: "response.custom_tool_call_input.done", Input: &input})
	case itemToolSearchCall:
		if arguments := json.RawMessage(text); json.Valid(arguments) { // else it was cut
			it.Arguments = &arguments
		}
	}
	a.emit(responsesEvent{Type: "response.output_item.done", OutputIndex: a.index(), Item: it})
	a.response.Output = append(a.response.Output, *it)
	a.open, a.text = nil, nil
}

func (a *responsesAnswer) stopReasoning(it *outputItem, text string) {
	if a.sealed {
		sealed := sealReasoning(text)
		it.Sealed = &sealed
	}
	if !a.summary {
		return
	}
	part := outputPart{Type: "summary_text", Text: text}
	it.Summary = &[]outputPart{part}
	a.about(responsesEvent{Type: "response.reasoning_summary_text.done", SummaryIndex: new(int), Text: &text})
	a.about(responsesEvent{Type: "response.reasoning_summary_part.done", SummaryIndex: new(int), Part: &part})
}

// finish ends a response that worked; short says that the limit of tokens cut it.
func (a *responsesAnswer) finish(short bool) {
	if short {
		a.stop(statusIncomplete)
		a.response.Status = statusIncomplete
		a.response.Incomplete = &incompleteDetails{Reason: reasonLength}
		a.state("response.incomplete")
		return
	}
	a.stop(statusCompleted)
	a.stopCalls()
	a.response.Status = statusCompleted
	a.state("response.completed")
}

// failed ends a response that did not work, whatever it has said by then.
func (a *responsesAnswer) failed(e *apiError) {
	a.stop(statusIncomplete)
	code := e.Code
	if code == "" {
		code = typeServer
	}
	a.response.Status = statusFailed
	a.response.Error = &responseError{
		Code: code, Message: e.Message, Retryable: e.Retryable, Attempt: e.Attempt, Limit: e.Limit, Range: e.Range,
	}
	a.state("response.failed")
}
