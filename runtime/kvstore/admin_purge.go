package kvstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// Selection says what a purge removes: the segments for which everything that is
// set holds, as far as nothing that stays continues them, least valuable first.
// A Selection that selects nothing is refused: All empties a folder.
type Selection struct {
	All        bool          // everything of ours, whatever it is
	Quarantine bool          // choose among the files of the quarantine and not among segments
	OlderThan  time.Duration // last used (or quarantined) longer ago; 0: any time
	Identity   string        // hex digits that a segment's identity begins with; "": any
	NotOf      *[32]byte     // segments of another identity than this; nil: any
	// KeepBytes ends the purge when everything under the folder together is at
	// most so large; nil: all that was selected goes.
	KeepBytes *int64
	DryRun    bool // say what would go
}

// minIdentityDigits keeps a typing error from selecting half of a cache.
const minIdentityDigits = 8

// maxPurged bounds the files that a report names.
const maxPurged = 10_000

// Check refuses a selection that makes no sense.
func (sel Selection) Check() error {
	others := sel.OlderThan != 0 || sel.Identity != "" || sel.NotOf != nil || sel.KeepBytes != nil
	switch {
	case sel.All && (others || sel.Quarantine):
		return fmt.Errorf("%w: all cannot be narrowed", ErrSelection)
	case !sel.All && !others && !sel.Quarantine:
		return fmt.Errorf("%w: nothing is selected", ErrSelection)
	case sel.OlderThan < 0:
		return fmt.Errorf("%w: an age of %v", ErrSelection, sel.OlderThan)
	case sel.KeepBytes != nil && *sel.KeepBytes < 0:
		return fmt.Errorf("%w: %d bytes to keep", ErrSelection, *sel.KeepBytes)
	case sel.Quarantine && (sel.Identity != "" || sel.NotOf != nil):
		return fmt.Errorf("%w: the quarantine is not sorted by identity", ErrSelection)
	}
	if n := len(sel.Identity); n > 0 && (n < minIdentityDigits || n > 64 || strings.Trim(sel.Identity, "0123456789abcdef") != "") {
		return fmt.Errorf("%w: identity %.70q: want %d to 64 lower-case hex digits", ErrSelection, sel.Identity, minIdentityDigits)
	}
	return nil
}

// ErrSelection is returned for a Selection that selects nothing or too much.
var ErrSelection = errors.New("kvstore: bad selection")

// FileRef names a file that a purge removed or a restore brought back.
type FileRef struct {
	Name  string `json:"name"` // id, or base name in the quarantine
	From  int    `json:"from"`
	To    int    `json:"to"`
	Bytes int64  `json:"bytes"`
	// Missing is the id of what it continues, if that is not there: nothing finds
	// the segment until it is. Only a restore says so.
	Missing string `json:"missing_parent,omitempty"`
}

// PurgeReport says what a purge did.
type PurgeReport struct {
	Freed
	Kept  int       // selected segments that something which stays, or is in use, needs
	Files []FileRef // at most 10,000 of them
}

func (r *PurgeReport) name(p FileRef) {
	if len(r.Files) < maxPurged {
		r.Files = append(r.Files, p)
	}
}

// wants reports whether a segment of an identity, last used at a time, is selected.
func (sel Selection) wants(identity *[32]byte, used, now time.Time) bool {
	if sel.OlderThan > 0 && now.Sub(used) <= sel.OlderThan {
		return false
	}
	if sel.Identity != "" && (identity == nil || !strings.HasPrefix(hex.EncodeToString(identity[:]), sel.Identity)) {
		return false
	}
	return sel.NotOf == nil || identity != nil && *identity != *sel.NotOf
}

// excess returns how many bytes must go.
func (sel Selection) excess(used int64) int64 {
	if sel.KeepBytes == nil {
		return math.MaxInt64
	}
	return used - *sel.KeepBytes
}

// Purge removes what is selected from a folder that nobody uses. ErrLocked while
// a server has it: that server must be asked (Store.Purge). What is not ours
// stays.
func Purge(ctx context.Context, fsys vfs.FS, dir string, sel Selection, now time.Time) (PurgeReport, error) {
	var rep PurgeReport
	if err := sel.Check(); err != nil {
		return rep, err
	}
	d := folder(dir)
	if err := checkFolder(fsys, d); err != nil {
		return rep, err
	}
	if !sel.DryRun { // a look needs no lock
		release, err := toolLock(fsys, d, "ds4 kv purge", now, os.Getpid())
		if err != nil {
			return rep, fmt.Errorf("kvstore: purge: %w", err)
		}
		defer release()
	}
	s, err := LookAt(ctx, fsys, dir, SurveyOptions{Now: now})
	if err != nil {
		return rep, err
	}
	p := &purger{ctx: ctx, fs: fsys, d: d, sel: sel, rep: &rep}
	switch {
	case sel.All:
		p.segments(s, math.MaxInt64)
		p.quarantine(s.Quarantined, math.MaxInt64)
		if err = p.leftovers(); err == nil && s.Unlisted > 0 && !sel.DryRun {
			err = p.unlisted()
		}
	case sel.Quarantine:
		p.quarantine(s.Quarantined, sel.excess(s.Summary().Total))
	default:
		p.segments(s, sel.excess(s.Summary().Total))
	}
	if err = errors.Join(err, ctx.Err()); err != nil {
		return rep, fmt.Errorf("kvstore: purge: %w", err)
	}
	return rep, nil
}

