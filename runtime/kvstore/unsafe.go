package kvstore

import (
	"path"

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
	NoPin        bool // making room costs what a waiting request is about to restore
}

// writeInPlace is what the protocol of writeDurably is there to avoid.
func (s *Store) writeInPlace(e *segment.Encoded) error {
	name := s.dir.segment(e.ID)
	if err := s.openShard(path.Dir(name)); err != nil {
		return err
	}
	if err := s.writeFile(name, e); err != nil {
		_ = s.remove(name, e.ID.String())
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
