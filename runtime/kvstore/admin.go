package kvstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"ds4/runtime/kvstore/journal"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// Limits of what a look from outside holds in memory.
const (
	maxSurvey      = 1 << 17  // segments that are described; more are counted
	maxReasonBytes = 120      // of what is wrong with one file
	maxNoteBytes   = 16 << 10 // of the note beside a quarantined file
)

// ErrNoCache means that a folder is missing or is no cache folder.
var ErrNoCache = errors.New("kvstore: no cache folder")

// Verdict is what the next server would think of a segment file.
type Verdict string

// The verdicts of a Survey.
const (
	VerdictOK         Verdict = "ok"
	VerdictOrphan     Verdict = "orphan"     // intact, but something before it is missing; of use when that is written again
	VerdictStale      Verdict = "stale"      // of another model, tokenizer, numerics or format; removed at the next start
	VerdictDamaged    Verdict = "damaged"    // quarantined when somebody looks
	VerdictConvicted  Verdict = "convicted"  // intact and guilty; quarantined at the next start
	VerdictUnreadable Verdict = "unreadable" // by this process, now
)

// SegmentInfo is one segment file of a folder, seen from outside of a server.
type SegmentInfo struct {
	ID, Parent segment.ID
	Identity   *[32]byte // shared by all segments that have it; nil if the header cannot be read
	From, To   int
	TextBytes  int
	Bytes      int64
	Created    time.Time
	LastUsed   time.Time
	Hits       float64 // decayed
	Strikes    int
	Verdict    Verdict
	Reason     string // why it is not ok
}

// Path is where the segment lies below its folder.
func (f *SegmentInfo) Path(dir string) string { return folder(dir).segment(f.ID) }

// JailInfo is one file of the quarantine.
type JailInfo struct {
	Name     string // base name without ending: id, unix time, reason
	ID       string
	Since    time.Time
	Why      string
	Error    string
	From, To int
	Strikes  int
	Bytes    int64 // with its note
}

// SurveyOptions say how a Survey looks. The zero value will do.
type SurveyOptions struct {
	Full     bool      // read every byte of every segment
	Identity *[32]byte // segments of any other are stale; nil: that of the last server
	Now      time.Time // default: now
	// Progress is called after each segment file.
	Progress func(files int, bytes int64)
}

// Survey is a folder as it was while it was looked at.
type Survey struct {
	Dir      string
	InUse    bool
	Holder   Holder // of the folder, or who was it last
	Identity *[32]byte
	// Segments are ordered by position, then id.
	Segments    []SegmentInfo
	Unlisted    int   // segment files beyond the limit on Segments
	UnlistedSum int64 // their bytes
	Quarantined []JailInfo
	TempBytes   int64
	OtherBytes  int64 // journal, lock file, markers
	Foreign     int64 // bytes that are not the cache's
	Journal     error // why hits and strikes are not known
	Time        time.Time

	fs     vfs.FS
	byID   map[segment.ID]int32
	kids   [][]int32
	roots  []int32
	intern map[[32]byte]*[32]byte
}

// LookAt describes a cache folder without a Store and without changing anything.
// It is safe beside a running server: files that come and go meanwhile may be
// missed. Whatever lies in the folder, its memory is bounded and it opens only
// regular files. ErrNoCache if it is not a cache folder.
func LookAt(ctx context.Context, fsys vfs.FS, dir string, opt SurveyOptions) (*Survey, error) {
	d := folder(dir)
	if err := checkFolder(fsys, d); err != nil {
		return nil, err
	}
	s := &Survey{Dir: dir, Identity: opt.Identity, Time: opt.Now, fs: fsys, byID: map[segment.ID]int32{}, intern: map[[32]byte]*[32]byte{}}
	if s.Time.IsZero() {
		s.Time = time.Now()
	}
	s.Holder, s.InUse = inUse(fsys, d)
	if s.Identity == nil {
		s.Identity = s.Holder.IdentityBytes()
	}
	if err := s.walk(ctx, d, opt); err != nil {
		return nil, fmt.Errorf("kvstore: look at %s: %w", dir, err)
	}
	slices.SortFunc(s.Segments, func(a, b SegmentInfo) int {
		if a.From != b.From {
			return a.From - b.From
		}
		return strings.Compare(string(a.ID[:]), string(b.ID[:]))
	})
	for i := range s.Segments {
		s.byID[s.Segments[i].ID] = int32(i)
	}
	s.Journal = s.readJournal(d)
	s.link()
	return s, nil
}

