package replay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"ds4/runtime/vfs"
)

// Limits of one record. What is larger is not remembered.
const (
	MaxIDs        = 128
	MaxIDBytes    = 64
	MaxBlockBytes = 1 << 20
)

const (
	magic       = 0x01435344 // "DSC\x01"
	headerBytes = 16
	maxBody     = 1 + MaxIDs*(1+MaxIDBytes) + MaxBlockBytes
	readBytes   = 1 << 20 // at once
)

// Record is what one file of this package is made of, one after the other. All numbers
// are little endian:
//
//	u32 magic, u32 body bytes, u32 CRC-32C of the body, u32 CRC-32C of these 12 bytes
//	u8 number of ids, per id u8 length and the id, and the block up to the end of the body
//
// A later record of an id replaces an earlier one.
type Record struct {
	IDs   []string
	Block []byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errRecord: what a record is to hold is beyond its limits.
var errRecord = errors.New("replay: record outside its limits")

// Append appends the encoded record.
func (r Record) Append(dst []byte) ([]byte, error) {
	if len(r.IDs) == 0 || len(r.IDs) > MaxIDs || len(r.Block) == 0 || len(r.Block) > MaxBlockBytes {
		return dst, errRecord
	}
	body := []byte{byte(len(r.IDs))}
	for _, id := range r.IDs {
		if id == "" || len(id) > MaxIDBytes {
			return dst, errRecord
		}
		body = append(append(body, byte(len(id))), id...)
	}
	body = append(body, r.Block...)
	le := binary.LittleEndian
	at := len(dst)
	dst = le.AppendUint32(dst, magic)
	dst = le.AppendUint32(dst, uint32(len(body)))
	dst = le.AppendUint32(dst, crc32.Checksum(body, castagnoli))
	dst = le.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
	return append(dst, body...), nil
}

// decode reads the record that b begins with. size is its length, 0 if b is too short
// to tell or to hold it. ok is false if it is none; then size is what to skip.
func decode(b []byte) (r Record, size int, ok bool) {
	le := binary.LittleEndian
	if len(b) < headerBytes {
		return r, 1, false
	}
	n := int(le.Uint32(b[4:]))
	if le.Uint32(b) != magic || le.Uint32(b[12:]) != crc32.Checksum(b[:12], castagnoli) || n < 1 || n > maxBody {
		return r, 1, false
	}
	size = headerBytes + n
	if len(b) < size {
		return r, 0, true
	}
	body := b[headerBytes:size]
	if le.Uint32(b[8:]) != crc32.Checksum(body, castagnoli) {
		return r, size, false // the header is good, so its length is, too
	}
	count := int(body[0])
	body = body[1:]
	for range count {
		if len(body) == 0 || len(body) < 1+int(body[0]) || body[0] == 0 || body[0] > MaxIDBytes {
			return r, size, false
		}
		r.IDs = append(r.IDs, string(body[1:1+body[0]]))
		body = body[1+body[0]:]
	}
	if count == 0 || count > MaxIDs || len(body) == 0 || len(body) > MaxBlockBytes {
		return r, size, false
	}
	r.Block = bytes.Clone(body)
	return r, size, true
}

// Read calls visit for every good record of a file, in order, and returns how many bytes
// belong to none: behind a damaged record it goes on with the next one that is whole. Of
// a file longer than limit the beginning is read. A missing file is empty.
func Read(fsys vfs.FS, name string, limit int64, visit func(Record)) (bad int64, err error) {
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("replay: %w", err)
	}
	defer f.Close()
	var buf []byte
	chunk := make([]byte, readBytes)
	for at := int64(0); at < limit; {
		n, err := f.ReadAt(chunk[:min(readBytes, limit-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return bad, fmt.Errorf("replay: read %s: %w", name, err)
		}
		at += int64(n)
		buf = append(buf, chunk[:n]...)
		used, skipped := scan(buf, visit)
		bad += skipped
		buf = append(buf[:0], buf[used:]...)
		if n == 0 || err != nil {
			break
		}
	}
	return bad + int64(len(buf)), nil
}

// scan visits the records that b begins with and returns how much of b is done with,
// and how much of that was no record.
func scan(b []byte, visit func(Record)) (used int, skipped int64) {
	for used < len(b) {
		r, n, ok := decode(b[used:])
		switch {
		case !ok && len(b)-used < headerBytes:
			return used, skipped // more may come
		case !ok:
			used += n
			skipped += int64(n)
		case n == 0:
			return used, skipped
		default:
			visit(r)
			used += n
		}
	}
	return used, skipped
}
