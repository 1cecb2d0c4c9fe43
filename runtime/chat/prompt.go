// Package chat renders conversations into prompts in the DeepSeek V4 format
// (spec: turn structure of the model's own encoder).
//
// A prompt is a list of pieces. Control tokens are pieces of their own, so text
// that a user typed can never become a control token, whatever it contains.
package chat

// Piece is a stretch of ordinary text, or one control token.
type Piece struct {
	Text    string // ordinary text, or the exact string of the control token
	Control bool
}

// Prompt is a rendered conversation.
type Prompt struct {
	Pieces []Piece
	// RangeEnd is the length, in bytes of CacheText, of the prompt up to the end
	// of the first user turn. It is stable while a conversation grows, so the
	// failure ladder uses the text before it as its key.
	RangeEnd int
}
