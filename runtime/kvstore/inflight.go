package kvstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"path"
	"strconv"
	"sync"
	"time"

	"ds4/runtime/failpoint"
	"ds4/runtime/kvstore/journal"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

const (
	maxMarkerBytes = 1 << 20 // of one marker
	maxMarkers     = 4096    // looked at in one start; the rest is removed unread
	// maxMarkersBytes is what one start reads of them all, for the same reason.
	maxMarkersBytes = 16 << 20
)

// marker is the contents of an in-flight marker.
type marker struct {
	Chain  []string  `json:"chain"`
	Phase  string    `json:"phase"` // restore, or what the caller said last
	BootID string    `json:"boot_id"`
	Start  time.Time `json:"start"`
}

// Inflight is the marker of one restore. It exists from before the restore until
// the first work on the restored state has succeeded, so that a death in between
// is known to the next process. Exactly one of Done and Cancel ends it; further
// calls do nothing.
type Inflight struct {
	s     *Store
	name  string // "" if there is no file
	ids   []string
	start time.Time
	once  sync.Once
}

// BeginInflight writes the marker and syncs it. After an error the chain must
// not be restored: a death would not be remembered.
func (s *Store) BeginInflight(c Chain) (*Inflight, error) {
	in := &Inflight{s: s, ids: c.IDs, start: s.opt.Now()}
	s.mu.Lock()
	err := s.usable()
	readOnly := s.readOnly != ""
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	// A reader without the lock writes nothing. Its deaths are not remembered.
	if s.opt.Unsafe.NoInflight || readOnly || c.Empty() {
		return in, nil
	}
	in.name = path.Join(s.dir.inflight(), strconv.Itoa(s.pid)+"."+strconv.FormatUint(s.markCount.Add(1), 10))
	var result error
	if !s.keep(true, func() { result = s.writeMarker(in, "restore", true) }) {
		in.Cancel()
		return nil, fmt.Errorf("%w: in-flight marker", ErrBusy)
	}
	if result != nil {
		in.Cancel()
		return nil, fmt.Errorf("kvstore: in-flight marker: %w", result)
	}
	return in, nil
}

// PhaseFirstChunk says that the chain was read, and that the first work on it has
// begun.
const PhaseFirstChunk = "first-chunk"

// Phase notes how far the request got, for the log line of the next process. It
// does not wait. The marker that it replaces is on disk, so this one must be, too:
// a power cut may leave either, but not half of one.
func (in *Inflight) Phase(phase string) {
	if in.name != "" {
		in.s.keep(false, func() { _ = in.s.writeMarker(in, phase, true) })
	}
}

// Done removes the marker after success, and the strikes of the chain with it.
func (in *Inflight) Done() { in.end(true) }

// Cancel removes the marker and leaves strikes alone: cancellation and shutdown
// prove nothing.
func (in *Inflight) Cancel() { in.end(false) }

func (in *Inflight) end(good bool) {
	in.once.Do(func() {
		if good {
			in.s.absolve(in.ids)
		}
		if in.name != "" {
			in.s.keep(false, func() { in.s.removeMarker(in.name) })
		}
	})
}

// absolve forgets the strikes of segments that worked.
func (s *Store) absolve(ids []string) {
	s.mu.Lock()
	var recs []journal.Record
	for _, n := range s.nodesOf(ids) {
		if n.strikes > 0 && !n.withheld && !n.leaving {
			n.strikes = 0
			recs = append(recs, journal.Record{Kind: journal.Cleared, ID: n.id, TimeNS: s.opt.Now().UnixNano()})
		}
	}
	s.mu.Unlock()
	if len(recs) > 0 {
		s.keep(false, func() { s.note(true, recs...) })
	}
}

func (s *Store) writeMarker(in *Inflight, phase string, durable bool) error {
	s.mu.Lock()
	_, known := s.markers[in.name]
	s.markers[in.name] = struct{}{}
	s.mu.Unlock()
	if !known && phase != "restore" {
		return nil // ended in the meantime
	}
	if err := ptInflight.Hit(failpoint.Scope{Source: "disk", Entry: in.ids[len(in.ids)-1]}); err != nil {
		return err
	}
	data, err := json.Marshal(marker{Chain: in.ids, Phase: phase, BootID: s.opt.BootID, Start: in.start.UTC()})
	if err != nil {
		return err
	}
	err = s.writeAtomic(in.name, data, durable && s.durable())
	if isFull(err) {
		// A full disk must not make the cache useless: give something up for it.
		for _, n := range s.giveUpBeside(in.ids) {
			s.drop(n, "device-full")
		}
		err = s.writeAtomic(in.name, data, durable && s.durable())
	}
	return err
}

