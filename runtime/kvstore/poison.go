package kvstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"ds4/runtime/kvstore/journal"
	"ds4/runtime/kvstore/segment"
)

// strikeLimit is how many strikes send a segment to quarantine.
const strikeLimit = 2

// jailed is a file of the quarantine.
type jailed struct {
	base  string
	unix  int64
	bytes int64 // of the file and its note
}

// note is the .json beside a quarantined file.
type note struct {
	Why      string    `json:"why"`
	Error    string    `json:"error"`
	At       time.Time `json:"at"`
	Identity string    `json:"identity"`
	Strikes  int       `json:"strikes"`
	From     int       `json:"from"`
	To       int       `json:"to"`
}

// Withhold puts a chain on probation: the device failed on state that came from
// it. Its segments are offered to nobody until Release or Convict. Each gets a
// strike on disk, so that a process that dies before the verdict remembers.
func (s *Store) Withhold(ids []string, why string) {
	if s.opt.Unsafe.NoConvict {
		return
	}
	s.mu.Lock()
	var recs []journal.Record
	var list []*node
	for _, n := range s.nodesOf(ids) {
		if !n.withheld && !n.leaving {
			n.withheld = true
			n.strikes++
			recs = append(recs, s.strikeRecord(n, 0))
			list = append(list, n)
		}
	}
	s.mu.Unlock()
	if len(list) == 0 {
		return
	}
	last := list[len(list)-1]
	s.opt.Log("kv cache withheld key=%v tokens=%d segments=%d why=%q", last.id, last.to, len(list), why)
	s.sentence(recs, nil, "", why)
}

// Release ends a probation without a verdict: the device was the suspect. The
// strike of Withhold is taken back.
func (s *Store) Release(ids []string) {
	if s.opt.Unsafe.NoConvict {
		return
	}
	s.mu.Lock()
	var recs []journal.Record
	var freed []*node
	for _, n := range s.nodesOf(ids) {
		if n.withheld {
			n.withheld = false
			n.strikes = max(n.strikes-1, 0)
			recs = append(recs, s.strikeRecord(n, 0))
			freed = append(freed, n)
		}
	}
	s.mu.Unlock()
	if len(recs) > 0 {
		s.opt.Log("kv cache released segments=%d", len(recs))
		s.sentence(recs, nil, "", "")
		s.keep(false, func() { s.dismiss(freed...) })
	}
}

// Convict ends a probation with a verdict: a cold prefill of the same prompt
// worked, so the chain is guilty. Its last segment goes to quarantine; the others
// keep the strike of Withhold (or get one now), and go too if it is their second.
func (s *Store) Convict(ids []string, why string) {
	if s.opt.Unsafe.NoConvict || len(ids) == 0 {
		return
	}
	s.mu.Lock()
	var recs []journal.Record
	var guilty, others []*node
	for _, n := range s.nodesOf(ids) {
		if n.leaving {
			continue
		}
		if !n.withheld {
			n.strikes++
		}
		n.withheld = false
		recs = append(recs, s.strikeRecord(n, 0))
		if n.id.String() == ids[len(ids)-1] || n.strikes >= strikeLimit {
			recs = append(recs, s.convict(n))
			guilty = append(guilty, n)
		} else {
			others = append(others, n)
		}
	}
	s.count.convictions += len(guilty)
	s.mu.Unlock()
	for _, n := range guilty {
		s.opt.Log("kv cache convicted key=%v tokens=%d strikes=%d why=%q", n.id, n.to, n.strikes, why)
	}
	s.sentence(recs, guilty, "convicted", why)
	s.keep(false, func() { s.dismiss(others...) })
}

// sentence brings strikes and verdicts to disk. A process that may not write
// just forgets the guilty.
func (s *Store) sentence(recs []journal.Record, guilty []*node, word, why string) {
	s.mu.Lock()
	readOnly := s.readOnly != ""
	if readOnly {
		for _, n := range guilty {
			s.ix.remove(n)
		}
	}
	s.mu.Unlock()
	if readOnly || len(recs) == 0 {
		return
	}
	s.keep(true, func() {
		s.note(true, recs...)
		for _, n := range guilty {
			s.imprison(n, word, why)
		}
	})
}

