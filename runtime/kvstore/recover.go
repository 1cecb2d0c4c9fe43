package kvstore

import (
	"errors"
	"io/fs"
	"path"
	"sort"
	"strconv"
	"syscall"
	"time"

	"ds4/runtime/failpoint"
	"ds4/runtime/kvstore/journal"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// Bounds of what a start does for a folder in which anything may lie.
const (
	maxJailed     = 1 << 14 // files of the quarantine in memory; more are removed
	maxIsolated   = 1000    // damaged files that one start moves to quarantine; more are removed
	maxDepth      = 16      // of foreign folders when their size is taken
	maxLooks      = 1 << 20 // names in one foreign folder when its size is taken
	maxScanErrors = 5       // lines about files that cannot be read, or not be removed
)

// Verdicts is what recovery found.
type Verdicts struct {
	Scanned    int   // files with a segment's name
	OK         int   // found by lookups now
	Stale      int   // of another identity or version: removed
	Corrupt    int   // damaged or torn: quarantined
	Unreadable int   // left alone, ignored
	Orphan     int   // a segment before it is gone: kept for when that is written again
	Poisoned   int   // too many strikes, or convicted: quarantined
	FreedBytes int64 // removed, quarantine not counted
	Time       time.Duration
}

// recover looks at everything under the folder and leaves a store that works.
// Nothing else touches the folder meanwhile. It needs no engine and no device.
func (s *Store) recover() {
	start := time.Now()
	err := s.prepare()
	if err == nil {
		err = s.recoverSegments()
	}
	if err != nil {
		s.mu.Lock()
		s.disabled = errnoText(err)
		s.mu.Unlock()
		s.opt.Log("kv cache off: %s", errnoText(err))
		return
	}
	s.recoveryEnds(start, true)
}

// recoveryEnds opens the store for use and says what was found.
func (s *Store) recoveryEnds(start time.Time, say bool) {
	s.mu.Lock()
	s.ready = true
	s.verdicts.OK = len(s.ix.reached())
	s.verdicts.Time = time.Since(start)
	v, readOnly := s.verdicts, s.readOnly
	s.mu.Unlock()
	if !say {
		return
	}
	if readOnly != "" {
		s.opt.Log("kv cache is read-only: %s; lookups only", readOnly)
	}
	s.opt.Log("kv recovery scanned=%d ok=%d stale=%d corrupt=%d orphan=%d poisoned=%d freed=%.2f MiB %.3f s",
		v.Scanned, v.OK, v.Stale, v.Corrupt, v.Orphan, v.Poisoned, inMiB(v.FreedBytes), v.Time.Seconds())
}

// prepare creates the folders and takes the lock. An error means that not even
// reading is possible.
func (s *Store) prepare() error {
	if err := s.openFolder(); err != nil {
		return err
	}
	lock, readOnly, err := s.takeLock()
	if err == nil && readOnly == "" {
		err = s.makeFolders()
	}
	if err == nil && readOnly == "" {
		err = s.checkWritable()
	}
	if err != nil {
		readOnly = errnoText(err)
		if lock != nil { // somebody else may be able to write
			_ = lock.Close()
			lock = nil
		}
	}
	if readOnly == "" {
		s.syncRoot()
	}
	s.mu.Lock()
	s.lock, s.readOnly = lock, readOnly
	s.mu.Unlock()
	return nil
}

func (s *Store) makeFolders() error {
	for _, sub := range []string{s.dir.segments(), s.dir.tmp(), s.dir.inflight(), s.dir.quarantine()} {
		if err := s.fs.MkdirAll(sub); err != nil {
			return err
		}
	}
	return nil
}

// checkWritable finds out whether files can be made. Only that they are forbidden
// is a reason to just read: a full disk may be free a moment later.
func (s *Store) checkWritable() error {
	name := path.Join(s.dir.tmp(), "probe"+vfs.TempMark+strconv.Itoa(s.pid))
	f, err := s.fs.Create(name)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
			return err
		}
		return nil
	}
	_ = f.Close()
	_ = s.fs.Remove(name) // the sweep of temporary files comes next
	return nil
}

// syncRoot makes the names of the folder and of those in it durable.
func (s *Store) syncRoot() {
	if !s.durable() {
		return
	}
	dir := string(s.dir)
	if err := errors.Join(s.fs.SyncDir(dir), s.fs.SyncDir(path.Dir(dir))); err != nil {
		s.opt.Log("kv cache folder cannot be synced: %s", errnoText(err))
	}
}

