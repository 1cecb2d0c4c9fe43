package kvstore

import (
	"path"
	"time"

	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// Unsafe takes safeguards away, one each. It is for the recovery suite alone,
// which has to show that its scenarios fail without them.
type Unsafe struct {
	NoChecksum   bool // checksums and the text's hash are not compared
	NoInflight   bool // no marker before a restore, so deaths in it are forgotten
	NoRename     bool // segments are written straight under their final name
	NoConvict    bool // probation and conviction do nothing
	NoSync       bool // nothing is made durable, whatever Sync says
	NoQuarantine bool // bad segments stay where they are, on offer
	NoSweep      bool // what nobody needs any more stays: temporary files of the dead, orphans, stale segments
	NoBudget     bool // of the bytes under the folder only those of good segments count
	NoBackoff    bool // every save tries a disk that has just failed
	TouchInPlace bool // a hit writes the segment again, under its name
	ConsumeOnHit bool // a hit removes the last segment of its chain
	TrustLength  bool // start-up allocates as much as a file says that it is long
	WipeAtStart  bool // nothing that is found at start is good enough
	TrustClock   bool // a segment from the future, or older than a month, is stale
	NoTrim       bool // start does not evict down to the budget
	DropOrphans  bool // start removes what a missing segment has cut off
	NoPin        bool // making room costs what a waiting request is about to restore
	StoreTwice   bool // a segment that is stored is written again
	EvictOldest  bool // the oldest segment goes first, also one that others continue or that somebody wants
	ShareBuffers bool // a segment's rows are put where those of the one before are, written or not
	NoFrontier   bool // a restore leaves out the state of unfinished windows
	NoReopen     bool // a folder that went away is not noticed
	NoShrink     bool // a full disk costs what is new, not what is old
	LeakFiles    bool // what was restored stays open
	WaitForDisk  bool // Save returns when the segment is written
}

// tooOld says of a segment that is good that it is not, for its age.
func (s *Store) tooOld(createdNS int64) bool {
	const month = 30 * 24 * time.Hour
	age := s.opt.Now().Sub(time.Unix(0, createdNS))
	return s.opt.Unsafe.WipeAtStart || s.opt.Unsafe.TrustClock && (age < 0 || age > month)
}

// chooseOldest is what choose is there to avoid. The caller holds mu.
func (s *Store) chooseOldest(free int64) []*node {
	var list []*node
	for free > 0 {
		var oldest *node
		for _, n := range s.ix.nodes {
			if !n.leaving && (oldest == nil || n.createdNS < oldest.createdNS) {
				oldest = n
			}
		}
		if oldest == nil {
			break
		}
		oldest.leaving = true
		list = append(list, oldest)
		free -= oldest.bytes
	}
	return list
}

// shareBuffers gives a segment the memory of the one that was saved before.
func (s *Store) shareBuffers(seg *segment.Segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.lastSaved; last != nil {
		for k, rows := range [][][]byte{seg.Raw, seg.Comp, seg.Index, seg.Frontier} {
			old := [][][]byte{last.Raw, last.Comp, last.Index, last.Frontier}[k]
			for i := range rows {
				if len(rows[i]) == len(old[i]) {
					copy(old[i], rows[i])
					rows[i] = old[i]
				}
			}
		}
	}
	s.lastSaved = seg
}

// keepOpen holds on to a file that has been read.
func (s *Store) keepOpen(f vfs.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaked = append(s.leaked, f)
}

// UnsafeOf returns the switches whose words are set.
func UnsafeOf(set func(word string) bool) Unsafe {
	return Unsafe{
		NoChecksum: set("no-checksum"), NoInflight: set("no-inflight"), NoRename: set("no-rename"), NoConvict: set("no-convict"),
		NoSync: set("no-fsync"), NoQuarantine: set("no-quarantine"), NoSweep: set("no-sweep"), NoBudget: set("no-budget"),
		NoBackoff: set("no-backoff"), TouchInPlace: set("touch-in-place"), ConsumeOnHit: set("consume-on-hit"),
		TrustLength: set("trust-length"), WipeAtStart: set("wipe-at-start"), TrustClock: set("trust-clock"), NoTrim: set("no-trim"), DropOrphans: set("drop-orphans"), NoPin: set("no-pin"),
		StoreTwice: set("store-twice"), EvictOldest: set("evict-oldest"), ShareBuffers: set("share-buffers"), NoFrontier: set("no-frontier"),
		NoReopen: set("no-reopen"), NoShrink: set("no-shrink"), LeakFiles: set("leak-files"), WaitForDisk: set("wait-for-disk"),
	}
}

// writeInPlace is what the protocol of writeDurably is there to avoid.
func (s *Store) writeInPlace(e *segment.Encoded) error {
	name := s.dir.segment(e.ID)
	if err := s.openShard(path.Dir(name)); err != nil {
		return err
	}
	if err := s.writeFile(name, e); err != nil {
		s.discard(name, e.ID.String())
		return err
	}
	return s.syncShard(path.Dir(name), e.ID)
}

// touchInPlace is what the journal is there to avoid: for the sake of a use count
// a published file is not whole for a moment.
func (s *Store) touchInPlace(id segment.ID) {
	name := s.dir.segment(id)
	data, err := vfs.ReadFile(s.fs, name, segment.MaxFileBytes)
	if err != nil || s.fs.Remove(name) != nil {
		return
	}
	f, err := s.fs.Create(name)
	if err != nil {
		return
	}
	defer f.Close()
	half := len(data) / 2
	if _, err := f.Write(data[:half]); err == nil && ptTouch.Hit(s.scope(id, int64(half))) == nil {
		_, _ = f.Write(data[half:])
	}
}