// convict marks a node and remembers the conviction. The caller holds mu.
func (s *Store) convict(n *node) journal.Record {
	n.leaving = true
	c := conviction{s.convicted[n.id].count + 1, n.createdNS}
	s.remember(n.id, c)
	return journal.Record{Kind: journal.Convicted, ID: n.id, Count: uint32(c.count), TimeNS: c.createdNS}
}

// remember keeps a conviction, within bounds. The caller holds mu.
func (s *Store) remember(id segment.ID, c conviction) {
	if _, known := s.convicted[id]; !known && len(s.convicted) >= maxConvicted {
		for other := range s.convicted { // any: what counts is the bound
			delete(s.convicted, other)
			break
		}
	}
	s.convicted[id] = c
}

// Strike gives each segment a strike; the second sends it to quarantine.
func (s *Store) Strike(ids []string, why string) {
	if s.opt.Unsafe.NoConvict {
		return
	}
	s.mu.Lock()
	recs, poisoned := s.strike(s.nodesOf(ids), 0)
	s.mu.Unlock()
	if len(recs) == 0 {
		return
	}
	s.opt.Log("kv cache strike key=%s segments=%d quarantined=%d why=%q", ids[len(ids)-1], len(recs), len(poisoned), why)
	s.sentence(recs, poisoned, "poisoned", why)
}

// strike adds a strike to each node and returns what the journal must know and
// which nodes have too many now. The caller holds mu.
func (s *Store) strike(nodes []*node, key uint64) (recs []journal.Record, poisoned []*node) {
	for _, n := range nodes {
		if n.leaving {
			continue
		}
		n.strikes++
		recs = append(recs, s.strikeRecord(n, key))
		if n.strikes >= strikeLimit {
			recs = append(recs, s.convict(n))
			poisoned = append(poisoned, n)
		}
	}
	return recs, poisoned
}

// strikeRecord names the very file: a later one of the same segment is innocent.
func (s *Store) strikeRecord(n *node, key uint64) journal.Record {
	return journal.Record{Kind: journal.Strike, ID: n.id, Count: uint32(n.strikes), TimeNS: n.createdNS, Key: key}
}

// condemn quarantines a segment whose bytes are bad.
func (s *Store) condemn(n *node, why string, cause error) {
	s.mu.Lock()
	if n.leaving || s.ix.nodes[n.id] != n {
		s.mu.Unlock()
		return
	}
	n.leaving = true
	s.count.corrupt++
	readOnly := s.readOnly != ""
	if readOnly {
		s.ix.remove(n) // whoever may write will see for itself
	}
	s.mu.Unlock()
	if !readOnly {
		s.keep(true, func() { s.imprison(n, why, cause.Error()) })
	}
}

// imprison moves the file of a node that is leaving, and forgets the node. A copy
// that stands by takes its place. Only the keeper and recovery call it.
func (s *Store) imprison(n *node, why, cause string) {
	if s.opt.Unsafe.NoQuarantine {
		s.mu.Lock()
		n.leaving = false
		s.mu.Unlock()
		return
	}
	bytes, err := s.quarantine(n.id, n.bytes, why, note{Why: why, Error: cause, Strikes: n.strikes, From: n.from, To: n.to})
	fresh := s.promote(n)
	s.mu.Lock()
	s.ix.remove(n)
	switch {
	case err == nil:
		s.jailBytes += bytes
	case fresh == nil:
		s.foreign += n.bytes
	}
	if fresh != nil {
		s.ix.add(fresh)
	}
	s.mu.Unlock()
	if err != nil {
		s.opt.Log("kv cache cannot quarantine %v: %s; ignored from now on", n.id, errnoText(err))
		return
	}
	s.opt.Log("kv cache quarantined key=%v why=%s tokens=%d size=%.2f MiB: %s", n.id, why, n.to, inMiB(n.bytes), oneLine(cause))
	s.trimJail()
}