// checkFolder refuses what is no cache folder, with a hint for who is one folder
// too deep.
func checkFolder(fsys vfs.FS, d folder) error {
	fi, err := fsys.Lstat(string(d))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s does not exist", ErrNoCache, d)
	case err != nil:
		return fmt.Errorf("%w: %s", ErrNoCache, errnoText(err))
	case !fi.IsDir():
		return fmt.Errorf("%w: %s is not a folder", ErrNoCache, d)
	case isCache(fsys, d):
		return nil
	}
	for up := path.Dir(path.Clean(string(d))); up != "." && up != "/"; up = path.Dir(up) {
		if isCache(fsys, folder(up)) {
			return fmt.Errorf("%w: %s lies inside of one, %s", ErrNoCache, d, up)
		}
	}
	return fmt.Errorf("%w: %s has no folder \"segments\" and no lock file of a server", ErrNoCache, d)
}

// isCache reports whether a store has ever worked in the folder.
func isCache(fsys vfs.FS, d folder) bool {
	fi, err := fsys.Lstat(d.segments())
	return err == nil && fi.IsDir() || readHolder(fsys, d).PID != 0
}

// walk looks at everything under the folder.
func (s *Survey) walk(ctx context.Context, d folder, opt SurveyOptions) error {
	files, bytes := 0, int64(0)
	err := eachSegment(ctx, s.fs, d, func(id segment.ID, name string, _ vfs.Entry) error {
		if len(s.Segments) >= maxSurvey {
			s.Unlisted++
			s.UnlistedSum += sizeOf(s.fs, name, 0)
			return nil
		}
		f, err := s.look(id, name, opt.Full)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone since it was listed
		}
		s.Segments = append(s.Segments, f)
		if files, bytes = files+1, bytes+f.Bytes; opt.Progress != nil {
			opt.Progress(files, bytes)
		}
		return nil
	}, func(name string) { s.Foreign += sizeOf(s.fs, name, maxDepth) })
	if err != nil {
		return err
	}
	if err := s.walkJail(ctx, d); err != nil {
		return err
	}
	s.TempBytes = sizeOf(s.fs, d.tmp(), 1)
	return s.fs.ReadDir(string(d), func(e vfs.Entry) error {
		name := path.Join(string(d), e.Name)
		switch e.Name {
		case "segments", "tmp", "quarantine":
		case "LOCK", "journal", "inflight", callsName:
			s.OtherBytes += sizeOf(s.fs, name, 1)
		default:
			s.Foreign += sizeOf(s.fs, name, maxDepth)
		}
		return ctx.Err()
	})
}

// eachSegment calls visit for every name that is a segment's, and other for the
// rest of the segments folder.
func eachSegment(ctx context.Context, fsys vfs.FS, d folder, visit func(id segment.ID, name string, e vfs.Entry) error, other func(name string)) error {
	return ignoreMissing(fsys.ReadDir(d.segments(), func(x vfs.Entry) error {
		if !x.Type.IsDir() || !isShard(x.Name) {
			other(path.Join(d.segments(), x.Name))
			return nil
		}
		return ignoreMissing(fsys.ReadDir(d.shard(x.Name), func(e vfs.Entry) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			name := path.Join(d.shard(x.Name), e.Name)
			if id, ok := parseSegmentName(x.Name, e.Name); ok {
				return visit(id, name, e)
			}
			other(name)
			return nil
		}))
	}))
}

// look judges one segment file. The only error is that it is gone.
func (s *Survey) look(id segment.ID, name string, full bool) (SegmentInfo, error) {
	f := SegmentInfo{ID: id, Verdict: VerdictOK}
	fi, err := s.fs.Lstat(name)
	if err != nil {
		return f, s.judge(&f, err)
	}
	f.Bytes, f.Created, f.LastUsed = fi.Size(), fi.ModTime(), fi.ModTime()
	in, err := checkSegment(s.fs, name, id, full, nil)
	if in != nil {
		h := &in.Header
		f.Parent, f.From, f.To, f.Identity = h.Parent, h.From, h.To, s.share(h.Identity)
		f.Created = time.Unix(0, h.CreatedNS)
		f.LastUsed = f.Created
		if len(in.Table) > 0 {
			f.TextBytes = in.Table[0].Rows
		}
	}
	if err != nil {
		return f, s.judge(&f, err)
	}
	if s.Identity != nil && f.Identity != s.share(*s.Identity) {
		f.Verdict, f.Reason = VerdictStale, fmt.Sprintf("identity %x, the model's is %x", f.Identity[:6], s.Identity[:6])
	}
	return f, nil
}

// share returns one copy of each identity.
func (s *Survey) share(id [32]byte) *[32]byte {
	if p := s.intern[id]; p != nil {
		return p
	}
	s.intern[id] = &id
	return &id
}

// judge turns an error into a verdict; only a missing file stays an error.
func (s *Survey) judge(f *SegmentInfo, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return err
	case errors.Is(err, segment.ErrVersion):
		f.Verdict = VerdictStale
	case isFormat(err), errors.Is(err, vfs.ErrNotRegular):
		f.Verdict = VerdictDamaged
	default:
		f.Verdict = VerdictUnreadable
	}
	f.Reason = clip(oneLine(errnoText(err)), maxReasonBytes)
	return nil
}

