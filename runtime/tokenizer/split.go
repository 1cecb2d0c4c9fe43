package tokenizer

// splitter cuts text into the pieces that merges never cross. It is equivalent to
// three passes, each of which isolates the matches of an expression within the
// pieces of the pass before (a stretch without a match stays one piece):
//
//  1. \p{N}{1,3}
//  2. [\x{4E00}-\x{9FA5}\x{3040}-\x{30FF}]+
//  3. the first of these that matches:
//     one ASCII punctuation character, [A-Za-z]+
//     [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+
//     ` `?[\p{P}\p{S}]+[\r\n]*
//     \s*[\r\n]+
//     \s+(?!\S)
//     \s+
//
// A piece of pass 1 can match nothing later, so it is final. The end of a piece
// of pass 1 or 2 is the end of text to pass 3, its lookahead included. Every
// code point is looked at a bounded number of times.
type splitter struct {
	text string
	pos  int // start of the next piece
	end  int // end of the current pass 2 piece; pos == end: find the next one
}

// next returns the next piece, never empty; ok is false at the end of the text.
func (s *splitter) next() (piece string, ok bool) {
	if s.pos == len(s.text) {
		return "", false
	}
	start := s.pos
	if s.pos == s.end {
		s.end = s.segment()
		if c, _ := classAt(s.text[start:]); c&clsNumber != 0 {
			s.pos = s.end
			return s.text[start:s.pos], true
		}
	}
	for s.pos < s.end {
		if n := matchPiece(s.text[s.pos:s.end]); n > 0 {
			if s.pos > start { // what lies before the match is a piece of its own
				break
			}
			s.pos += n
			break
		}
		_, width := classAt(s.text[s.pos:])
		s.pos += width
	}
	return s.text[start:s.pos], true
}

// maxDigits is how many numeric characters one piece holds.
const maxDigits = 3

// segment returns the end of the piece of the first two passes that starts at pos.
func (s *splitter) segment() int {
	first, width := classAt(s.text[s.pos:])
	kind := first & (clsNumber | clsCJK)
	end := s.pos + width
	for n := 1; end < len(s.text); n++ {
		c, width := classAt(s.text[end:])
		if c&(clsNumber|clsCJK) != kind || kind == clsNumber && n == maxDigits {
			break
		}
		end += width
	}
	return end
}

// matchPiece returns the length of the match of the third pass at the start of s,
// 0 if there is none.
func matchPiece(s string) int {
	c, width := classAt(s)
	rest := s[width:]
	var after class // of the second code point
	if rest != "" {
		after, _ = classAt(rest)
	}
	switch {
	case c&clsPunct != 0:
		if width == 1 && s[0] < 0x80 && rest != "" && isASCIILetter(rest[0]) {
			n := 2
			for n < len(s) && isASCIILetter(s[n]) {
				n++
			}
			return n
		}
		return punctRun(s, 0)
	case c&clsWord != 0:
		return run(s, 0, clsWord)
	case c&clsBreak == 0 && after&clsWord != 0:
		return run(s, width, clsWord)
	case s[0] == ' ' && after&clsPunct != 0:
		return punctRun(s, 1)
	case c&clsSpace != 0:
		return spaceRun(s)
	}
	return 0
}

// run returns the end of the code points of class want that start at offset from.
func run(s string, from int, want class) int {
	for from < len(s) {
		c, width := classAt(s[from:])
		if c&want == 0 {
			break
		}
		from += width
	}
	return from
}

func punctRun(s string, from int) int {
	return run(s, run(s, from, clsPunct), clsBreak)
}

// spaceRun matches white space: up to the last line break if there is one, else
// all but the last character, which belongs to what follows, unless nothing
// follows or it is the only one.
func spaceRun(s string) int {
	end, last, afterBreak := 0, 0, 0
	for end < len(s) {
		c, width := classAt(s[end:])
		if c&clsSpace == 0 {
			break
		}
		last = end
		end += width
		if c&clsBreak != 0 {
			afterBreak = end
		}
	}
	switch {
	case afterBreak > 0:
		return afterBreak
	case end == len(s) || last == 0:
		return end
	}
	return last
}
