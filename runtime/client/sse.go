package client

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
)

// maxEventBytes bounds one server-sent event; the longest legal one carries a
// whole answer.
const maxEventBytes = 8 << 20

// sseEvent is one server-sent event, or one comment line.
type sseEvent struct {
	name    string
	data    string
	comment bool // data is the text of a comment, which servers use as keepalive
}

// sseReader splits a byte stream into server-sent events: LF, CRLF or CR line
// ends, several data lines joined by LF, comments reported as they come. An
// event that the end of the stream cuts off is dropped, as the format demands.
type sseReader struct {
	r     *bufio.Reader
	lines int64 // bytes of the event so far
	skip  bool  // the last line ended in CR: swallow an LF
}

func newSSEReader(r io.Reader) *sseReader { return &sseReader{r: bufio.NewReaderSize(r, 16<<10)} }

// next returns the next event. At the end of the stream it returns io.EOF.
func (s *sseReader) next() (sseEvent, error) {
	var ev sseEvent
	var data []byte
	has := false
	s.lines = 0
	for {
		line, err := s.line()
		if err != nil {
			return sseEvent{}, err
		}
		if len(line) == 0 {
			if has {
				ev.data = string(data)
				return ev, nil
			}
			ev = sseEvent{} // an event without data is no event
			continue
		}
		if line[0] == ':' {
			if !has {
				return sseEvent{data: string(bytes.TrimPrefix(line[1:], []byte(" "))), comment: true}, nil
			}
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			ev.name = string(value)
		case "data":
			if has {
				data = append(data, '\n')
			}
			data = append(data, value...)
			has = true
		}
	}
}

// line reads one line without its end. A last line without an end is dropped.
func (s *sseReader) line() ([]byte, error) {
	var line []byte
	for {
		c, err := s.r.ReadByte()
		if err != nil {
			return nil, err
		}
		if s.skip {
			s.skip = false
			if c == '\n' {
				continue
			}
		}
		switch c {
		case '\r':
			s.skip = true
			return line, nil
		case '\n':
			return line, nil
		}
		if s.lines++; s.lines > maxEventBytes {
			return nil, fmt.Errorf("%w: event of more than %d bytes", ErrTooLarge, maxEventBytes)
		}
		line = append(line, c)
	}
}
