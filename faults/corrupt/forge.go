package corrupt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"

	"ds4/faults"
)

// Where a forger has to write in a segment file, besides the table.
const (
	fileBytesOffset = 84  // u64 in the header; in the footer it is the first field
	headerCRCOffset = 100 // u32: checksum of the header, with this field zero
	footerCRCOffset = 8   // u32: checksum of header and table
	sectionAlign    = 64
	maxForgeBytes   = 1 << 30
)

// forge rewrites a segment file so that its first section of a kind is not what
// it ought to be, while every length and checksum in the file agrees with it:
// nothing but knowledge of the model can tell. OpShorten takes the section's last
// row away. OpInflate makes it claim more bytes than the file has.
func forge(path string, d Damage, r *Report) error {
	secs, err := Sections(path)
	if err != nil {
		return err
	}
	if r.SizeBefore > maxForgeBytes {
		return fmt.Errorf("%d bytes are over the limit of %d", r.SizeBefore, maxForgeBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	o, err := parseOffset(d.At)
	if err != nil {
		return err
	}
	for _, s := range secs {
		e := findEntry(data, s)
		if s.Name != o.section || e == nil {
			continue
		}
		r.Offset = s.Offset
		if d.Op == faults.OpInflate {
			inflate(e, d.Bytes)
		} else {
			data = shorten(data, e, s)
		}
		seal(data)
		r.SizeAfter = int64(len(data))
		return os.WriteFile(path, data, 0o600)
	}
	return fmt.Errorf("%w: no section %q in the table", ErrOffset, o.section)
}

// findEntry returns the row of the table that describes a section, as a part of
// data; nil for header, table and footer.
func findEntry(data []byte, s Section) []byte {
	for e := table(data); len(e) > 0; e = e[entryBytes:] {
		if kindNames[binary.LittleEndian.Uint16(e)] == s.Name && int64(binary.LittleEndian.Uint64(e[8:])) == s.Offset {
			return e[:entryBytes]
		}
	}
	return nil
}

func table(data []byte) []byte {
	n := int(binary.LittleEndian.Uint32(data[countOffset:]))
	return data[headerBytes : headerBytes+n*entryBytes]
}

// inflate adds to what a section claims; its rows grow with it.
func inflate(entry []byte, bytes int64) {
	le := binary.LittleEndian
	rows, length := int64(le.Uint32(entry[4:])), int64(le.Uint64(entry[16:]))
	rowBytes := length / max(rows, 1)
	le.PutUint32(entry[4:], uint32(rows+bytes/max(rowBytes, 1)))
	le.PutUint64(entry[16:], uint64(length+bytes))
}

// shorten removes the last row of a section and moves what follows it up.
func shorten(data, entry []byte, s Section) []byte {
	le := binary.LittleEndian
	rows := int64(le.Uint32(entry[4:]))
	left := s.Length - s.Length/max(rows, 1)
	le.PutUint32(entry[4:], uint32(max(rows-1, 0)))
	le.PutUint64(entry[16:], uint64(left))
	le.PutUint32(entry[24:], checksum(data[s.Offset:s.Offset+left]))
	oldEnd, newEnd := alignUp(s.Offset+s.Length), alignUp(s.Offset+left)
	for e := table(data); len(e) > 0; e = e[entryBytes:] {
		if at := int64(le.Uint64(e[8:])); at > s.Offset {
			le.PutUint64(e[8:], uint64(at-(oldEnd-newEnd)))
		}
	}
	clear(data[s.Offset+left : newEnd])
	return append(data[:newEnd], data[oldEnd:]...)
}

// seal makes lengths and checksums of header, table and footer right.
func seal(data []byte) {
	le := binary.LittleEndian
	footer := data[len(data)-footerBytes:]
	le.PutUint64(data[fileBytesOffset:], uint64(len(data)))
	le.PutUint64(footer, uint64(len(data)))
	le.PutUint32(data[headerCRCOffset:], 0)
	le.PutUint32(data[headerCRCOffset:], checksum(data[:headerBytes]))
	le.PutUint32(footer[footerCRCOffset:], checksum(data[:headerBytes+len(table(data))]))
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func alignUp(n int64) int64 { return (n + sectionAlign - 1) &^ (sectionAlign - 1) }