func (s *Store) recoverSegments() error {
	if err := s.sweepTemps(); err != nil {
		return err
	}
	s.loadJail()
	if err := s.scan(); err != nil {
		return err
	}
	s.countForeign()
	s.loadJournal()
	if s.readOnly != "" {
		s.forgetUnusable()
		return nil
	}
	guilty := s.knownGuilty()
	poisoned, err := s.applyMarkers()
	if err != nil {
		s.opt.Log("kv cache in-flight markers cannot be read: %s", errnoText(err))
	}
	for _, n := range append(guilty, poisoned...) {
		s.verdicts.Poisoned++
		s.imprison(n, "poisoned", "the process died, or the device failed, with it restored")
	}
	s.sortOrphans()
	s.trimJail()
	s.sayWhatWasTooMuch()
	before := s.ix.bytes
	if !s.opt.Unsafe.NoTrim {
		s.makeRoom(0)
	}
	s.verdicts.FreedBytes += before - s.ix.bytes
	return nil
}

// sweepTemps removes what dead writers left. The lock is ours, so all of them
// are dead.
func (s *Store) sweepTemps() error {
	if s.readOnly != "" {
		return nil
	}
	err := s.fs.ReadDir(s.dir.tmp(), func(e vfs.Entry) error {
		name := path.Join(s.dir.tmp(), e.Name)
		if e.Type.IsDir() {
			s.addForeign(s.sizeOf(name))
			return nil
		}
		s.sweep(name)
		return nil
	})
	return ignoreMissing(err)
}

// sweep removes a file that nobody needs and counts what it frees.
func (s *Store) sweep(name string) bool {
	size := s.sizeOf(name)
	if s.readOnly != "" || s.opt.Unsafe.NoSweep {
		return false
	}
	if err := s.remove(name, ""); err != nil {
		if s.unswept++; s.unswept <= maxScanErrors {
			s.opt.Log("kv cache cannot remove %q: %v; ignored from now on", path.Base(name), rootCause(err))
		}
		s.addForeign(size)
		return false
	}
	s.verdicts.FreedBytes += size
	return true
}

// sayWhatWasTooMuch is the end of what was said one by one.
func (s *Store) sayWhatWasTooMuch() {
	if more := s.unswept - maxScanErrors; more > 0 {
		s.opt.Log("kv cache cannot remove %d more", more)
	}
	if more := s.isolated - maxIsolated; more > 0 {
		s.opt.Log("kv cache removed %d more damaged files without quarantine", more)
	}
}

// scan judges every file of the segments folder. What it moves to quarantine is
// synced at the end of each folder, not file by file.
func (s *Store) scan() error {
	s.scanning = true
	defer func() {
		s.scanning = false
		if s.isolated > 0 {
			s.syncFound(s.dir.quarantine())
		}
	}()
	var shards []string
	err := s.fs.ReadDir(s.dir.segments(), func(e vfs.Entry) error {
		switch {
		case e.Type.IsDir() && isShard(e.Name):
			shards = append(shards, e.Name)
		default:
			s.addForeign(s.sizeOf(path.Join(s.dir.segments(), e.Name)))
		}
		return nil
	})
	if err := ignoreMissing(err); err != nil {
		return err
	}
	sort.Strings(shards)
	unreadable := 0
	complain := func(name string, err error) {
		s.verdicts.Unreadable++
		if unreadable++; unreadable <= maxScanErrors {
			s.opt.Log("kv cache cannot read %s: %s; ignored", name, oneLine(err.Error()))
		}
	}
	for _, shard := range shards {
		err := ptScan.Hit(failpoint.Scope{Source: "disk"})
		if err == nil {
			err = s.fs.ReadDir(s.dir.shard(shard), func(e vfs.Entry) error {
				s.scanEntry(shard, e, complain)
				return nil
			})
		}
		if err != nil {
			complain(s.dir.shard(shard), err)
		}
		s.syncFound(s.dir.shard(shard))
	}
	s.exposeTwins()
	s.syncFound(s.dir.segments())
	if unreadable > maxScanErrors {
		s.opt.Log("kv cache cannot read %d more", unreadable-maxScanErrors)
	}
	return nil
}

// syncFound makes the names that a scan has seen durable. A process that was
// killed between rename and sync leaves a segment that is good, but that a power
// cut could still take: what builds on it must not.
func (s *Store) syncFound(dir string) {
	if s.readOnly != "" || !s.durable() {
		return
	}
	if err := s.fs.SyncDir(dir); ignoreMissing(err) != nil {
		s.opt.Log("kv cache folder cannot be synced: %s", errnoText(err))
	}
}

