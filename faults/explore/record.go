package explore

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"ds4/faults/errfs"
	"ds4/faults/syscalls"
)

// Recorder collects the operations of a run on one directory. It is safe for
// concurrent use.
type Recorder struct {
	dir   string
	start *errfs.Mem // what was there before, all of it durable

	mu    sync.Mutex
	ops   []Op
	bytes int64
	err   error // the first thing that cannot be replayed
}

// NewRecorder makes a recorder for a directory, which must exist. What is in it is
// taken to be durable.
func NewRecorder(dir string) (*Recorder, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("explore: %w", err)
	}
	r := &Recorder{dir: dir, start: errfs.NewMem()}
	err = walk(dir, func(name string, data []byte) error {
		if data == nil {
			return r.start.MkdirAll(name)
		}
		if err := (Op{Kind: Create, Path: name}).apply(r.start); err != nil {
			return err
		}
		if r.bytes += int64(len(data)); r.bytes > MaxBytes {
			return fmt.Errorf("%w: more than %d bytes to begin with", ErrLimit, MaxBytes)
		}
		return r.start.WriteAt(name, 0, data)
	})
	if err != nil {
		return nil, fmt.Errorf("explore: %s: %w", dir, err)
	}
	r.start.SyncAll()
	return r, nil
}

// walk visits what is in a directory, as Mem.Contents does.
func walk(dir string, visit func(name string, data []byte) error) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == dir {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		name := "/" + filepath.ToSlash(rel)
		switch {
		case d.IsDir():
			return visit(name, nil)
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is neither file nor folder", name)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Size() > MaxBytes {
			return fmt.Errorf("%w: %s has %d bytes, the limit is %d", ErrLimit, name, info.Size(), MaxBytes)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return visit(name, data)
	})
}

// Observe notes a system call that is about to be made. It fits
// syscalls.Config.Observe.
func (r *Recorder) Observe(c *syscalls.Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	op, ok, err := r.translate(c)
	switch {
	case err != nil:
		r.failed(fmt.Errorf("%w: %s of %s: %w", ErrRecording, c.Name, c.Path, err))
	case !ok:
	case len(r.ops) == MaxOps:
		r.failed(fmt.Errorf("%w: %d operations", ErrLimit, MaxOps))
	case r.bytes+int64(len(op.Data)) > MaxBytes:
		r.failed(fmt.Errorf("%w: %d bytes written", ErrLimit, MaxBytes))
	default:
		r.bytes += int64(len(op.Data))
		r.ops = append(r.ops, op)
	}
}

// Len is the number of operations so far.
func (r *Recorder) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ops)
}

func (r *Recorder) failed(err error) {
	if r.err == nil {
		r.err = err
	}
}

// inside is the name of a path below the directory.
func (r *Recorder) inside(name string) (string, bool) {
	if name == r.dir {
		return "/", true
	}
	rest, ok := strings.CutPrefix(name, r.dir+"/")
	return "/" + rest, ok
}

// History is a recorded run.
type History struct {
	Ops   []Op
	start *errfs.Mem
}

// Finish ends the recording, after the end of the run. It replays the operations
// and compares what they lead to with the directory.
func (r *Recorder) Finish() (*History, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	h := &History{Ops: r.ops, start: r.start}
	m := h.start.KillClone()
	for i, op := range h.Ops {
		if err := op.apply(m); err != nil {
			return nil, fmt.Errorf("%w: operation %d, %s: %w", ErrRecording, i+1, op, err)
		}
	}
	if err := same(m, r.dir); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecording, err)
	}
	return h, nil
}

// same compares a replayed directory with the real one.
func same(m *errfs.Mem, dir string) error {
	replayed := map[string][]byte{}
	err := m.Contents(func(name string, data []byte) error { replayed[name] = data; return nil })
	if err != nil {
		return err
	}
	err = walk(dir, func(name string, data []byte) error {
		got, ok := replayed[name]
		delete(replayed, name)
		switch {
		case !ok:
			return fmt.Errorf("%s is there, and nothing that was seen made it", name)
		case (got == nil) != (data == nil):
			return fmt.Errorf("%s is a folder in one of the two", name)
		case !bytes.Equal(got, data):
			return fmt.Errorf("%s has %d bytes, those that were seen being written are %d others", name, len(data), len(got))
		}
		return nil
	})
	for name := range replayed {
		if err == nil {
			err = fmt.Errorf("%s should be there", name)
		}
	}
	return err
}
