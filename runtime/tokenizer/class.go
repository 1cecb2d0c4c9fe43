package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// class is the set of character classes of a code point that the splitter asks for.
type class uint8

const (
	clsLetter class = 1 << iota // \p{L}
	clsMark                     // \p{M}
	clsNumber                   // \p{N}
	clsPunct                    // \p{P} or \p{S}
	clsSpace                    // \s
	clsBreak                    // \r or \n
	clsCJK                      // the range that the second pass isolates
	clsWord   = clsLetter | clsMark
)

var asciiClass [utf8.RuneSelf]class

func init() {
	for r := range rune(utf8.RuneSelf) {
		asciiClass[r] = slowClass(r)
	}
}

// classAt classifies the code point at the start of s, which must not be empty,
// and returns its width in bytes. A byte that is not UTF-8 counts as U+FFFD,
// which is a symbol.
func classAt(s string) (class, int) {
	if b := s[0]; b < utf8.RuneSelf {
		return asciiClass[b], 1
	}
	r, width := utf8.DecodeRuneInString(s)
	switch {
	case r >= 0x4E00 && r <= 0x9FA5:
		return clsLetter | clsCJK, width
	case r >= 0xAC00 && r <= 0xD7A3: // Hangul syllables
		return clsLetter, width
	}
	return slowClass(r), width
}

func slowClass(r rune) class {
	var c class
	switch {
	case unicode.Is(unicode.L, r):
		c = clsLetter
	case unicode.Is(unicode.M, r):
		c = clsMark
	case unicode.Is(unicode.N, r):
		c = clsNumber
	case unicode.Is(unicode.P, r), unicode.Is(unicode.S, r):
		c = clsPunct
	case unicode.Is(unicode.White_Space, r):
		c = clsSpace
	}
	if r == '\r' || r == '\n' {
		c |= clsBreak
	}
	if r >= 0x4E00 && r <= 0x9FA5 || r >= 0x3040 && r <= 0x30FF {
		c |= clsCJK
	}
	return c
}

func isASCIILetter(b byte) bool {
	b |= 0x20
	return b >= 'a' && b <= 'z'
}
