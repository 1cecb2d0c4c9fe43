package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"ds4/scenarios"
)

// fillEntry is a cache directory that a healthy server filled.
type fillEntry struct {
	dir    string
	answer *answer
}

// fill makes the cache directory a copy of a filled one. The filling itself is
// done once per run for each combination of prompt and flags.
func (p *rep) fill(ctx context.Context, f *scenarios.Fill) error {
	if p.running() {
		return errors.New("the server is still running")
	}
	text, err := p.text(ctx, f.Prompt)
	if err != nil {
		return inconclusive("%w", err)
	}
	kb, err := json.Marshal(map[string]any{"model": p.model, "args": p.s.Server.Args, "more": p.r.opt.ServerArgs, "server": p.foreign,
		"text": text, "max": f.MaxTokens})
	if err != nil {
		return inconclusive("%w", err)
	}
	e, known := p.r.fills[string(kb)]
	if !known {
		if err := p.clearKV(); err != nil {
			return inconclusive("%w", err)
		}
		if e.answer, err = p.fillNow(ctx, f, text); err != nil {
			return err
		}
		e.dir = filepath.Join(p.r.tmp, "fills", fmt.Sprint(len(p.r.fills)))
		if err := copyDir(p.kv, e.dir); err != nil {
			return inconclusive("%w", err)
		}
		p.r.fills[string(kb)] = e
	}
	p.mu.Lock()
	p.answers[f.As] = e.answer
	p.mu.Unlock()
	if known {
		return p.replaceKV(e.dir)
	}
	return nil
}

// fillNow starts a server without faults, asks it once, and stops it.
func (p *rep) fillNow(ctx context.Context, f *scenarios.Fill, text string) (*answer, error) {
	rules := p.rules
	p.rules = nil
	defer func() { p.rules = rules }()
	if err := p.startServer(ctx, &scenarios.Start{}); err != nil {
		return nil, err
	}
	a := p.newAnswer(&scenarios.Chat{As: f.As, MaxTokens: f.MaxTokens}, userMessage("", text))
	if err := p.ask(ctx, a); err != nil {
		return nil, err
	}
	if a.err != nil {
		return nil, inconclusive("filling the cache: %w", a.err)
	}
	if err := p.terminate(ctx, defaultStopTimeout); err != nil {
		return nil, err
	}
	files, err := p.files(p.kv)
	if err != nil || len(files) == 0 {
		return nil, inconclusive("filling the cache published no file (%v)", err)
	}
	return a, nil
}

func (p *rep) keep(k *scenarios.Keep) error {
	if p.running() {
		return errors.New("the server is still running")
	}
	dir := filepath.Join(p.dir, "kept-"+k.Name)
	if err := os.RemoveAll(dir); err != nil {
		return inconclusive("%w", err)
	}
	if err := copyDir(p.kv, dir); err != nil {
		return inconclusive("%w", err)
	}
	p.keeps[k.Name] = dir
	return nil
}

func (p *rep) putBack(k *scenarios.Keep) error {
	if p.running() {
		return errors.New("the server is still running")
	}
	return p.replaceKV(p.keeps[k.Name])
}

// checkUnchanged compares the segments of a kept copy with those that are there
// now: the same bytes, and no write since, not even of the same bytes.
func (p *rep) checkUnchanged(name string) error {
	kept := p.keeps[name]
	files, err := p.files(kept)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("the copy %s has no file", name)
	}
	for _, f := range files {
		rel, err := filepath.Rel(kept, f.Path)
		if err != nil {
			return err
		}
		now := filepath.Join(p.kv, rel)
		st, err := os.Stat(now)
		if err != nil {
			return err
		}
		if !st.ModTime().Equal(f.Modified) {
			return fmt.Errorf("%s was written to at %s, after the copy", rel, st.ModTime().Format(time.StampMilli))
		}
		if same, err := sameContent(f.Path, now); err != nil || !same {
			return fmt.Errorf("%s has other contents than the copy (%v)", rel, err)
		}
	}
	return nil
}

func sameContent(a, b string) (bool, error) {
	x, err := os.ReadFile(a)
	if err != nil {
		return false, err
	}
	y, err := os.ReadFile(b)
	return bytes.Equal(x, y), err
}

func (p *rep) clearKV() error {
	if err := os.RemoveAll(p.kv); err != nil {
		return err
	}
	return os.MkdirAll(p.kv, 0o700)
}

func (p *rep) replaceKV(from string) error {
	if err := p.clearKV(); err != nil {
		return inconclusive("%w", err)
	}
	if err := copyDir(from, p.kv); err != nil {
		return inconclusive("%w", err)
	}
	return nil
}

// copyDir copies regular files and directories, with their times: the order of
// segments by age is part of what is copied.
func copyDir(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(dst, 0o700)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		return copyFile(path, dst)
	})
}

func copyFile(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	st, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		return errors.Join(err, dst.Close())
	}
	if err := dst.Close(); err != nil {
		return err
	}
	return os.Chtimes(to, st.ModTime(), st.ModTime())
}
