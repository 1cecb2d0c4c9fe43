package corrupt

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// The parts of a segment file ("DS4S" version 2, little endian) that this
// package knows: the header's magic and section count, and the table behind the
// header. It must not import the format's own package: the harness judges the
// runtime from outside.
const (
	segmentMagic = "DS4SEG\x00\x01"
	headerBytes  = 128
	countOffset  = 12 // u32, behind magic[8], u16 version, u16 flags
	entryBytes   = 32 // u16 kind, u16 layer, u32 rows, u64 offset, u64 length, u32 CRC, u32 reserved
	footerBytes  = 32
	maxSections  = 1 << 14
)

// kindNames are the section kinds by their number in the table. Several
// sections of one kind (one per layer) count as one range: the first non-empty
// of them.
var kindNames = map[uint16]string{
	1: "text", 2: "tokens", 3: "raw", 4: "compressed", 5: "indexer", 6: "frontier",
}

// Section is a named range of a segment file.
type Section struct {
	Name   string
	Layer  int // 0 for sections without a layer
	Offset int64
	Length int64
}

// Sections reads the table of a segment file: header, table, every non-empty
// section in file order, footer. Nothing is verified but what the reading needs;
// damaged files are this package's business.
func Sections(path string) (_ []Section, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("corrupt: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("corrupt: %w", err)
	}
	var head [headerBytes]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return nil, fmt.Errorf("corrupt: header of %s: %w", path, ErrFormat)
	}
	return sections(f, head[:], st.Size(), path)
}

func sections(f io.ReaderAt, head []byte, size int64, path string) ([]Section, error) {
	if string(head[:len(segmentMagic)]) != segmentMagic {
		return nil, fmt.Errorf("corrupt: %s: %w: no segment magic", path, ErrFormat)
	}
	n := int64(binary.LittleEndian.Uint32(head[countOffset:]))
	if n == 0 || n > maxSections || headerBytes+n*entryBytes+footerBytes > size {
		return nil, fmt.Errorf("corrupt: %s: %w: %d sections in %d bytes", path, ErrFormat, n, size)
	}
	table := make([]byte, n*entryBytes)
	if _, err := f.ReadAt(table, headerBytes); err != nil {
		return nil, fmt.Errorf("corrupt: table of %s: %w", path, err)
	}
	out := []Section{
		{Name: "header", Length: headerBytes},
		{Name: "table", Offset: headerBytes, Length: n * entryBytes},
	}
	for ; len(table) > 0; table = table[entryBytes:] {
		s := Section{
			Name:   kindNames[binary.LittleEndian.Uint16(table)],
			Layer:  int(binary.LittleEndian.Uint16(table[2:])),
			Offset: int64(binary.LittleEndian.Uint64(table[8:])),
			Length: int64(binary.LittleEndian.Uint64(table[16:])),
		}
		if s.Name == "" || s.Length == 0 {
			continue
		}
		if s.Offset < 0 || s.Length < 0 || s.Offset > size || s.Length > size-s.Offset {
			return nil, fmt.Errorf("corrupt: %s: %w: section %s leaves the file", path, ErrFormat, s.Name)
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b Section) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	return append(out, Section{Name: "footer", Offset: size - footerBytes, Length: footerBytes}), nil
}

// IsSection says whether name can stand in an offset expression. "rows" means
// the first raw, compressed or indexer section.
func IsSection(name string) bool {
	if name == "header" || name == "table" || name == "footer" || name == "rows" {
		return true
	}
	for _, k := range kindNames {
		if k == name {
			return true
		}
	}
	return false
}

// CheckOffset says whether an expression is well formed, without a file:
//
//	""          the first byte
//	"4711"      absolute
//	"50%"       percent of the file, with decimals
//	"tokens"    the middle of a named section of a segment file
//	"tokens+7"  seven bytes into the section
func CheckOffset(expr string) error {
	_, err := parseOffset(expr)
	return err
}

type offset struct {
	section string
	plus    int64
	hasPlus bool
	percent float64
	isPart  bool
}

func parseOffset(expr string) (offset, error) {
	if expr == "" {
		return offset{}, nil
	}
	if p, ok := strings.CutSuffix(expr, "%"); ok {
		v, err := strconv.ParseFloat(p, 64)
		if err != nil || !(v >= 0 && v <= 100) {
			return offset{}, fmt.Errorf("corrupt: offset %q: %w: want 0%% to 100%%", expr, ErrOffset)
		}
		return offset{percent: v, isPart: true}, nil
	}
	if expr[0] >= '0' && expr[0] <= '9' {
		v, err := strconv.ParseInt(expr, 10, 64)
		if err != nil {
			return offset{}, fmt.Errorf("corrupt: offset %q: %w: not a number of bytes", expr, ErrOffset)
		}
		return offset{plus: v}, nil
	}
	name, rest, has := strings.Cut(expr, "+")
	if !IsSection(name) {
		return offset{}, fmt.Errorf("corrupt: offset %q: %w: want bytes, percent, or one of header, table, text, tokens, raw, compressed, indexer, rows, frontier, footer", expr, ErrOffset)
	}
	o := offset{section: name, hasPlus: has}
	if has {
		v, err := strconv.ParseInt(rest, 10, 64)
		if err != nil || v < 0 {
			return offset{}, fmt.Errorf("corrupt: offset %q: %w: want SECTION+BYTES", expr, ErrOffset)
		}
		o.plus = v
	}
	return o, nil
}

// Offset evaluates an expression (see CheckOffset) against the file at path.
func Offset(path, expr string) (int64, error) {
	o, err := parseOffset(expr)
	if err != nil {
		return 0, err
	}
	if o.isPart {
		st, err := os.Stat(path)
		if err != nil {
			return 0, fmt.Errorf("corrupt: %w", err)
		}
		return int64(float64(st.Size()) * o.percent / 100), nil
	}
	if o.section == "" {
		return o.plus, nil
	}
	secs, err := Sections(path)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(secs, func(s Section) bool {
		return s.Name == o.section || o.section == "rows" && (s.Name == "raw" || s.Name == "compressed" || s.Name == "indexer")
	})
	if i < 0 {
		return 0, fmt.Errorf("corrupt: %s has no section %s: %w", path, o.section, ErrOffset)
	}
	s := secs[i]
	if !o.hasPlus {
		return s.Offset + s.Length/2, nil
	}
	if o.plus >= s.Length {
		return 0, fmt.Errorf("corrupt: %s: %w: byte %d of the %d of section %s", path, ErrOffset, o.plus, s.Length, o.section)
	}
	return s.Offset + o.plus, nil
}