func (s *Store) scanEntry(shard string, e vfs.Entry, complain func(string, error)) {
	name := s.dir.shard(shard) + "/" + e.Name
	id, ok := parseSegmentName(shard, e.Name)
	if !ok || len(s.ix.nodes) >= maxNodes {
		s.addForeign(s.sizeOf(name))
		return
	}
	s.verdicts.Scanned++
	if !e.Type.IsRegular() {
		// It would be in the way of a segment with this name.
		s.verdicts.Corrupt++
		s.isolate(&node{id: id, bytes: s.sizeOf(name)}, "notfile", vfs.ErrNotRegular)
		return
	}
	n, err := s.judge(name, id)
	switch {
	case err == nil:
		s.mu.Lock()
		s.ix.add(n)
		s.mu.Unlock()
	case errors.Is(err, segment.ErrIdentity), errors.Is(err, segment.ErrVersion):
		s.verdicts.Stale++
		s.sweep(name)
	case errors.Is(err, segment.ErrTorn):
		s.verdicts.Corrupt++
		s.isolate(&node{id: id, bytes: s.sizeOf(name)}, "torn", err)
	case isFormat(err):
		s.verdicts.Corrupt++
		s.isolate(&node{id: id, bytes: s.sizeOf(name)}, "corrupt", err)
	default:
		s.addForeign(s.sizeOf(name))
		complain(name, err)
	}
}

// isolate quarantines a file that never made it into the index.
func (s *Store) isolate(n *node, why string, cause error) {
	if s.readOnly != "" {
		return
	}
	if s.isolated++; s.isolated > maxIsolated {
		s.sweep(s.dir.segment(n.id))
		return
	}
	s.imprison(n, why, cause.Error())
}

// headFile is a file whose header and table are read at once and remembered.
type headFile struct {
	vfs.File
	head []byte
	n    int // bytes of head that are there
}

// ReadAt takes from what is remembered if all of b is part of it.
func (h *headFile) ReadAt(b []byte, off int64) (int, error) {
	end := off + int64(len(b))
	if end > int64(len(h.head)) {
		return h.File.ReadAt(b, off)
	}
	if h.n == 0 {
		n, err := h.File.ReadAt(h.head, 0)
		if int64(n) < end {
			return copy(b, h.head[min(off, int64(n)):n]), err
		}
		h.n = n
	}
	if end > int64(h.n) {
		return h.File.ReadAt(b, off)
	}
	return copy(b, h.head[off:end]), nil
}

// judge reads as much of a file as Validate says and returns its node.
func (s *Store) judge(name string, id segment.ID) (*node, error) {
	f, err := s.fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	head := &headFile{File: f, head: make([]byte, min(size, int64(s.opt.Layout.HeadBytes())))}
	r := segment.Reader{R: tap{head, id.String(), ptHeaderRead}, Size: size,
		NoChecksum: s.opt.Unsafe.NoChecksum || s.opt.Validate == ValidateOff, TrustLength: s.opt.Unsafe.TrustLength}
	h, err := r.Header()
	if err != nil {
		return nil, err
	}
	if h.Identity != s.opt.Identity || s.tooOld(h.CreatedNS) {
		return nil, segment.ErrIdentity
	}
	in, err := r.Info(h, &s.opt.Layout)
	if err != nil {
		return nil, err
	}
	if s.opt.Validate == ValidateFull {
		got, err := r.Verify(in, &s.opt.Layout)
		if err == nil && got != id && !r.NoChecksum {
			err = segment.ErrCorrupt
		}
		if err != nil {
			return nil, err
		}
	}
	return &node{id: id, parent: h.Parent, from: h.From, to: h.To, sampled: h.Sampled, textLen: in.Table[0].Rows, textCRC: in.Table[0].CRC,
		tokensCRC: in.Table[1].CRC, bytes: size, createdNS: h.CreatedNS, lastUsed: time.Unix(0, h.CreatedNS)}, nil
}

// loadJournal applies what the journal knows about segments that are there.
func (s *Store) loadJournal() {
	good, bad, err := journal.Read(s.fs, s.dir.journal(), func(r journal.Record) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r.Kind == journal.Strike && r.Key != 0 && len(s.markKeys) < maxMarkers {
			s.markKeys[r.Key] = struct{}{}
		}
		if r.Kind == journal.Convicted {
			s.remember(r.ID, conviction{int(r.Count), r.TimeNS})
			return
		}
		n := s.ix.nodes[r.ID]
		if n == nil {
			return
		}
		switch r.Kind {
		case journal.Touched:
			n.hits, n.lastUsed = float64(r.Count)/1000, time.Unix(0, r.TimeNS)
		case journal.Strike:
			if r.TimeNS == n.createdNS { // not of an earlier file with this name
				n.strikes = int(r.Count)
			}
		case journal.Cleared:
			n.strikes = 0
		}
	})
	if err != nil {
		s.opt.Log("kv cache journal cannot be read: %s", errnoText(err))
		bad++ // rewrite it before anything is appended
	}
	if s.readOnly != "" {
		return
	}
	s.journal = journal.NewWriter(s.fs, s.dir.journal(), good, bad)
	s.mu.Lock()
	s.journalMost = journalSlack*len(s.journalRecords()) + journalMin
	s.mu.Unlock()
	s.noteJournalBytes()
	if err == nil {
		s.secureJournal(good, bad)
	}
}