// giveUpBeside marks the least valuable segment that is not one of these, or of
// these if there is no other.
func (s *Store) giveUpBeside(ids []string) []*node {
	s.mu.Lock()
	defer s.mu.Unlock()
	nodes := s.pin(s.nodesOf(ids))
	list := s.choose(1)
	for _, n := range nodes {
		n.pins--
	}
	if len(list) == 0 {
		list = s.choose(1)
	}
	return list
}

// removeMarker unlinks a marker for good: one that came back after a power cut
// would send good segments to quarantine.
func (s *Store) removeMarker(name string) {
	s.mu.Lock()
	delete(s.markers, name)
	s.mu.Unlock()
	err := s.remove(name, "")
	if err == nil && s.durable() {
		err = s.fs.SyncDir(s.dir.inflight())
	}
	if err != nil {
		s.opt.Log("kv cache cannot remove marker %s: %s", path.Base(name), errnoText(err))
	}
}

func (s *Store) removeOwnMarkers() {
	s.mu.Lock()
	var names []string
	for name := range s.markers {
		names = append(names, name)
	}
	s.mu.Unlock()
	for _, name := range names {
		s.removeMarker(name)
	}
}

// applyMarkers turns the markers of dead processes into strikes. The lock is
// ours, so every marker but our own belongs to a dead one, whatever its process
// number says.
// It returns the segments that are poisoned now.
func (s *Store) applyMarkers() (poisoned []*node, err error) {
	var names []string
	err = s.fs.ReadDir(s.dir.inflight(), func(e vfs.Entry) error {
		name := path.Join(s.dir.inflight(), e.Name)
		switch {
		case e.Type.IsDir():
			s.addForeign(s.sizeOf(name))
		case s.isOwnMarker(name): // the folder was opened again under a restore
		case !e.Type.IsRegular() || vfs.IsTemp(e.Name) || len(names) >= maxMarkers:
			s.sweep(name)
		default:
			names = append(names, name)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var gone []uint64
	left := int64(maxMarkersBytes)
	for _, name := range names {
		if left -= s.sizeOf(name); left < 0 {
			s.sweep(name)
			continue
		}
		guilty, key := s.applyMarker(name)
		poisoned = append(poisoned, guilty...)
		if key != 0 {
			gone = append(gone, key)
		}
	}
	if len(names) > 0 && s.durable() {
		// As with our own markers: one that came back after a power cut would count
		// again, and perhaps against segments that were written since.
		if err := s.fs.SyncDir(s.dir.inflight()); err != nil {
			return poisoned, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range gone {
		delete(s.markKeys, key)
	}
	return poisoned, nil
}

func (s *Store) isOwnMarker(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, own := s.markers[name]
	return own
}

// applyMarker returns the segments that are poisoned by one marker, and the
// marker's key if it has counted and is gone now.
func (s *Store) applyMarker(name string) (poisoned []*node, gone uint64) {
	data, err := vfs.ReadFile(s.fs, name, maxMarkerBytes)
	var m marker
	if err != nil || json.Unmarshal(data, &m) != nil {
		s.sweep(name)
		return nil, 0
	}
	h := fnv.New64a()
	_, _ = h.Write(append(data, path.Base(name)...))
	key := max(h.Sum64(), 1)
	if _, done := s.markKeys[key]; done {
		if s.sweep(name) { // its strikes are in the journal: we died between the two
			return nil, key
		}
		return nil, 0
	}
	otherBoot := m.BootID != "" && s.opt.BootID != "" && m.BootID != s.opt.BootID
	s.mu.Lock()
	nodes := s.nodesOf(unique(m.Chain))
	if otherBoot {
		for _, n := range nodes {
			n.strikes = strikeLimit - 1 // a machine that went down counts double
		}
	}
	recs, poisoned := s.strike(nodes, key)
	s.markKeys[key] = struct{}{} // before the note, which may rewrite the journal
	s.mu.Unlock()
	s.note(true, recs...)
	s.opt.Log("kv cache strike segments=%d quarantined=%d why=%q", len(nodes), len(poisoned),
		fmt.Sprintf("a process died in phase %s of a restore, started %s, same boot %v", m.Phase, m.Start.Format(time.RFC3339), !otherBoot))
	if s.sweep(name) {
		return poisoned, key
	}
	return poisoned, 0
}

func unique(ids []string) []string {
	seen := map[string]bool{}
	var list []string
	for _, id := range ids {
		if _, err := segment.ParseID(id); err == nil && !seen[id] {
			seen[id] = true
			list = append(list, id)
		}
	}
	return list
}
