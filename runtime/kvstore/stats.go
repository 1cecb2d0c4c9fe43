package kvstore

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"time"
)

// counters only grow, except for the evictions' map.
type counters struct {
	lookups         int
	hits            int
	stored          int
	skipped         int
	storeFailures   int
	restoreFailures int
	abandoned       int
	missing         int
	corrupt         int
	convictions     int
	regained        int
	unlinkFailures  int
	journalFailures int
	bytesWritten    int64
	bytesRead       int64
	tokensStored    int64
	tokensRestored  int64
	writeTime       time.Duration
	readTime        time.Duration
	stall           time.Duration
	evictions       map[string]int
}

func (c *counters) evicted(reason string) {
	if c.evictions == nil {
		c.evictions = map[string]int{}
	}
	c.evictions[reason]++
}

// Stats is a snapshot for /metrics. Counters start at 0 with the process.
type Stats struct {
	// What is on disk now.
	Segments        int
	Withheld        int
	SegmentBytes    int64
	QuarantineFiles int
	QuarantineBytes int64
	ForeignBytes    int64
	CallBytes       int64 // of the file of tool calls
	Copies          int   // temporary files that stand by, of segments on probation
	TempBytes       int64 // these, and segments being written
	UsedBytes       int64 // everything under the folder, as it counts for the budget
	BudgetBytes     int64
	Queued          int // segments that wait for the writer or are being written

	Recovery Verdicts // of this process's start

	Lookups, Hits                     int
	Stored, StoreSkipped, StoreFailed int
	RestoreFailed, RestoreAbandoned   int
	Missing, Corrupt, Convicted       int
	UnlinkFailed, JournalFailed       int
	Regained                          int // times that a store that was off or read-only could be used again
	HungReads                         int // restores that were abandoned and whose reads have not come back
	BytesWritten, BytesRead           int64
	TokensStored, TokensRestored      int64
	WriteTime                         time.Duration
	RestoreTime                       time.Duration // of successful restores
	SaveStall                         time.Duration // that Save waited for a place in the queue
	Evictions                         map[string]int
	Healthy, ReadOnly                 bool
	HealthReason                      string
}

// Queued is how many segments wait for the writer or are being written.
func (s *Store) Queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending)
}

// Stats returns the present numbers.
func (s *Store) Stats() Stats {
	healthy, reason := s.Health()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.count
	st := Stats{
		Segments: len(s.ix.nodes), SegmentBytes: s.ix.bytes, QuarantineFiles: len(s.jailed), QuarantineBytes: s.jailBytes,
		ForeignBytes: s.foreign, CallBytes: s.calls, TempBytes: s.tmpBytes, UsedBytes: s.used(), BudgetBytes: s.opt.BudgetBytes, Queued: len(s.pending),
		Lookups: c.lookups, Hits: c.hits, Stored: c.stored, StoreSkipped: c.skipped, StoreFailed: c.storeFailures,
		RestoreFailed: c.restoreFailures, RestoreAbandoned: c.abandoned, Missing: c.missing, Corrupt: c.corrupt,
		Convicted: c.convictions, UnlinkFailed: c.unlinkFailures, JournalFailed: c.journalFailures,
		Regained: c.regained, HungReads: int(s.stuck.Load()), BytesWritten: c.bytesWritten, BytesRead: c.bytesRead,
		TokensStored: c.tokensStored, TokensRestored: c.tokensRestored, WriteTime: c.writeTime, RestoreTime: c.readTime,
		SaveStall: c.stall, Evictions: map[string]int{}, Healthy: healthy, ReadOnly: s.readOnly != "", HealthReason: reason,
	}
	if s.ready {
		st.Recovery = s.verdicts
	}
	for k, v := range c.evictions {
		st.Evictions[k] = v
	}
	for _, n := range s.ix.nodes {
		if n.withheld {
			st.Withheld++
		}
		if n.standby != nil {
			st.Copies++
		}
	}
	return st
}

// States of an Entry.
const (
	StateOK        = "ok"
	StateProbation = "probation" // withheld until a verdict
	StateOrphan    = "orphan"    // its parent is gone; found again when that is written again
	StateLeaving   = "leaving"   // being removed
)

// Entry describes one segment, without its text.
type Entry struct {
	ID       string    `json:"id"`
	Parent   string    `json:"parent,omitempty"`
	From     int       `json:"from"`
	To       int       `json:"to"`
	Text     int       `json:"text_bytes"`
	Bytes    int64     `json:"bytes"`
	Hits     float64   `json:"hits"` // decayed
	Created  time.Time `json:"created"`
	LastUsed time.Time `json:"last_used"`
	Strikes  int       `json:"strikes"`
	State    string    `json:"state"`
}

// maxJailShown bounds what Quarantined reads.
const maxJailShown = 256

// Quarantined lists the segments that are not trusted any more, the latest first, at
// most maxJailShown of them. It reads the notes beside them, which the store does not
// keep in memory.
func (s *Store) Quarantined(ctx context.Context) ([]JailInfo, error) {
	s.mu.Lock()
	off := s.disabled != ""
	s.mu.Unlock()
	if off {
		return nil, nil // there may be no folder at all
	}
	look := Survey{fs: s.fs}
	if err := look.walkJail(ctx, s.dir); err != nil {
		return nil, fmt.Errorf("kvstore: quarantine: %w", err)
	}
	slices.Reverse(look.Quarantined)
	return look.Quarantined[:min(len(look.Quarantined), maxJailShown)], nil
}

// List returns the segments, parents before children, by position then id.
func (s *Store) List() []Entry {
	now := s.opt.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Entry, 0, len(s.ix.nodes))
	for _, n := range s.ix.nodes {
		e := Entry{ID: n.id.String(), From: n.from, To: n.to, Text: n.textLen, Bytes: n.bytes, Hits: n.decayedHits(now),
			Created: time.Unix(0, n.createdNS), LastUsed: n.lastUsed, Strikes: n.strikes, State: StateOK}
		if !n.parent.IsZero() {
			e.Parent = n.parent.String()
		}
		switch {
		case n.leaving:
			e.State = StateLeaving
		case n.withheld:
			e.State = StateProbation
		case s.ix.isOrphan(n):
			e.State = StateOrphan
		}
		list = append(list, e)
	}
	sort.Slice(list, func(i, j int) bool {
		if list[i].From != list[j].From {
			return list[i].From < list[j].From
		}
		return list[i].ID < list[j].ID
	})
	return list
}
