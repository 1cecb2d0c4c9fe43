package tokenizer

import "unicode/utf8"

// UTF8Stream turns the bytes of tokens, which may end anywhere, into whole
// characters. A sequence that later bytes may complete is held back; a byte that
// can no longer become part of one is replaced by U+FFFD. The concatenation of
// all results equals the conversion of all bytes at once, one replacement per bad
// byte. The zero value is ready to use.
type UTF8Stream struct {
	held  [utf8.UTFMax - 1]byte
	nHeld int
}

// Write takes bytes and returns the text that they complete, possibly empty.
func (u *UTF8Stream) Write(p []byte) string {
	data := p
	if u.nHeld > 0 {
		data = append(u.held[:u.nHeld:u.nHeld], p...)
	}
	end := completeLen(data)
	text := replaceInvalid(data[:end])
	u.nHeld = copy(u.held[:], data[end:])
	return text
}

// Flush returns what is held back, as replacement characters: the text ends here.
func (u *UTF8Stream) Flush() string {
	text := replaceInvalid(u.held[:u.nHeld])
	u.nHeld = 0
	return text
}

// completeLen returns how much of b later bytes cannot change.
func completeLen(b []byte) int {
	// Only a sequence that starts in the last three bytes can be incomplete. Bytes
	// that start none count as full: they are bad for certain.
	for i := max(0, len(b)-(utf8.UTFMax-1)); i < len(b); i++ {
		if !utf8.FullRune(b[i:]) {
			return i
		}
	}
	return len(b)
}

func replaceInvalid(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return string([]rune(string(b)))
}
