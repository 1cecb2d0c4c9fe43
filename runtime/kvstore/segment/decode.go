package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Reader reads one file. It holds no buffers between calls.
type Reader struct {
	R    io.ReaderAt
	Size int64 // of the file, from the file system
	// NoChecksum accepts wrong checksums, and a text that does not hash to the
	// id. It exists to show what they are for.
	NoChecksum bool
	// TrustLength reads each section into a buffer of the length that the table
	// declares, before that is checked. It exists to show why nothing else does.
	TrustLength bool
}

// Info is a checked header and table.
type Info struct {
	Header
	Table []Section
}

// Section returns the section of a kind; layer is 0 for text and tokens.
func (in *Info) Section(kind Kind, layer int) (Section, bool) {
	for _, s := range in.Table {
		if s.Kind == kind && s.Layer == layer {
			return s, true
		}
	}
	return Section{}, false
}

// Header reads and checks the first 128 bytes. Identity is the caller's to
// compare, before it reads on.
func (r Reader) Header() (Header, error) {
	var h Header
	if r.Size < HeaderBytes+FooterBytes {
		return h, fmt.Errorf("%w: %d bytes, header and footer have %d", ErrTorn, r.Size, HeaderBytes+FooterBytes)
	}
	var b [HeaderBytes]byte
	if err := r.readAt(b[:], 0); err != nil {
		return h, err
	}
	le := binary.LittleEndian
	if string(b[:8]) != headerMagic {
		return h, fmt.Errorf("%w: magic %q, want %q", ErrCorrupt, b[:8], headerMagic)
	}
	sum := le.Uint32(b[offCRC:])
	le.PutUint32(b[offCRC:], 0)
	if got := Checksum(b[:]); got != sum && !r.NoChecksum {
		return h, fmt.Errorf("%w: header checksum %08x, computed %08x", ErrCorrupt, sum, got)
	}
	if v := le.Uint16(b[offVersion:]); v != Version {
		return h, fmt.Errorf("%w: version %d, this program reads %d", ErrVersion, v, Version)
	}
	flags := le.Uint16(b[offFlags:])
	if flags&^flagSampled != 0 {
		return h, fmt.Errorf("%w: flags %#x, version %d knows %#x", ErrCorrupt, flags, Version, flagSampled)
	}
	if !allZero(b[offZero:]) {
		return h, fmt.Errorf("%w: header bytes from %d are not zero", ErrCorrupt, offZero)
	}
	from, to, size := le.Uint64(b[offFrom:]), le.Uint64(b[offTo:]), le.Uint64(b[offBytes:])
	if to > MaxPosition || from >= to || to-from > MaxTokens {
		return h, fmt.Errorf("%w: tokens [%d, %d): want from < to <= %d, at most %d of them", ErrLimit, from, to, MaxPosition, MaxTokens)
	}
	if size > MaxFileBytes {
		return h, fmt.Errorf("%w: %d bytes declared, at most %d", ErrLimit, size, int64(MaxFileBytes))
	}
	count := le.Uint32(b[offSections:])
	if count > MaxSections {
		return h, fmt.Errorf("%w: %d sections, at most %d", ErrLimit, count, MaxSections)
	}
	h = Header{Identity: [32]byte(b[offIdentity:]), Parent: ID(b[offParent:]), From: int(from), To: int(to),
		CreatedNS: int64(le.Uint64(b[offCreated:])), Sampled: flags == flagSampled, Sections: int(count), FileBytes: int64(size)}
	if (h.From == 0) != h.Parent.IsZero() {
		return h, fmt.Errorf("%w: from %d with parent %v", ErrCorrupt, h.From, h.Parent)
	}
	return h, nil
}