// clip makes text from a file or a name fit to be shown: short, and nothing that a
// terminal would obey.
func clip(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit] + "..."
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

// checkSegment reads header, table and footer of a file, and with full every
// byte of it. What was read well before an error is returned with it. l may be
// nil.
func checkSegment(fsys vfs.FS, name string, id segment.ID, full bool, l *segment.Layout) (*segment.Info, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	r := segment.Reader{R: f, Size: size}
	h, err := r.Header()
	if err != nil {
		return nil, err
	}
	in, err := r.Info(h, l)
	if err != nil {
		return &segment.Info{Header: h}, err
	}
	if full {
		err = verifySegment(r, in, id, l)
	}
	return in, err
}

// verifySegment reads every byte: checksums, zeros, and the text, which must hash to
// the name; with l also whether token ids are of its vocabulary.
func verifySegment(r segment.Reader, in *segment.Info, id segment.ID, l *segment.Layout) error {
	got, err := r.Verify(in, l)
	if err == nil && got != id {
		err = fmt.Errorf("%w: text hashes to %v", segment.ErrCorrupt, got)
	}
	return err
}

// walkJail lists the quarantine.
func (s *Survey) walkJail(ctx context.Context, d folder) error {
	err := ignoreMissing(s.fs.ReadDir(d.quarantine(), func(e vfs.Entry) error {
		name := path.Join(d.quarantine(), e.Name)
		unix, _ := parseQuarantined(e.Name)
		_, ok := parseJailed(e.Name)
		switch {
		case ok && path.Ext(e.Name) == ".json":
		case !ok || path.Ext(e.Name) != segmentExt || len(s.Quarantined) >= maxJailed:
			s.Foreign += sizeOf(s.fs, name, maxDepth)
		default:
			s.Quarantined = append(s.Quarantined, s.lookAtJailed(name, e.Name, unix))
		}
		return ctx.Err()
	}))
	slices.SortFunc(s.Quarantined, func(a, b JailInfo) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return err
}

func (s *Survey) lookAtJailed(name, base string, unix int64) JailInfo {
	words := strings.Split(base, ".")
	q := JailInfo{Name: clip(strings.TrimSuffix(base, segmentExt), 255), ID: words[0], Since: time.Unix(unix, 0), Why: clip(words[2], maxReasonBytes)}
	q.Bytes = sizeOf(s.fs, name, 0) + sizeOf(s.fs, noteName(name), 0)
	var n note
	if data, err := vfs.ReadFile(s.fs, noteName(name), maxNoteBytes); err == nil && json.Unmarshal(data, &n) == nil {
		q.From, q.To, q.Strikes, q.Error = n.From, n.To, n.Strikes, clip(oneLine(n.Error), maxReasonBytes)
	}
	return q
}

// readJournal adds use, strikes and convictions.
func (s *Survey) readJournal(d folder) error {
	guilty := map[int32]bool{}
	_, _, err := journal.Read(s.fs, d.journal(), func(r journal.Record) {
		i, ok := s.byID[r.ID]
		if !ok {
			return
		}
		f := &s.Segments[i]
		switch r.Kind {
		case journal.Touched:
			n := node{hits: float64(r.Count) / 1000, lastUsed: time.Unix(0, r.TimeNS)}
			f.Hits, f.LastUsed = n.decayedHits(s.Time), n.lastUsed
		case journal.Strike:
			if r.TimeNS == f.Created.UnixNano() {
				f.Strikes = int(r.Count)
			}
		case journal.Cleared:
			f.Strikes = 0
		case journal.Convicted:
			guilty[i] = r.Count > 0 && r.TimeNS == f.Created.UnixNano()
		}
	})
	for i := range s.Segments {
		f := &s.Segments[i]
		if f.Verdict == VerdictOK && (guilty[int32(i)] || f.Strikes >= strikeLimit) {
			f.Verdict, f.Reason = VerdictConvicted, "the process died, or the device failed, with it restored"
		}
	}
	return err
}

// WhoHas returns the process that works in a cache folder; false if none does, with
// who did last.
func WhoHas(fsys vfs.FS, dir string) (Holder, bool, error) {
	if err := checkFolder(fsys, folder(dir)); err != nil {
		return Holder{}, false, err
	}
	h, used := inUse(fsys, folder(dir))
	return h, used, nil
}

// DumpFile reads one segment file, wherever it lies.
func DumpFile(fsys vfs.FS, name string) (*segment.Dump, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("kvstore: dump: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("kvstore: dump: %w", err)
	}
	d, err := segment.Reader{R: f, Size: size}.Inspect()
	if err != nil {
		return nil, fmt.Errorf("kvstore: dump %s: %w", name, err)
	}
	return d, nil
}
