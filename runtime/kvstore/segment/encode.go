package segment

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Segment is the contents of a file, in memory.
type Segment struct {
	Identity  [32]byte
	Parent    ID
	From, To  int
	CreatedNS int64
	Sampled   bool // the last token was sampled
	Text      []byte
	Tokens    []int32
	// Per layer, nil where the layout has none.
	Raw, Comp, Index, Frontier [][]byte
}

// ID returns the segment's name.
func (s *Segment) ID() ID { return MakeID(s.Identity, s.Parent, s.From, s.Text) }

// Encoded is a segment as the bytes of a file. Its parts share memory with the
// Segment that was encoded.
type Encoded struct {
	ID    ID
	Head  []byte // header and table, padded to the first section
	parts [][]byte
	Bytes int64 // of the whole file
}

var zeros [Align]byte

// Encode checks a segment against the layout and lays it out as a file.
func Encode(l Layout, s *Segment) (*Encoded, error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	if err := s.Check(l); err != nil {
		return nil, err
	}
	table, fileBytes := l.plan(s.From, s.To, len(s.Text))
	e := &Encoded{ID: s.ID(), Bytes: fileBytes, parts: make([][]byte, 1, 2*len(table)+2)}
	for i := range table {
		t := &table[i]
		data := s.section(t.Kind, t.Layer, l.Vocab)
		if int64(len(data)) != t.Bytes {
			return nil, fmt.Errorf("%w: %v of layer %d has %d bytes, want %d rows in %d bytes",
				ErrInput, t.Kind, t.Layer, len(data), t.Rows, t.Bytes)
		}
		t.CRC = Checksum(data)
		e.parts = append(e.parts, data)
		if pad := align(t.Offset+t.Bytes) - (t.Offset + t.Bytes); pad > 0 {
			e.parts = append(e.parts, zeros[:pad])
		}
	}
	e.Head = encodeHead(s, table, fileBytes)
	e.parts[0] = e.Head
	e.parts = append(e.parts, encodeFooter(fileBytes, Checksum(e.Head[:HeaderBytes+EntryBytes*len(table)])))
	return e, nil
}

// Parts returns the pieces of the file in their order; the first is Head.
func (e *Encoded) Parts() [][]byte { return e.parts }

// WriteTo writes the file.
func (e *Encoded) WriteTo(w io.Writer) (n int64, err error) {
	for _, p := range e.parts {
		k, err := w.Write(p)
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Check reports what makes the segment unfit for the layout, except for the
// sizes of rows, which Encode compares with
// its plan.
func (s *Segment) Check(l Layout) error {
	switch {
	case s.From < 0 || s.To <= s.From || s.To > MaxPosition || s.To-s.From > MaxTokens:
		return fmt.Errorf("%w: tokens [%d, %d): want 0 <= from < to <= %d, at most %d of them", ErrInput, s.From, s.To, MaxPosition, MaxTokens)
	case (s.From == 0) != s.Parent.IsZero():
		return fmt.Errorf("%w: from %d with parent %v: exactly the segments at 0 have none", ErrInput, s.From, s.Parent)
	case len(s.Text) < 1 || len(s.Text) > MaxTextBytes:
		return fmt.Errorf("%w: text of %d bytes, want 1 to %d", ErrInput, len(s.Text), MaxTextBytes)
	case len(s.Tokens) != s.To-s.From:
		return fmt.Errorf("%w: %d tokens for [%d, %d)", ErrInput, len(s.Tokens), s.From, s.To)
	}
	for i, id := range s.Tokens {
		if id < 0 || int(id) >= l.Vocab {
			return fmt.Errorf("%w: token %d is %d, vocabulary of %d", ErrInput, i, id, l.Vocab)
		}
	}
	for i, y := range l.Layers {
		for _, x := range []struct {
			kind   Kind
			rows   [][]byte
			absent bool
		}{
			{Compressed, s.Comp, y.Ratio == 0},
			{Indexer, s.Index, y.Ratio == 0 || y.IndexRowBytes == 0},
			{Frontier, s.Frontier, !y.hasFrontier()},
		} {
			if x.absent && i < len(x.rows) && len(x.rows[i]) > 0 {
				return fmt.Errorf("%w: layer %d has %d bytes of %v, the layout has none", ErrInput, i, len(x.rows[i]), x.kind)
			}
		}
	}
	return nil
}

// section returns the bytes of one section; nil if the segment lacks it.
func (s *Segment) section(kind Kind, layer, vocab int) []byte {
	rows := [][]byte(nil)
	switch kind {
	case Text:
		return s.Text
	case Tokens:
		return encodeTokens(s.Tokens, tokenBytes(vocab))
	case Raw:
		rows = s.Raw
	case Compressed:
		rows = s.Comp
	case Indexer:
		rows = s.Index
	case Frontier:
		rows = s.Frontier
	}
	if layer >= len(rows) {
		return nil
	}
	return rows[layer]
}

// TokensChecksum is the checksum that the section of tokens has in the table.
func TokensChecksum(tokens []int32, vocab int) uint32 {
	return Checksum(encodeTokens(tokens, tokenBytes(vocab)))
}

func encodeTokens(ids []int32, width int) []byte {
	b := make([]byte, 0, width*len(ids))
	for _, id := range ids {
		for range width {
			b = append(b, byte(id))
			id >>= 8
		}
	}
	return b
}

func encodeHead(s *Segment, table []Section, fileBytes int64) []byte {
	le := binary.LittleEndian
	b := make([]byte, align(int64(HeaderBytes+EntryBytes*len(table))))
	copy(b, headerMagic)
	le.PutUint16(b[offVersion:], Version)
	if s.Sampled {
		le.PutUint16(b[offFlags:], flagSampled)
	}
	le.PutUint32(b[offSections:], uint32(len(table)))
	copy(b[offIdentity:], s.Identity[:])
	copy(b[offParent:], s.Parent[:])
	le.PutUint64(b[offFrom:], uint64(s.From))
	le.PutUint64(b[offTo:], uint64(s.To))
	le.PutUint64(b[offBytes:], uint64(fileBytes))
	le.PutUint64(b[offCreated:], uint64(s.CreatedNS))
	le.PutUint32(b[offCRC:], Checksum(b[:HeaderBytes]))
	for i, t := range table {
		e := b[HeaderBytes+EntryBytes*i:]
		le.PutUint16(e[0:], uint16(t.Kind))
		le.PutUint16(e[2:], uint16(t.Layer))
		le.PutUint32(e[4:], uint32(t.Rows))
		le.PutUint64(e[8:], uint64(t.Offset))
		le.PutUint64(e[16:], uint64(t.Bytes))
		le.PutUint32(e[24:], t.CRC)
	}
	return b
}

func encodeFooter(fileBytes int64, headCRC uint32) []byte {
	b := make([]byte, FooterBytes)
	binary.LittleEndian.PutUint64(b[0:], uint64(fileBytes))
	binary.LittleEndian.PutUint32(b[8:], headCRC)
	copy(b[16:], footerMagic)
	return b
}
