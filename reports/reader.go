package reports

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// MaxFileBytes bounds what Read takes in, all records together.
const MaxFileBytes = 1 << 30

// File is a results file as it was read.
type File struct {
	Runs []Log
	// Cut says that the last line broke off in the middle: the run was killed
	// while it wrote. Everything before is whole.
	Cut bool
}

// Log is one run of a file with its results in the order in which they came.
type Log struct {
	Run     Run
	Results []Result
	End     *End // nil: the run was killed
}

// Results lists the results of every run of the file.
func (f *File) Results() []Result {
	var all []Result
	for _, run := range f.Runs {
		all = append(all, run.Results...)
	}
	return all
}

// ReadFile reads the results file at path; see Read.
func ReadFile(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reports: %w", err)
	}
	defer f.Close()
	return Read(f, path)
}

// Read reads a results file; name stands for it in errors. It is strict: an
// unknown field, a value out of range, a record out of place or one beyond the
// limits is an error that names the line. The one thing it forgives is a last
// line without an end, which a killed run leaves behind.
func Read(r io.Reader, name string) (*File, error) {
	in := &lines{r: bufio.NewReaderSize(r, 64<<10)}
	var f File
	for {
		line, whole, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reports: %s:%d: %w", name, in.line, err)
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		rec, err := parse(line)
		if err != nil && !whole && len(f.Runs) > 0 {
			f.Cut = true
			break
		}
		if err == nil {
			err = f.add(rec)
		}
		if err != nil {
			return nil, fmt.Errorf("reports: %s:%d: %w", name, in.line, err)
		}
	}
	if len(f.Runs) == 0 {
		return nil, fmt.Errorf("reports: %s: no run record: %w", name, ErrFormat)
	}
	return &f, nil
}

// add puts a record in its place: a run opens a log, results follow, an end closes.
func (f *File) add(rec record) error {
	if rec.Run != nil {
		f.Runs = append(f.Runs, Log{Run: *rec.Run})
		return nil
	}
	if len(f.Runs) == 0 {
		return fmt.Errorf("a record before the run record: %w", ErrFormat)
	}
	log := &f.Runs[len(f.Runs)-1]
	switch {
	case log.End != nil:
		return fmt.Errorf("a record after the end of its run: %w", ErrFormat)
	case rec.Result != nil:
		log.Results = append(log.Results, *rec.Result)
	case rec.End.Results != len(log.Results):
		return fmt.Errorf("the end counts %d results, %d are here: %w", rec.End.Results, len(log.Results), ErrFormat)
	default:
		log.End = rec.End
	}
	return nil
}

// parse decodes and checks one line.
func parse(line []byte) (record, error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	var rec record
	if err := dec.Decode(&rec); err != nil {
		return rec, fmt.Errorf("%w (%w)", ErrFormat, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return rec, fmt.Errorf("something follows the record: %w", ErrFormat)
	}
	set := 0
	for _, is := range []bool{rec.Run != nil, rec.Result != nil, rec.End != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return rec, fmt.Errorf("a record holds one of run, result and end, this one %d: %w", set, ErrFormat)
	}
	switch {
	case rec.Run != nil && rec.Run.Format != Format:
		return rec, fmt.Errorf("format is %q, this program reads %q: %w", rec.Run.Format, Format, ErrFormat)
	case rec.Run != nil:
		return rec, rec.Run.Shard.validate()
	case rec.Result != nil:
		return rec, rec.Result.validate()
	case rec.End != nil && bad(rec.End.DurationMS):
		return rec, fmt.Errorf("duration_ms is %v: %w", rec.End.DurationMS, ErrFormat)
	}
	return rec, nil
}

// lines reads lines within the limits on line, number and sum.
type lines struct {
	r     *bufio.Reader
	line  int // number of the line that next returned last, from 1
	total int
	buf   []byte
}

// next returns the next line without its end; whole is false for a last line
// that has none. The line is valid until the next call.
func (l *lines) next() (line []byte, whole bool, err error) {
	l.buf = l.buf[:0]
	l.line++
	if l.line > MaxRecords {
		return nil, false, fmt.Errorf("more than %d lines: %w", MaxRecords, ErrTooLarge)
	}
	for {
		part, err := l.r.ReadSlice('\n')
		if l.total += len(part); l.total > MaxFileBytes {
			return nil, false, fmt.Errorf("more than %d bytes: %w", MaxFileBytes, ErrTooLarge)
		}
		if len(l.buf)+len(part) > MaxLineBytes {
			return nil, false, fmt.Errorf("line longer than %d bytes: %w", MaxLineBytes, ErrTooLarge)
		}
		l.buf = append(l.buf, part...)
		switch {
		case err == nil:
			return l.buf[:len(l.buf)-1], true, nil
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(l.buf) > 0:
			return l.buf, false, nil
		default:
			return nil, false, err
		}
	}
}
