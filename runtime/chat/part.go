package chat

// PartKind says what a Part carries.
type PartKind int

const (
	PartReasoning PartKind = iota + 1 // text inside the think markers
	PartText                          // visible text
	PartCall                          // a call begins: Text is the tool's name
	PartArguments                     // the next piece of the call's arguments
	PartCallEnd                       // its arguments are complete
)

// Part is one step of an answer. The PartArguments of one call, put together, are
// one JSON object.
type Part struct {
	Kind  PartKind
	Text  string
	Index int // of the call, from 0
}
