package kvstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"ds4/runtime/kvstore/journal"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

var (
	// ErrNotFound means that no file of a cache folder has the name that was asked
	// for.
	ErrNotFound = errors.New("kvstore: not found")
	// ErrNotReadmitted means that a quarantined segment cannot go back: it is
	// damaged, of another model, or already there.
	ErrNotReadmitted = errors.New("kvstore: not restored")
)

// parole is how many strikes a segment has that went back: it is checked in full
// before it is used, and the next strike sends it to quarantine again. Work on it
// that succeeds clears it.
const parole = 1

// Found is a file that an id names.
type Found struct {
	ID          segment.ID
	Path        string
	Name        string // id, or the base name in the quarantine without ending
	Quarantined bool
}

// minIDDigits is the shortest beginning of an id that is looked for.
const minIDDigits = 4

// maxFound bounds the files that an ambiguous id lists.
const maxFound = 16

// FindID returns the files whose id, or whose name in the quarantine, begins with
// the text; at most 16. ErrNotFound for none.
func FindID(ctx context.Context, fsys vfs.FS, dir, text string) ([]Found, error) {
	d := folder(dir)
	if err := checkFolder(fsys, d); err != nil {
		return nil, err
	}
	hexPart, _, _ := strings.Cut(text, ".")
	if len(hexPart) < minIDDigits || len(hexPart) > 2*len(segment.ID{}) || strings.Trim(hexPart, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("%w: %.60q is no id: want %d to 40 lower-case hex digits", ErrNotFound, text, minIDDigits)
	}
	var list []Found
	shard := text[:2]
	err := ignoreMissing(fsys.ReadDir(d.shard(shard), func(e vfs.Entry) error {
		if id, ok := parseSegmentName(shard, e.Name); ok && strings.HasPrefix(id.String(), text) && len(list) < maxFound {
			list = append(list, Found{ID: id, Path: path.Join(d.shard(shard), e.Name), Name: id.String()})
		}
		return ctx.Err()
	}))
	if err == nil {
		err = ignoreMissing(fsys.ReadDir(d.quarantine(), func(e vfs.Entry) error {
			base, isSegment := strings.CutSuffix(e.Name, segmentExt)
			if id, ok := parseJailed(e.Name); ok && isSegment && strings.HasPrefix(base, text) && len(list) < maxFound {
				list = append(list, Found{ID: id, Path: path.Join(d.quarantine(), e.Name), Name: base, Quarantined: true})
			}
			return ctx.Err()
		}))
	}
	if err != nil {
		return nil, fmt.Errorf("kvstore: find %s: %w", text, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: no segment in %s, quarantine included, has an id that begins with %s", ErrNotFound, dir, text)
	}
	slices.SortFunc(list, func(a, b Found) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

// parseJailed returns the id in a quarantined file's base name.
func parseJailed(base string) (segment.ID, bool) {
	if _, ok := parseQuarantined(base); !ok {
		return segment.ID{}, false
	}
	hexPart, _, _ := strings.Cut(base, ".")
	id, err := segment.ParseID(hexPart)
	return id, err == nil && !id.IsZero()
}

// Readmit puts a file of the quarantine back among the segments of a folder that
// nobody uses. name is its base name without ending. Every byte of it is checked
// first. ErrLocked while a server has the
// folder: that server must be asked (Store.Readmit).
func Readmit(fsys vfs.FS, dir, name string, now time.Time) (FileRef, error) {
	d := folder(dir)
	if err := checkFolder(fsys, d); err != nil {
		return FileRef{}, err
	}
	release, err := toolLock(fsys, d, "ds4 kv restore", now, os.Getpid())
	if err != nil {
		return FileRef{}, fmt.Errorf("kvstore: restore: %w", err)
	}
	defer release()
	from := path.Join(d.quarantine(), name+segmentExt)
	in, id, err := checkJailed(fsys, from, nil)
	if err != nil {
		return FileRef{}, err
	}
	if last := readHolder(fsys, d).Identity; last != "" && last != hex.EncodeToString(in.Identity[:]) {
		return FileRef{}, fmt.Errorf("%w: it belongs to another model (identity %x) than that of the last server (%.12s), whose next start would remove it",
			ErrNotReadmitted, in.Identity[:6], last)
	}
	ref := refTo(id, in)
	if !in.Parent.IsZero() {
		switch parent, err := checkSegment(fsys, d.segment(in.Parent), in.Parent, false, nil); {
		case err != nil:
			ref.Missing = in.Parent.String()
		case parent.To != in.From:
			return FileRef{}, noFit(in.Parent)
		}
	}
	if _, err := fsys.Lstat(d.segment(id)); !errors.Is(err, fs.ErrNotExist) {
		return FileRef{}, alreadyThere(id)
	}
	if err := noteParole(fsys, d, id, in.CreatedNS); err != nil {
		return FileRef{}, fmt.Errorf("kvstore: restore: journal: %w", err)
	}
	if err := moveBack(fsys, d, from, id, true); err != nil {
		return FileRef{}, fmt.Errorf("kvstore: restore: %w", err)
	}
	return ref, nil
}

func refTo(id segment.ID, in *segment.Info) FileRef {
	return FileRef{Name: id.String(), From: in.From, To: in.To, Bytes: in.FileBytes}
}

func noFit(parent segment.ID) error {
	return fmt.Errorf("%w: it does not begin where %v ends, which it says it continues", ErrNotReadmitted, parent)
}

func alreadyThere(id segment.ID) error {
	return fmt.Errorf("%w: %v has been written again since", ErrNotReadmitted, id)
}

// checkJailed reads every byte of a quarantined file; l may be nil.
func checkJailed(fsys vfs.FS, name string, l *segment.Layout) (*segment.Info, segment.ID, error) {
	id, ok := parseJailed(path.Base(name))
	if !ok {
		return nil, id, fmt.Errorf("%w: %s is not the name of a quarantined segment", ErrNotFound, path.Base(name))
	}
	in, err := checkSegment(fsys, name, id, true, l)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, id, fmt.Errorf("%w: %s is not in quarantine", ErrNotFound, path.Base(name))
	case err != nil:
		return nil, id, fmt.Errorf("%w: the full check found: %w", ErrNotReadmitted, err)
	}
	return in, id, nil
}

// moveBack renames a quarantined file to its segment's name and removes its note.
func moveBack(fsys vfs.FS, d folder, from string, id segment.ID, durable bool) error {
	to := d.segment(id)
	err := fsys.MkdirAll(path.Dir(to))
	if err == nil && durable {
		err = fsys.SyncDir(d.segments()) // the folder's own name before the file's
	}
	if err == nil {
		err = fsys.Rename(from, to)
	}
	if err == nil && durable {
		err = errors.Join(fsys.SyncDir(path.Dir(to)), fsys.SyncDir(d.quarantine()))
	}
	if err == nil {
		_ = fsys.Remove(noteName(from)) // start-up removes what stays
	}
	return err
}

// pardon are the records that keep a restored file from going straight back: one
// strike, and no conviction of this very file. How often its id was convicted
// otherwise is remembered: count is without this time.
func pardon(id segment.ID, createdNS int64, count int) []journal.Record {
	return []journal.Record{
		{Kind: journal.Strike, ID: id, Count: parole, TimeNS: createdNS},
		{Kind: journal.Convicted, ID: id, Count: uint32(count)}, // of no file that is there: its time is zero
	}
}

// noteParole appends to the journal of a folder whose lock is ours. It is on disk
// when it returns nil. A damaged journal is replaced by what is left of it.
func noteParole(fsys vfs.FS, d folder, id segment.ID, createdNS int64) error {
	type key struct {
		kind journal.Kind
		id   segment.ID
		mark uint64
	}
	count := 0
	newest := map[key]journal.Record{}
	var order []key
	good, bad, err := journal.Read(fsys, d.journal(), func(r journal.Record) {
		if r.ID == id && r.Kind == journal.Convicted {
			count = int(r.Count)
		}
		k := key{r.Kind, r.ID, r.Key}
		if _, known := newest[k]; !known {
			if len(order) >= maxSurvey {
				return
			}
			order = append(order, k)
		}
		newest[k] = r
	})
	if err != nil {
		return err
	}
	recs := pardon(id, createdNS, max(count-1, 0))
	w := journal.NewWriter(fsys, d.journal(), good, bad)
	defer w.Close()
	if !w.NeedsRewrite() {
		return w.Append(true, recs...)
	}
	all := make([]journal.Record, 0, len(order)+len(recs))
	for _, k := range order {
		all = append(all, newest[k])
	}
	return w.Rewrite(true, append(all, recs...))
}

// Readmit puts a file of the quarantine back while the store works. name is its
// base name without ending. Every byte is checked first.
func (s *Store) Readmit(name string) (FileRef, error) {
	base := name + segmentExt
	s.mu.Lock()
	err := s.writable()
	known := slices.ContainsFunc(s.jailed, func(q jailed) bool { return q.base == base })
	s.mu.Unlock()
	if err != nil {
		return FileRef{}, err
	}
	if !known {
		return FileRef{}, fmt.Errorf("%w: %.80s is not in quarantine", ErrNotFound, name)
	}
	in, id, err := checkJailed(s.fs, path.Join(s.dir.quarantine(), base), &s.opt.Layout)
	if err != nil {
		return FileRef{}, err
	}
	if in.Identity != s.opt.Identity {
		return FileRef{}, fmt.Errorf("%w: it belongs to another model (identity %x)", ErrNotReadmitted, in.Identity[:6])
	}
	ref := refTo(id, in)
	var result error
	if !s.keep(true, func() { ref.Missing, result = s.readmit(base, id, in) }) {
		return FileRef{}, ErrBusy // it goes on behind the scenes
	}
	return ref, result
}

// readmit moves a checked file and offers it again. It returns the id that the
// segment continues if that is not there. Only the keeper calls it, so that the
// quarantine does not change meanwhile.
func (s *Store) readmit(base string, id segment.ID, in *segment.Info) (missing string, err error) {
	n := &node{id: id, parent: in.Parent, from: in.From, to: in.To, textLen: in.Table[0].Rows, textCRC: in.Table[0].CRC,
		tokensCRC: in.Table[1].CRC, bytes: in.FileBytes, createdNS: in.CreatedNS, lastUsed: s.opt.Now(), strikes: parole}
	s.mu.Lock()
	at := slices.IndexFunc(s.jailed, func(q jailed) bool { return q.base == base })
	p := s.ix.nodes[in.Parent]
	if p == nil && !in.Parent.IsZero() {
		missing = in.Parent.String()
	}
	switch {
	case at < 0:
		err = fmt.Errorf("%w: %s left the quarantine meanwhile", ErrNotFound, base)
	case s.ix.nodes[id] != nil || s.pending[id] != nil:
		err = alreadyThere(id)
	case p != nil && p.to != in.From:
		err = noFit(in.Parent)
	}
	if err != nil {
		s.mu.Unlock()
		return "", err
	}
	jail := s.jailed[at]
	s.jailed = slices.Delete(s.jailed, at, at+1)
	s.jailBytes -= jail.bytes
	// The node is in the index before its file is in place, so that nobody writes
	// it; withheld and pinned, so that nobody reads or evicts it.
	n.withheld, n.pins = true, 1
	s.ix.add(n)
	c, convicted := s.convicted[id]
	count := max(c.count-1, 0)
	if c = (conviction{count: count}); convicted && count > 0 {
		s.convicted[id] = c
	} else {
		delete(s.convicted, id)
	}
	s.mu.Unlock()

	s.note(true, pardon(id, in.CreatedNS, count)...)
	err = moveBack(s.fs, s.dir, path.Join(s.dir.quarantine(), base), id, s.durable())
	s.mu.Lock()
	n.withheld = false
	n.pins--
	if err != nil {
		s.ix.remove(n)
		s.foreign += jail.bytes // wherever it is now
	}
	s.mu.Unlock()
	if err != nil {
		return "", fmt.Errorf("kvstore: restore: %w", err)
	}
	s.opt.Log("kv cache restored from quarantine key=%v tokens=%d size=%.2f MiB", id, n.to, inMiB(n.bytes))
	return missing, nil
}