// quarantine moves a segment's file out of the way with a note beside it, or
// removes it if nothing is kept. It returns the bytes that the quarantine grew
// by.
func (s *Store) quarantine(id segment.ID, size int64, why string, n note) (int64, error) {
	name := s.dir.segment(id)
	if s.opt.QuarantineBytes == 0 {
		return 0, s.remove(name, id.String())
	}
	now := s.opt.Now()
	to := s.freeCell(id, now, why)
	err := ptQuarantine.Hit(s.scope(id, 0))
	if err == nil {
		err = s.fs.Rename(name, to)
	}
	if err != nil {
		if err2 := s.remove(name, id.String()); err2 != nil {
			return 0, fmt.Errorf("%w; %w", err, err2)
		}
		return 0, nil
	}
	if s.durable() && !s.scanning {
		// Best effort: a file that comes back after a power cut is judged again.
		_ = s.fs.SyncDir(path.Dir(name))
		_ = s.fs.SyncDir(s.dir.quarantine())
	}
	if real := s.sizeOf(to); real > 0 {
		size = real // which may not be what the index thinks: the file is damaged
	}
	n.At, n.Identity = now.UTC(), fmt.Sprintf("%x", s.opt.Identity)
	text, _ := json.MarshalIndent(n, "", "  ")
	text = append(text, '\n')
	if s.roomForNote(int64(len(text))) && s.writeAtomic(noteName(to), text, false) == nil {
		size += int64(len(text))
	}
	s.mu.Lock()
	s.jailed = append(s.jailed, jailed{path.Base(to), now.Unix(), size})
	s.mu.Unlock()
	return size, nil
}

// freeCell returns a name in the quarantine that no file has: one that is replaced
// would be counted twice, and renaming onto another name of the same file, which
// a power cut may leave, would not even move it.
func (s *Store) freeCell(id segment.ID, at time.Time, why string) string {
	const tries = 1000 // of one segment in as many seconds
	name := s.dir.quarantined(id, at, why)
	for range tries {
		if _, err := s.fs.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			break
		}
		at = at.Add(time.Second)
		name = s.dir.quarantined(id, at, why)
	}
	return name
}

func noteName(file string) string { return strings.TrimSuffix(file, segmentExt) + ".json" }

// roomForNote reports whether a note of so many bytes breaks no budget, if need be
// without the oldest files of the quarantine. Moving a file costs nothing, its note
// does, and where nothing can be removed the budget is worth more than the note.
// Recovery does not know yet what there is.
func (s *Store) roomForNote(bytes int64) bool {
	for {
		s.mu.Lock()
		fits := !s.ready || s.used()+bytes <= s.opt.BudgetBytes
		s.mu.Unlock()
		if fits || !s.releaseOldest() {
			return fits
		}
	}
}

// trimJail drops the oldest files of the quarantine until it is within its budget
// and does not break that of the folder: a file that moved there has got a note.
// Recovery, which does not know yet what there is, sees to the folder at its end.
func (s *Store) trimJail() {
	for {
		s.mu.Lock()
		fits := s.jailBytes <= s.opt.QuarantineBytes && (!s.ready || s.used() <= s.opt.BudgetBytes)
		s.mu.Unlock()
		if fits || !s.releaseOldest() {
			return
		}
	}
}

// releaseOldest removes the oldest file of the quarantine; false if there is
// none.
func (s *Store) releaseOldest() bool {
	s.mu.Lock()
	if len(s.jailed) == 0 {
		s.mu.Unlock()
		return false
	}
	oldest := s.jailed[0]
	s.jailed = s.jailed[1:]
	s.jailBytes -= oldest.bytes
	s.mu.Unlock()
	if err := s.removeJailed(oldest); err != nil {
		s.opt.Log("kv cache cannot remove %s: %s; ignored from now on", oldest.base, errnoText(err))
	}
	return true
}

// takeJail empties the list of the quarantine.
func (s *Store) takeJail() []jailed {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.jailed
	s.jailed, s.jailBytes = nil, 0
	return list
}

func (s *Store) removeJailed(q jailed) error {
	name := path.Join(s.dir.quarantine(), q.base)
	if err := s.remove(noteName(name), ""); err != nil {
		s.addForeign(q.bytes)
		return err
	}
	err := s.remove(name, "")
	if err != nil {
		s.addForeign(q.bytes)
	}
	return err
}

func (s *Store) addForeign(n int64) {
	s.mu.Lock()
	s.foreign = addBytes(s.foreign, n)
	s.mu.Unlock()
}

// oneLine makes an error fit for a log line.
func oneLine(text string) string {
	const limit = 300
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > limit {
		text = text[:limit] + "..."
	}
	return text
}
