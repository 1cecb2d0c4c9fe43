// Package corrupt damages published files from outside of the process that owns
// them: truncate, flip, zero, delete, replace, or put a directory in their place.
//
// It works on names and bytes only. The one piece of format knowledge is the
// section table of the segment files (section.go), so that a scenario can say
// "the tokens section" and not an offset that changes with every model.
//
// Damage is written in place on purpose: that is what a bad disk does. Every
// change is described in the returned Report, so that a failure can be repeated
// by hand.
package corrupt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"ds4/faults"
)

var (
	// ErrNoFile is returned when the selection matches nothing: the scenario
	// would otherwise pass without having damaged anything.
	ErrNoFile = errors.New("corrupt: no file matches the selection")
	// ErrOffset is returned for an offset outside of the file, or a section
	// that the file does not have.
	ErrOffset = errors.New("corrupt: offset is not in the file")
	// ErrFormat is returned when a named section is asked of a file that is not
	// a segment.
	ErrFormat = errors.New("corrupt: not a segment file")
)

// maxZeroBytes bounds one overwrite, so that a typing error cannot fill a disk.
const maxZeroBytes = 1 << 30

// maxReplaceBytes bounds the replacement content.
const maxReplaceBytes = 1 << 20

// Damage is one change to one file.
type Damage struct {
	Op      faults.Op
	At      string // offset expression, see Offset; empty means 0
	Bit     int    // bit of the byte that OpFlip inverts, 0..7
	Bytes   int64  // length of OpZero, and what OpInflate adds: at least 1
	Content []byte // content of OpReplace, and what OpSubstitute puts in
	Match   string // regular expression: what OpSubstitute takes out, once
}

// Report says what was done.
type Report struct {
	Path       string
	Op         faults.Op
	Offset     int64 // first changed byte, or the new length for a truncation
	SizeBefore int64
	SizeAfter  int64 // -1 if there is no file any more
}

func (r Report) String() string {
	return fmt.Sprintf("%s %s at %d (%d -> %d bytes)", r.Op, filepath.Base(r.Path), r.Offset, r.SizeBefore, r.SizeAfter)
}

// Apply damages path.
func Apply(path string, d Damage) (Report, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return Report{}, fmt.Errorf("corrupt: %w", err)
	}
	if !st.Mode().IsRegular() {
		return Report{}, fmt.Errorf("corrupt: %s: %w: not a regular file", path, ErrFormat)
	}
	r := Report{Path: path, Op: d.Op, SizeBefore: st.Size(), SizeAfter: st.Size()}
	switch d.Op {
	case faults.OpTruncate:
		err = truncate(path, d, &r)
	case faults.OpFlip:
		err = flip(path, d, &r)
	case faults.OpZero:
		err = zero(path, d, &r)
	case faults.OpDelete:
		r.SizeAfter = -1
		err = os.Remove(path)
	case faults.OpReplace:
		if len(d.Content) > maxReplaceBytes {
			return r, fmt.Errorf("corrupt: replacement of %d bytes is over the limit of %d", len(d.Content), maxReplaceBytes)
		}
		r.SizeAfter = int64(len(d.Content))
		err = os.WriteFile(path, d.Content, st.Mode().Perm())
	case faults.OpDirectory:
		r.SizeAfter = -1
		if err = os.Remove(path); err == nil {
			err = os.Mkdir(path, 0o700)
		}
	case faults.OpSubstitute:
		err = substitute(path, d, &r)
	case faults.OpShorten, faults.OpInflate:
		err = forge(path, d, &r)
	default:
		return r, fmt.Errorf("corrupt: %q is not a file operation (known: %v)", d.Op, faults.FileOps())
	}
	if err != nil {
		return r, fmt.Errorf("corrupt: %s %s: %w", d.Op, path, err)
	}
	return r, nil
}

func truncate(path string, d Damage, r *Report) error {
	off, err := Offset(path, d.At)
	if err != nil {
		return err
	}
	if off >= r.SizeBefore {
		return fmt.Errorf("%w: truncating %d bytes to %d cuts nothing", ErrOffset, r.SizeBefore, off)
	}
	r.Offset, r.SizeAfter = off, off
	return os.Truncate(path, off)
}

func flip(path string, d Damage, r *Report) error {
	off, err := Offset(path, d.At)
	if err != nil {
		return err
	}
	if off >= r.SizeBefore {
		return fmt.Errorf("%w: byte %d of %d", ErrOffset, off, r.SizeBefore)
	}
	if d.Bit < 0 || d.Bit > 7 {
		return fmt.Errorf("bit %d is not in 0..7", d.Bit)
	}
	r.Offset = off
	return edit(path, off, 1, func(b []byte) { b[0] ^= 1 << d.Bit })
}

func zero(path string, d Damage, r *Report) error {
	off, err := Offset(path, d.At)
	if err != nil {
		return err
	}
	if d.Bytes < 1 || d.Bytes > maxZeroBytes || off+d.Bytes > r.SizeBefore {
		return fmt.Errorf("%w: %d bytes at %d of %d", ErrOffset, d.Bytes, off, r.SizeBefore)
	}
	r.Offset = off
	return edit(path, off, d.Bytes, func(b []byte) { clear(b) })
}

func substitute(path string, d Damage, r *Report) error {
	re, err := regexp.Compile(d.Match)
	if err != nil {
		return err
	}
	if r.SizeBefore > maxReplaceBytes {
		return fmt.Errorf("a file of %d bytes is over the limit of %d", r.SizeBefore, maxReplaceBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	at := re.FindIndex(data)
	if at == nil {
		return fmt.Errorf("%w: nothing matches %q", ErrOffset, d.Match)
	}
	r.Offset, r.SizeAfter = int64(at[0]), r.SizeBefore-int64(at[1]-at[0])+int64(len(d.Content))
	return os.WriteFile(path, slices.Concat(data[:at[0]], d.Content, data[at[1]:]), 0o600)
}

// edit changes n bytes at off in place and syncs them.
func edit(path string, off, n int64, change func([]byte)) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(f, off, n), b); err != nil {
		return err
	}
	change(b)
	if _, err := f.WriteAt(b, off); err != nil {
		return err
	}
	return f.Sync()
}
