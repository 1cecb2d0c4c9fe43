package segment

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// testLayout has every kind of layer: plain, compressed with an indexer,
// compressed without.
func testLayout() Layout {
	return Layout{Vocab: 50, Window: 8, Layers: []Layer{
		{Ratio: 0, RowBytes: 6},
		{Ratio: 4, RowBytes: 10, IndexRowBytes: 3, ClosedBytes: 17, OpenBytes: 6},
		{Ratio: 16, RowBytes: 10, OpenBytes: 5},
	}}
}

// makeSegment returns a valid segment with random contents.
func makeSegment(rng *rand.Rand, l Layout, identity [32]byte, parent ID, from, to int, text []byte) *Segment {
	fill := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	s := &Segment{Identity: identity, Parent: parent, From: from, To: to, CreatedNS: rng.Int64(), Text: text}
	for range to - from {
		s.Tokens = append(s.Tokens, int32(rng.IntN(l.Vocab)))
	}
	for _, y := range l.Layers {
		s.Raw = append(s.Raw, fill(min(to, l.Window)*y.RowBytes))
		var comp, index, frontier []byte
		if y.Ratio > 0 {
			closed := to/y.Ratio - from/y.Ratio
			comp = fill(closed * y.RowBytes)
			if y.IndexRowBytes > 0 {
				index = fill(closed * y.IndexRowBytes)
			}
		}
		frontier = fill(y.FrontierBytes(to))
		s.Comp, s.Index, s.Frontier = append(s.Comp, comp), append(s.Index, index), append(s.Frontier, frontier)
	}
	return s
}

func sample() (*Segment, Layout) {
	l := testLayout()
	parent := ID{1, 2, 3}
	return makeSegment(rand.New(rand.NewPCG(1, 2)), l, [32]byte{7}, parent, 10, 37, []byte("text \xff\x00 of it")), l
}

func encode(t testing.TB, l Layout, s *Segment) []byte {
	t.Helper()
	e, err := Encode(l, s)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	n, err := e.WriteTo(&b)
	if err != nil || n != e.Bytes || int64(b.Len()) != e.Bytes {
		t.Fatalf("wrote %d of %d bytes, %v", n, e.Bytes, err)
	}
	return b.Bytes()
}

func reader(file []byte) Reader {
	return Reader{R: bytes.NewReader(file), Size: int64(len(file))}
}

// seal makes the checksums of header and table right again after a change, so
// that a test reaches the rule behind them.
func seal(file []byte) {
	le := binary.LittleEndian
	n := int(le.Uint32(file[offSections:]))
	le.PutUint32(file[offCRC:], 0)
	le.PutUint32(file[offCRC:], Checksum(file[:HeaderBytes]))
	if end := HeaderBytes + EntryBytes*n; n < MaxSections && end <= len(file)-FooterBytes {
		le.PutUint32(file[len(file)-FooterBytes+8:], Checksum(file[:end]))
	}
}
