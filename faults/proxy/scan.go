package proxy

import (
	"bytes"
	"strconv"
	"strings"
)

// maxHeadBytes bounds the head of an answer, and a line of its framing.
const maxHeadBytes = 64 << 10

// scanner follows HTTP/1 answers byte by byte and finds the ends of server-sent
// events in them, whatever the framing: chunks, a length, or until the end. It
// never changes what passes; what it does not understand it takes for a body.
type scanner struct {
	phase  phase
	line   []byte // of the head, or the size of a chunk
	stream bool   // the body is an event stream
	chunks bool
	left   int64 // bytes of the body, or of the chunk; -1: until the end

	blank bool // the body's current line is empty so far
	cr    bool // the last byte of the body was a carriage return
	some  bool // the current event has data, or is a comment
	field []byte
}

type phase int

const (
	inHead phase = iota
	inSize
	inBody
	inSizeEnd // the line end behind a chunk
	inTrailer
)

// next takes one byte and says whether it ended an event: one with data, or a
// comment, which servers use as a sign of life.
func (s *scanner) next(c byte) (event bool) {
	switch s.phase {
	case inHead:
		s.head(c)
	case inSize:
		s.size(c)
	case inBody:
		event = s.body(c)
	case inSizeEnd:
		if c == '\n' {
			s.phase = inSize
		}
	case inTrailer:
		if s.wholeLine(c) {
			if len(s.line) == 0 {
				s.reset()
			}
			s.line = s.line[:0]
		}
	}
	return event
}

// wholeLine collects bytes up to a line end; line then has no carriage return.
func (s *scanner) wholeLine(c byte) bool {
	if c == '\n' {
		s.line = bytes.TrimSuffix(s.line, []byte("\r"))
		return true
	}
	if len(s.line) < maxHeadBytes {
		s.line = append(s.line, c)
	}
	return false
}

// reset waits for the head of the next answer on the connection.
func (s *scanner) reset() { *s = scanner{line: s.line[:0], blank: true} }

// head collects the whole head, and decides by it how the body ends.
func (s *scanner) head(c byte) {
	if len(s.line) < maxHeadBytes {
		s.line = append(s.line, c)
	}
	if !bytes.HasSuffix(s.line, []byte("\r\n\r\n")) && !bytes.HasSuffix(s.line, []byte("\n\n")) {
		return
	}
	lines := strings.Split(strings.ReplaceAll(string(s.line), "\r\n", "\n"), "\n")
	s.line = s.line[:0]
	s.stream, s.chunks, s.left, s.blank = false, false, -1, true
	words := strings.Fields(lines[0])
	status := 0
	if len(words) > 1 {
		status, _ = strconv.Atoi(words[1])
	}
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ":")
		value = strings.ToLower(strings.TrimSpace(value))
		switch strings.ToLower(name) {
		case "transfer-encoding":
			s.chunks = strings.HasSuffix(value, "chunked")
		case "content-length":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && n >= 0 {
				s.left = n
			}
		case "content-type":
			s.stream = strings.HasPrefix(value, "text/event-stream")
		}
	}
	switch {
	case status/100 == 1, status == 204, status == 304, !s.chunks && s.left == 0:
		s.reset()
	case s.chunks:
		s.phase = inSize
	default:
		s.phase = inBody
	}
}

// size reads the line that begins a chunk.
func (s *scanner) size(c byte) {
	if !s.wholeLine(c) {
		return
	}
	text, _, _ := strings.Cut(string(s.line), ";")
	s.line = s.line[:0]
	n, err := strconv.ParseInt(strings.TrimSpace(text), 16, 64)
	switch {
	case err != nil || n < 0:
		s.phase, s.chunks, s.left = inBody, false, -1
	case n == 0:
		s.phase = inTrailer
	default:
		s.phase, s.left = inBody, n
	}
}

// body looks at one byte of the body. An event ends at an empty line; line ends
// are LF, CR or both.
func (s *scanner) body(c byte) (event bool) {
	if s.stream {
		event = s.text(c)
	}
	if s.left > 0 {
		if s.left--; s.left == 0 {
			if s.chunks {
				s.phase = inSizeEnd
			} else {
				s.reset()
			}
		}
	}
	return event
}

func (s *scanner) text(c byte) (event bool) {
	if c == '\n' && s.cr {
		s.cr = false
		return false // the second half of a line end
	}
	s.cr = c == '\r'
	const enough = len("data") // of a line's beginning
	switch {
	case c != '\n' && c != '\r':
		s.blank = false
		if len(s.field) <= enough {
			s.field = append(s.field, c)
		}
		return false
	case s.blank: // an empty line
		event = s.some
		s.some = false
	default:
		s.some = s.some || bytes.HasPrefix(s.field, []byte("data")) || s.field[0] == ':'
	}
	s.blank, s.field = true, s.field[:0]
	return event
}
