// Package journal is the side file of the disk cache that remembers what cannot
// be read from the segments: use, strikes and convictions.
//
// It is a header and fixed-size records of 48 bytes, each with a CRC-32C:
//
//	u8 kind, 3 zeros, u32 count, id[20], i64 unix ns, u64 key, u32 CRC
//
// Records are appended; the newest of a kind and id wins. Promises: a torn or
// damaged record is skipped and costs only itself; Rewrite replaces the file by
// rename, so a crash leaves the old or the new one; memory does not grow with the
// file. Not promised: that the last appended records survive a power cut, unless
// they were appended with sync.
package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// RecordBytes is the size of a record and of the header.
const RecordBytes = 48

// MaxRecords bounds how much of a file is read; what follows is ignored, and
// gone with the next Rewrite.
const MaxRecords = 4 << 20

const magic = "DS4JRN\x00\x01"

// Kind says what happened to a segment.
type Kind uint8

// The kinds of records.
const (
	Touched   Kind = 1 // Count: decayed hits in thousandths, at Time
	Strike    Kind = 2 // Count: strikes from now on, of the file created at Time; Key: marker that caused it, or 0
	Convicted Kind = 3 // Count: convictions so far, the last one of the file created at Time
	Cleared   Kind = 4 // strikes are forgotten
)

// Record is one entry.
type Record struct {
	Kind   Kind
	ID     segment.ID
	Count  uint32
	TimeNS int64
	Key    uint64
}

func (r Record) append(b []byte) []byte {
	le := binary.LittleEndian
	at := len(b)
	b = append(b, byte(r.Kind), 0, 0, 0)
	b = le.AppendUint32(b, r.Count)
	b = append(b, r.ID[:]...)
	b = le.AppendUint64(b, uint64(r.TimeNS))
	b = le.AppendUint64(b, r.Key)
	return le.AppendUint32(b, segment.Checksum(b[at:]))
}

func decode(b []byte) (Record, bool) {
	le := binary.LittleEndian
	if le.Uint32(b[44:]) != segment.Checksum(b[:44]) || b[1]|b[2]|b[3] != 0 {
		return Record{}, false
	}
	r := Record{Kind: Kind(b[0]), Count: le.Uint32(b[4:]), ID: segment.ID(b[8:28]),
		TimeNS: int64(le.Uint64(b[28:])), Key: le.Uint64(b[36:])}
	return r, r.Kind >= Touched && r.Kind <= Cleared
}

func header() []byte {
	b := make([]byte, RecordBytes-4)
	copy(b, magic)
	return binary.LittleEndian.AppendUint32(b, segment.Checksum(b))
}

// Read calls visit for each good record, in order, and returns how many good and
// damaged ones there are. A missing file is an empty journal; a file with
// another header is damaged as a whole.
func Read(fsys vfs.FS, name string, visit func(Record)) (good, bad int, err error) {
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	buf := make([]byte, 1024*RecordBytes)
	for at := int64(0); at < (MaxRecords+1)*RecordBytes; {
		n, err := f.ReadAt(buf, at)
		b := buf[:n]
		if at == 0 {
			if n < RecordBytes || string(b[:RecordBytes]) != string(header()) {
				if n == 0 && errors.Is(err, io.EOF) {
					return 0, 0, nil
				}
				return 0, 1, nil
			}
			b = b[RecordBytes:]
		}
		for ; len(b) >= RecordBytes; b = b[RecordBytes:] {
			if r, ok := decode(b); ok {
				good++
				visit(r)
			} else {
				bad++
			}
		}
		if len(b) > 0 {
			bad++ // torn at the end
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || n < len(buf) && err == nil {
			break
		}
		if err != nil {
			return good, bad, fmt.Errorf("journal: read %s: %w", name, err)
		}
	}
	return good, bad, nil
}

// Writer appends to a journal. It is not for concurrent use.
type Writer struct {
	fs      vfs.FS
	name    string
	f       vfs.File // nil: open or rewrite first
	records int      // in the file, damaged ones included
	broken  bool     // the end of the file is not known to be whole
}

// NewWriter continues a journal that Read has just seen. Nothing is opened yet.
// A journal with bad records is rewritten before it is appended to, because a
// torn record would displace those behind it: NeedsRewrite says so.
func NewWriter(fsys vfs.FS, name string, good, bad int) *Writer {
	return &Writer{fs: fsys, name: name, records: good + bad, broken: bad > 0 || good == 0}
}

// NeedsRewrite reports whether Append would fail until Rewrite is called.
func (w *Writer) NeedsRewrite() bool { return w.broken }

// Records returns how many records the file has.
func (w *Writer) Records() int { return w.records }

// Bytes returns the size of the file.
func (w *Writer) Bytes() int64 { return int64(w.records+1) * RecordBytes }

// ErrBroken is returned by Append when an earlier write did not end well.
var ErrBroken = errors.New("journal: must be rewritten first")

// Append adds records; with sync they are durable when it returns nil. After an
// error the journal needs a rewrite.
func (w *Writer) Append(sync bool, recs ...Record) error {
	if w.broken {
		return ErrBroken
	}
	if err := w.open(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	var b []byte
	for _, r := range recs {
		b = r.append(b)
	}
	_, err := w.f.Write(b)
	if err == nil && sync {
		err = w.f.Sync()
	}
	if err != nil {
		w.broken = true
		return fmt.Errorf("journal: append: %w", err)
	}
	w.records += len(recs)
	return nil
}

// Sync makes what is in the file durable, whoever has written it. After an error
// the journal needs a rewrite.
func (w *Writer) Sync() error {
	if w.broken {
		return ErrBroken
	}
	err := w.open()
	if err == nil {
		err = w.f.Sync()
	}
	if err != nil {
		w.broken = true
		return fmt.Errorf("journal: sync: %w", err)
	}
	return nil
}

// open opens the file for appending, unless that has been done.
func (w *Writer) open() error {
	if w.f != nil {
		return nil
	}
	f, err := w.fs.Append(w.name)
	if err != nil {
		return err
	}
	w.f = f
	return nil
}

// Rewrite replaces the whole journal.
func (w *Writer) Rewrite(durable bool, recs []Record) error {
	if err := w.Close(); err != nil {
		w.broken = true
		return fmt.Errorf("journal: %w", err)
	}
	b := header()
	for _, r := range recs {
		b = r.append(b)
	}
	if err := vfs.WriteFileAtomic(w.fs, w.name, b, durable); err != nil {
		w.broken = true
		return fmt.Errorf("journal: rewrite: %w", err)
	}
	w.records, w.broken = len(recs), false
	return nil
}

// Close closes the file; the Writer can still be used.
func (w *Writer) Close() error {
	if w.f == nil {
		return nil
	}
	f := w.f
	w.f = nil
	return f.Close()
}
