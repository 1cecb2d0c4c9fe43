// Package segment is the file format of the disk cache, "DS4S" version 2: what
// one stretch of a conversation's tokens added to the state of a model, and the
// state at its end.
//
//	header   128 bytes: magic "DS4SEG\x00\x01", u16 version, u16 flags,
//	         u32 sections, identity[32], parent id[20], u64 from, u64 to,
//	         u64 file bytes, u64 created unix ns, u32 CRC-32C of the header with
//	         this field zero, zeros
//	table    32 bytes per section: u16 kind, u16 layer, u32 rows, u64 offset,
//	         u64 bytes, u32 CRC-32C of the bytes, u32 zero
//	sections each at a multiple of 64, zeros between: text, tokens; for each layer
//	         raw, compressed, indexer; for each layer frontier
//	footer   32 bytes at a multiple of 64: u64 file bytes, u32 CRC-32C of header
//	         and table, u32 zero, magic "DS4END\x00\x01", zeros
//
// Everything is little endian. Layout, token range and text length determine
// every number of the table except the checksums, so a reader computes the table
// and compares: no declared size is ever trusted. Sections that the layout rules
// out (no compressor, no indexer, no frontier) are absent; a section with no
// rows yet is present and empty.
//
// Promises. What Encode wrote, Decode returns bit for bit. Decode, Verify and
// Info refuse every file that differs in any bit from one that Encode writes
// (Verify and Decode look at every bit, Info at header, table and footer),
// allocate nothing before the sizes are checked, and never panic.
//
// A segment is a place to go on from: by evaluating a token. The logits of its
// last position are not part of it; no prompt is answered without evaluating its
// last token.
//
// Not promised: what the rows mean. They are opaque bytes.
package segment

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
)

// flagSampled is the one flag: the last token was sampled.
const flagSampled = 1

// Sizes and fixed values of the format.
const (
	Version     = 2
	HeaderBytes = 128
	EntryBytes  = 32
	FooterBytes = 32
	Align       = 64

	headerMagic = "DS4SEG\x00\x01"
	footerMagic = "DS4END\x00\x01"
)

// Limits. A file beyond one of them is refused before anything is allocated.
const (
	MaxLayers    = 1024
	MaxSections  = 2 + 4*MaxLayers
	MaxPosition  = 1 << 26 // tokens of a conversation
	MaxTokens    = 1 << 20 // tokens of a segment
	MaxTextBytes = 64 << 20
	MaxVocab     = 1 << 22
	MaxRowBytes  = 1 << 24
	MaxFileBytes = 1 << 40
)

// Field offsets in the header.
const (
	offVersion  = 8
	offFlags    = 10
	offSections = 12
	offIdentity = 16
	offParent   = 48
	offFrom     = 68
	offTo       = 76
	offBytes    = 84
	offCreated  = 92
	offCRC      = 100
	offZero     = 104
)

// Kind says what a section holds.
type Kind uint16

// The kinds, in the order of the file; raw, compressed and indexer alternate per
// layer.
const (
	Text       Kind = 1 // cache text of the tokens; a row is a byte
	Tokens     Kind = 2 // ids, each in as many bytes as the vocabulary needs
	Raw        Kind = 3 // the raw window at To: the last min(To, Window) rows, oldest first
	Compressed Kind = 4 // rows of the windows closed in (From, To]
	Indexer    Kind = 5 // indexer rows of the same windows
	Frontier   Kind = 6 // partial state of compressor and indexer at To; one row
)

var kindNames = map[Kind]string{Text: "text", Tokens: "tokens", Raw: "raw", Compressed: "compressed",
	Indexer: "indexer", Frontier: "frontier"}

// String returns the name that dumps and scenarios use.
func (k Kind) String() string {
	if n, ok := kindNames[k]; ok {
		return n
	}
	return fmt.Sprintf("kind(%d)", uint16(k))
}

// ID names a segment: the first 20 bytes of a SHA-256 over everything that
// determines its contents. The zero ID is the parent of a conversation's first
// segment.
type ID [20]byte

// String returns 40 hex digits, the base of the file's name.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is the root's parent.
func (id ID) IsZero() bool { return id == ID{} }

// ParseID reads 40 lower-case hex digits.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return id, fmt.Errorf("%w: id %.60q has %d characters, want %d", ErrInput, s, len(s), 2*len(id))
	}
	for i := range len(s) {
		if c := s[i]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return ID{}, fmt.Errorf("%w: id %q is not lower-case hex", ErrInput, s)
		}
	}
	_, _ = hex.Decode(id[:], []byte(s))
	return id, nil
}

// MakeID returns the id of the segment of text that follows parent at position
// from, in the world of identity.
func MakeID(identity [32]byte, parent ID, from int, text []byte) ID {
	h := newIDHash(identity, parent, from)
	h.Write(text)
	var sum [32]byte
	return ID(h.Sum(sum[:0])[:20])
}

// newIDHash returns the hash of MakeID with everything but the text in it.
func newIDHash(identity [32]byte, parent ID, from int) hash.Hash {
	h := sha256.New()
	var fixed [2 + 32 + 20 + 8]byte
	binary.LittleEndian.PutUint16(fixed[0:], Version)
	copy(fixed[2:], identity[:])
	copy(fixed[34:], parent[:])
	binary.LittleEndian.PutUint64(fixed[54:], uint64(from))
	h.Write(fixed[:])
	return h
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the CRC-32C of every checksum in the format.
func Checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// AddChecksum continues a Checksum with more bytes.
func AddChecksum(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }

// Header is the fixed part of a file.
type Header struct {
	Identity  [32]byte
	Parent    ID
	From, To  int
	CreatedNS int64
	Sampled   bool // the last token was sampled, so what follows was tokenised on its own
	Sections  int
	FileBytes int64
}

// Section is one entry of the table.
type Section struct {
	Kind   Kind
	Layer  int // 0 for text and tokens
	Rows   int
	Offset int64
	Bytes  int64
	CRC    uint32
}