// purger removes files of a folder whose lock is ours.
type purger struct {
	ctx context.Context
	fs  vfs.FS
	d   folder
	sel Selection
	rep *PurgeReport
}

// remove unlinks a file and counts it; with DryRun it only counts.
func (p *purger) remove(name string, bytes int64, count *int) {
	if p.ctx.Err() != nil {
		return
	}
	var err error
	if !p.sel.DryRun {
		if err = p.fs.Remove(name); errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
	p.rep.add(count, bytes, err)
}

// segments removes selected segments until free bytes are gained.
func (p *purger) segments(s *Survey, free int64) {
	ix := newIndex()
	selected := 0
	wants := map[segment.ID]bool{}
	for i := range s.Segments {
		f := &s.Segments[i]
		n := &node{id: f.ID, parent: f.Parent, from: f.From, to: f.To, bytes: max(f.Bytes, 1), hits: f.Hits, lastUsed: f.LastUsed}
		if f.Identity == nil {
			n.parent = f.ID // not known: nobody's child
		}
		ix.add(n)
		if wants[f.ID] = p.sel.wants(f.Identity, f.LastUsed, s.Time); wants[f.ID] {
			selected++
		}
	}
	list := ix.choose(free, s.Time, func(n *node) bool { return wants[n.id] })
	shards := map[string]bool{}
	for _, n := range list {
		i, _ := s.Find(n.id)
		f := &s.Segments[i]
		p.rep.name(FileRef{Name: f.ID.String(), From: f.From, To: f.To, Bytes: f.Bytes})
		p.remove(f.Path(s.Dir), f.Bytes, &p.rep.Segments)
		shards[p.d.shard(f.ID.String()[:2])] = true
	}
	if p.sel.KeepBytes == nil {
		p.rep.Kept = selected - len(list)
	}
	p.tidy(shards)
}

// tidy removes folders that are empty now.
func (p *purger) tidy(shards map[string]bool) {
	for sub := range shards {
		if !p.sel.DryRun {
			_ = p.fs.Remove(sub) // only if nothing else is in it
		}
	}
}

// quarantine removes selected files of the quarantine, oldest first.
func (p *purger) quarantine(list []JailInfo, free int64) {
	now := time.Now()
	for _, q := range list {
		if free <= 0 || !p.sel.wants(nil, q.Since, now) {
			continue
		}
		free -= q.Bytes
		name := path.Join(string(p.d.quarantine()), q.Name+segmentExt)
		p.rep.name(FileRef{Name: q.Name, From: q.From, To: q.To, Bytes: q.Bytes})
		if !p.sel.DryRun {
			_ = p.fs.Remove(noteName(name)) // there may be none; start-up removes what stays
		}
		p.remove(name, q.Bytes, &p.rep.Quarantined)
	}
}

// leftovers removes what is neither segment nor quarantined segment, but ours.
func (p *purger) leftovers() error {
	var errs []error
	sweep := func(sub string, ours func(base string) bool) {
		errs = append(errs, ignoreMissing(p.fs.ReadDir(sub, func(e vfs.Entry) error {
			if name := path.Join(sub, e.Name); !e.Type.IsDir() && ours(e.Name) {
				p.remove(name, sizeOf(p.fs, name, 0), &p.rep.Others)
			}
			return p.ctx.Err()
		})))
	}
	all := func(string) bool { return true }
	sweep(p.d.tmp(), all)
	sweep(p.d.inflight(), all)
	sweep(p.d.quarantine(), func(b string) bool {
		_, ok := parseQuarantined(b)
		return vfs.IsTemp(b) || ok && (!p.sel.DryRun || path.Ext(b) != segmentExt && !p.counted(b))
	})
	sweep(string(p.d), func(b string) bool { return b == "journal" || b == callsName || vfs.IsTemp(b) })
	return errors.Join(errs...)
}

// counted reports whether the note's file was counted with it.
func (p *purger) counted(note string) bool {
	_, err := p.fs.Lstat(path.Join(p.d.quarantine(), strings.TrimSuffix(note, ".json")+segmentExt))
	return err == nil
}

// unlisted removes the segments beyond what a Survey holds.
func (p *purger) unlisted() error {
	shards := map[string]bool{}
	err := eachSegment(p.ctx, p.fs, p.d, func(_ segment.ID, name string, _ vfs.Entry) error {
		p.remove(name, sizeOf(p.fs, name, 0), &p.rep.Segments)
		shards[path.Dir(name)] = true
		return nil
	}, func(string) {})
	p.tidy(shards)
	return err
}

// Purge removes what is selected while the store works. What a waiting request or
// a restore wants stays, and so does what a segment in the write queue continues.
func (s *Store) Purge(ctx context.Context, sel Selection) (PurgeReport, error) {
	var rep PurgeReport
	if err := sel.Check(); err != nil {
		return rep, err
	}
	if sel.All && !sel.DryRun {
		freed, err := s.Clear()
		return PurgeReport{Freed: freed}, err
	}
	s.mu.Lock()
	err := s.writable()
	if sel.DryRun {
		err = s.usable()
	}
	if err != nil {
		s.mu.Unlock()
		return rep, err
	}
	list, jail := s.choosePurged(sel, &rep)
	if sel.DryRun {
		for _, n := range list {
			n.leaving = false
			rep.add(&rep.Segments, n.bytes, nil)
		}
		for _, q := range jail {
			rep.add(&rep.Quarantined, q.bytes, nil)
		}
		s.mu.Unlock()
		return rep, nil
	}
	s.mu.Unlock()
	err = s.removePurged(ctx, list, jail, &rep)
	s.opt.Log("kv cache purged segments=%d quarantined=%d size=%.2f MiB failed=%d", rep.Segments, rep.Quarantined, inMiB(rep.Bytes), rep.Failed)
	return rep, err
}

// choosePurged marks the selected nodes as leaving and takes the selected files
// out of the list of the quarantine. The caller holds mu.
func (s *Store) choosePurged(sel Selection, rep *PurgeReport) (list []*node, jail []jailed) {
	now := s.opt.Now()
	free := sel.excess(s.used())
	if sel.All || !sel.Quarantine {
		selected := 0
		wants := func(n *node) bool { return sel.All || sel.wants(&s.opt.Identity, n.lastUsed, now) }
		for _, n := range s.ix.nodes {
			if !n.leaving && wants(n) {
				selected++
			}
		}
		list = s.chooseOf(free, wants)
		if sel.KeepBytes == nil {
			rep.Kept = selected - len(list)
		}
		for _, n := range list {
			rep.name(FileRef{Name: n.id.String(), From: n.from, To: n.to, Bytes: n.bytes})
		}
	}
	if sel.All || sel.Quarantine {
		left := slices.DeleteFunc(slices.Clone(s.jailed), func(q jailed) bool {
			if free <= 0 || !sel.All && !sel.wants(nil, time.Unix(q.unix, 0), now) {
				return false
			}
			free -= q.bytes
			jail = append(jail, q)
			rep.name(FileRef{Name: strings.TrimSuffix(q.base, segmentExt), Bytes: q.bytes})
			return true
		})
		if !sel.DryRun {
			s.jailed = left
			for _, q := range jail {
				s.jailBytes -= q.bytes
			}
		}
	}
	return list, jail
}

// purgeBatch is how many files the keeper removes before it looks at its other
// notes.
const purgeBatch = 64

// removePurged lets the keeper unlink what was chosen. What it does not get to is
// put back.
func (s *Store) removePurged(ctx context.Context, list []*node, jail []jailed, rep *PurgeReport) (err error) {
	for err == nil && len(list)+len(jail) > 0 {
		if err = ctx.Err(); err != nil {
			break
		}
		nodes := list[:min(len(list), purgeBatch)]
		files := jail[:min(len(jail), purgeBatch-len(nodes))]
		var got Freed // ours when the keeper is through with it
		var claimed atomic.Bool
		done := s.keep(true, func() {
			if claimed.CompareAndSwap(false, true) {
				got = s.unlink(nodes, files)
			}
		})
		switch {
		case done:
			rep.merge(got)
			list, jail = list[len(nodes):], jail[len(files):]
			continue
		case !claimed.CompareAndSwap(false, true): // it goes on behind the scenes
			list, jail = list[len(nodes):], jail[len(files):]
		}
		err = ErrBusy
	}
	if err == nil {
		return nil
	}
	s.mu.Lock()
	for _, n := range list {
		n.leaving = false
	}
	s.jailed = append(slices.Clone(jail), s.jailed...)
	for _, q := range jail {
		s.jailBytes += q.bytes
	}
	s.mu.Unlock()
	return fmt.Errorf("kvstore: purge: %w", err)
}

// unlink removes nodes that are leaving, and files that left the list of the
// quarantine. Only the keeper calls it.
func (s *Store) unlink(list []*node, jail []jailed) Freed {
	var f Freed
	for _, n := range list {
		err := s.remove(s.dir.segment(n.id), n.id.String())
		s.mu.Lock()
		s.ix.remove(n)
		if err != nil {
			s.foreign += n.bytes
			s.count.unlinkFailures++
		} else {
			s.count.evicted("purged")
		}
		s.mu.Unlock()
		f.add(&f.Segments, n.bytes, err)
	}
	for _, q := range jail {
		f.add(&f.Quarantined, q.bytes, s.removeJailed(q))
	}
	return f
}

func (f *Freed) merge(g Freed) {
	f.Segments += g.Segments
	f.Quarantined += g.Quarantined
	f.Others += g.Others
	f.Bytes += g.Bytes
	f.Failed += g.Failed
}
