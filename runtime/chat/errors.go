package chat

import "errors"

var (
	// ErrMessages: the conversation cannot be rendered: it is empty, or a message
	// has a role that prompts have no place for.
	ErrMessages = errors.New("bad messages")
	// ErrVocabulary: the model's vocabulary lacks control tokens of the prompt format.
	ErrVocabulary = errors.New("vocabulary without the chat format")
	// ErrTools: the tools of a request cannot be offered to the model.
	ErrTools = errors.New("bad tools")
	// ErrMode: not the name of a thinking mode.
	ErrMode = errors.New("unknown thinking mode")
)