// secureJournal makes what was just read durable: the process that wrote it may
// have died, or its disk may have been full, between a write and its sync, and a
// strike that counts today has to count after a power cut, too.
func (s *Store) secureJournal(good, bad int) {
	switch {
	case !s.durable() || good == 0:
	case bad > 0:
		s.rewriteJournal()
	default:
		if err := s.journal.Sync(); err != nil {
			s.journalFailed(err)
		}
	}
}

// knownGuilty returns what should have been in quarantine: convicted files that
// could not be moved, or that came back after a power cut.
func (s *Store) knownGuilty() []*node {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*node
	for _, n := range s.ix.nodes {
		if c, ok := s.convicted[n.id]; n.strikes >= strikeLimit || ok && n.createdNS == c.createdNS {
			n.leaving = true
			list = append(list, n)
		}
	}
	return list
}

// forgetUnusable is the reader's form of quarantine.
func (s *Store) forgetUnusable() {
	for _, n := range s.knownGuilty() {
		s.mu.Lock()
		s.ix.remove(n)
		s.mu.Unlock()
		s.verdicts.Poisoned++
	}
}

// loadJail lists the quarantine.
func (s *Store) loadJail() {
	notes := map[string]int64{}
	var list []jailed
	err := s.fs.ReadDir(s.dir.quarantine(), func(e vfs.Entry) error {
		name := path.Join(s.dir.quarantine(), e.Name)
		size := s.sizeOf(name)
		unix, ok := parseQuarantined(e.Name)
		switch {
		case vfs.IsTemp(e.Name) && e.Type.IsRegular():
			s.sweep(name)
		case !ok:
			s.addForeign(size)
		case path.Ext(e.Name) == ".json" && len(notes) < maxJailed:
			notes[e.Name] = size
		case path.Ext(e.Name) == segmentExt && len(list) < maxJailed:
			list = append(list, jailed{base: e.Name, unix: unix, bytes: size})
		default:
			s.sweep(name)
		}
		return nil
	})
	if ignoreMissing(err) != nil {
		s.opt.Log("kv cache quarantine cannot be read: %s", errnoText(err))
	}
	var bytes int64
	for i := range list {
		q := &list[i]
		q.bytes += notes[noteName(q.base)]
		delete(notes, noteName(q.base))
		bytes += q.bytes
	}
	sort.Slice(list, func(i, j int) bool { return list[i].unix < list[j].unix })
	s.mu.Lock()
	s.jailed, s.jailBytes = list, bytes
	s.mu.Unlock()
	for base := range notes { // their file is gone
		s.sweep(path.Join(s.dir.quarantine(), base))
	}
}

// countForeign takes the size of the file of tool calls, and of what is not ours: all of
// it counts, and stays.
func (s *Store) countForeign() {
	own := map[string]bool{"LOCK": true, "journal": true, "segments": true, "tmp": true, "inflight": true, "quarantine": true}
	err := s.fs.ReadDir(string(s.dir), func(e vfs.Entry) error {
		name := path.Join(string(s.dir), e.Name)
		switch {
		case own[e.Name]:
		case e.Name == callsName:
			size := s.sizeOf(name)
			s.mu.Lock()
			s.calls = min(size, maxBytes)
			s.mu.Unlock()
		case vfs.IsTemp(e.Name) && e.Type.IsRegular():
			s.sweep(name)
		default:
			s.addForeign(s.sizeOf(name))
		}
		return nil
	})
	if err != nil {
		s.opt.Log("kv cache folder cannot be listed: %s", errnoText(err))
	}
}

// sizeOf returns the bytes of a file, or of everything in a folder; 0 for what
// cannot be looked at.
func (s *Store) sizeOf(name string) int64 { return sizeOf(s.fs, name, maxDepth) }

func sizeOf(fsys vfs.FS, name string, depth int) int64 {
	looks := maxLooks
	return sizeWithin(fsys, name, depth, &looks)
}

var errEnough = errors.New("kvstore: looked at enough names")

func sizeWithin(fsys vfs.FS, name string, depth int, looks *int) int64 {
	fi, err := fsys.Lstat(name)
	if err != nil {
		return 0
	}
	if !fi.IsDir() {
		return fi.Size()
	}
	var sum int64
	if depth > 0 {
		_ = fsys.ReadDir(name, func(e vfs.Entry) error {
			if *looks--; *looks < 0 {
				return errEnough
			}
			sum = addBytes(sum, sizeWithin(fsys, path.Join(name, e.Name), depth-1, looks))
			return nil
		})
	}
	return sum
}

// maxBytes is more than anything under a folder can be. Sparse files may claim
// more; sums of it do not overflow.
const maxBytes = 1 << 60

func addBytes(a, b int64) int64 { return min(a+min(b, maxBytes), maxBytes) }

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