// Info reads and checks table and footer against the header and, unless l is
// nil, against the layout.
func (r Reader) Info(h Header, l *Layout) (*Info, error) {
	if r.Size < h.FileBytes {
		return nil, fmt.Errorf("%w: %d bytes of %d", ErrTorn, r.Size, h.FileBytes)
	}
	if r.Size > h.FileBytes {
		return nil, fmt.Errorf("%w: %d bytes, header says %d", ErrCorrupt, r.Size, h.FileBytes)
	}
	headBytes := int64(HeaderBytes + EntryBytes*h.Sections)
	if h.Sections > MaxSections || headBytes+FooterBytes > r.Size {
		return nil, fmt.Errorf("%w: table of %d sections does not fit into %d bytes", ErrCorrupt, h.Sections, r.Size)
	}
	head := make([]byte, headBytes)
	if err := r.readAt(head, 0); err != nil {
		return nil, err
	}
	if err := r.footer(Checksum(head)); err != nil {
		return nil, err
	}
	in := &Info{Header: h, Table: make([]Section, h.Sections)}
	for i := range in.Table {
		var err error
		if in.Table[i], err = decodeEntry(head[HeaderBytes+EntryBytes*i:]); err != nil {
			return nil, fmt.Errorf("table entry %d: %w", i, err)
		}
		if r.TrustLength {
			_, _ = r.R.ReadAt(make([]byte, in.Table[i].Bytes), in.Table[i].Offset)
		}
	}
	if err := in.checkStructure(); err != nil {
		return nil, err
	}
	if l != nil {
		if err := in.checkLayout(*l); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// footer checks the last 32 bytes against the file's size and the checksum of
// header and table.
func (r Reader) footer(headCRC uint32) error {
	var b [FooterBytes]byte
	if err := r.readAt(b[:], r.Size-FooterBytes); err != nil {
		return err
	}
	le := binary.LittleEndian
	if string(b[16:24]) != footerMagic {
		return fmt.Errorf("%w: no footer", ErrTorn)
	}
	if n := le.Uint64(b[0:]); n != uint64(r.Size) {
		return fmt.Errorf("%w: footer says %d bytes, the file has %d", ErrCorrupt, n, r.Size)
	}
	if sum := le.Uint32(b[8:]); sum != headCRC && !r.NoChecksum {
		return fmt.Errorf("%w: table checksum %08x, computed %08x", ErrCorrupt, sum, headCRC)
	}
	if !allZero(b[12:16]) || !allZero(b[24:]) {
		return fmt.Errorf("%w: footer's spare bytes are not zero", ErrCorrupt)
	}
	return nil
}

func decodeEntry(b []byte) (Section, error) {
	le := binary.LittleEndian
	s := Section{Kind: Kind(le.Uint16(b[0:])), Layer: int(le.Uint16(b[2:])), Rows: int(le.Uint32(b[4:])), CRC: le.Uint32(b[24:])}
	off, n := le.Uint64(b[8:]), le.Uint64(b[16:])
	if off > MaxFileBytes || n > MaxFileBytes {
		return s, fmt.Errorf("%w: offset %d, %d bytes", ErrLimit, off, n)
	}
	s.Offset, s.Bytes = int64(off), int64(n)
	if _, ok := kindNames[s.Kind]; !ok {
		return s, fmt.Errorf("%w: unknown kind %d", ErrCorrupt, uint16(s.Kind))
	}
	if !allZero(b[28:32]) {
		return s, fmt.Errorf("%w: spare bytes are not zero", ErrCorrupt)
	}
	return s, nil
}

// checkStructure checks what holds for every layout: sections follow each other
// without gap or overlap and fill the file, text and tokens come first.
func (in *Info) checkStructure() error {
	if len(in.Table) < 3 || in.Table[0].Kind != Text || in.Table[1].Kind != Tokens {
		return fmt.Errorf("%w: the table must begin with text and tokens", ErrCorrupt)
	}
	text, tokens := in.Table[0], in.Table[1]
	if text.Bytes < 1 || text.Bytes > MaxTextBytes || int64(text.Rows) != text.Bytes {
		return fmt.Errorf("%w: text of %d bytes in %d rows, want 1 to %d bytes", ErrLimit, text.Bytes, text.Rows, MaxTextBytes)
	}
	if tokens.Rows != in.To-in.From || tokens.Bytes%int64(tokens.Rows) != 0 || tokens.Bytes < 1 || tokens.Bytes > maxTokenBytes*int64(tokens.Rows) {
		return fmt.Errorf("%w: %d tokens in %d bytes for [%d, %d)", ErrLayout, tokens.Rows, tokens.Bytes, in.From, in.To)
	}
	at := align(int64(HeaderBytes + EntryBytes*len(in.Table)))
	for i, s := range in.Table {
		if s.Offset != at {
			return fmt.Errorf("%w: section %d (%v of layer %d) at %d, want %d", ErrCorrupt, i, s.Kind, s.Layer, s.Offset, at)
		}
		if at = align(at + s.Bytes); at > in.FileBytes-FooterBytes {
			return fmt.Errorf("%w: section %d (%v of layer %d) ends beyond the file", ErrCorrupt, i, s.Kind, s.Layer)
		}
	}
	if at+FooterBytes != in.FileBytes {
		return fmt.Errorf("%w: sections end at %d of %d bytes", ErrCorrupt, at, in.FileBytes)
	}
	return nil
}

// checkLayout compares the table with the one that the layout implies.
func (in *Info) checkLayout(l Layout) error {
	want, _ := l.plan(in.From, in.To, int(in.Table[0].Bytes))
	if len(want) != len(in.Table) {
		return fmt.Errorf("%w: %d sections, want %d", ErrLayout, len(in.Table), len(want))
	}
	for i, w := range want {
		got := in.Table[i]
		w.CRC = got.CRC
		if got != w {
			return fmt.Errorf("%w: section %d is %v of layer %d with %d rows in %d bytes, want %v of layer %d with %d in %d",
				ErrLayout, i, got.Kind, got.Layer, got.Rows, got.Bytes, w.Kind, w.Layer, w.Rows, w.Bytes)
		}
	}
	return nil
}

// Read fills buf with a whole section and checks its checksum.
func (r Reader) Read(s Section, buf []byte) error {
	if int64(len(buf)) != s.Bytes {
		return fmt.Errorf("%w: buffer of %d bytes for a %v section of %d", ErrInput, len(buf), s.Kind, s.Bytes)
	}
	if err := r.readAt(buf, s.Offset); err != nil {
		return err
	}
	return r.CheckSum(s, Checksum(buf))
}

// CheckSum compares the computed checksum of a section's bytes.
func (r Reader) CheckSum(s Section, sum uint32) error {
	if sum != s.CRC && !r.NoChecksum {
		return fmt.Errorf("%w: %v of layer %d at %d: checksum %08x, computed %08x", ErrCorrupt, s.Kind, s.Layer, s.Offset, s.CRC, sum)
	}
	return nil
}

// readAt reads exactly len(b) bytes; the end of the file is ErrTorn.
func (r Reader) readAt(b []byte, off int64) error {
	if len(b) == 0 {
		return nil
	}
	n, err := r.R.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: file ends at %d, %d bytes are missing", ErrTorn, off+int64(n), len(b)-n)
	}
	return fmt.Errorf("segment: read %d bytes at %d: %w", len(b), off, err)
}

// DecodeTokens reads the ids of a tokens section and refuses those outside of the
// vocabulary.
func DecodeTokens(b []byte, vocab int) ([]int32, error) {
	width := tokenBytes(vocab)
	ids := make([]int32, len(b)/width)
	for i := range ids {
		v := tokenAt(b[width*i:], width)
		if v >= vocab {
			return nil, fmt.Errorf("%w: token %d is %d, vocabulary of %d", ErrCorrupt, i, v, vocab)
		}
		ids[i] = int32(v)
	}
	return ids, nil
}

// tokenAt reads the id at the beginning of b.
func tokenAt(b []byte, width int) int {
	v := 0
	for i := range width {
		v |= int(b[i]) << (8 * i)
	}
	return v
}

// Decode reads a whole file: ErrIdentity before anything but the header is read
// if it belongs to another identity.
func (r Reader) Decode(l Layout, identity [32]byte) (*Segment, error) {
	h, err := r.Header()
	if err != nil {
		return nil, err
	}
	if h.Identity != identity {
		return nil, fmt.Errorf("%w: %x, want %x", ErrIdentity, h.Identity[:6], identity[:6])
	}
	in, err := r.Info(h, &l)
	if err != nil {
		return nil, err
	}
	if _, err := r.Verify(in, &l); err != nil {
		return nil, err
	}
	s := &Segment{Identity: h.Identity, Parent: h.Parent, From: h.From, To: h.To, CreatedNS: h.CreatedNS,
		Sampled: h.Sampled, Raw: make([][]byte, len(l.Layers)), Comp: make([][]byte, len(l.Layers)),
		Index: make([][]byte, len(l.Layers)), Frontier: make([][]byte, len(l.Layers))}
	for _, t := range in.Table {
		b := make([]byte, t.Bytes) // bounded: the plan of the layout and the file's size agree on it
		if err := r.Read(t, b); err != nil {
			return nil, err
		}
		if err := s.setSection(t, b, l.Vocab); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Segment) setSection(t Section, b []byte, vocab int) (err error) {
	switch t.Kind {
	case Text:
		s.Text = b
	case Tokens:
		s.Tokens, err = DecodeTokens(b, vocab)
	case Raw:
		s.Raw[t.Layer] = b
	case Compressed:
		s.Comp[t.Layer] = b
	case Indexer:
		s.Index[t.Layer] = b
	case Frontier:
		s.Frontier[t.Layer] = b
	}
	return err
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
