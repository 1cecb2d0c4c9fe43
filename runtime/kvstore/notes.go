package kvstore

import (
	"sort"

	"ds4/runtime/failpoint"
	"ds4/runtime/kvstore/journal"
)

// note appends to the journal and rewrites it when it has grown to four times
// what is needed. Errors cost a line: the memory of this process goes on. Only
// the keeper and recovery call it.
func (s *Store) note(sync bool, recs ...journal.Record) {
	if s.journal == nil || len(recs) == 0 {
		return
	}
	point := ptJournal
	if recs[0].Kind == journal.Touched {
		point = ptTouch
	}
	err := point.Hit(s.scope(recs[0].ID, 0))
	if err == nil && !s.journal.NeedsRewrite() {
		err = s.journal.Append(sync && s.durable(), recs...)
	}
	switch {
	case err != nil:
		s.journalFailed(err)
	case s.journal.NeedsRewrite() || s.journal.Records() > s.journalMost:
		s.rewriteJournal()
	}
	s.noteJournalBytes()
}

const (
	journalSlack = 4    // rewritten when so many times larger than needed
	journalMin   = 1024 // but not below so many records
)

// rewriteJournal replaces the journal by what is known now.
func (s *Store) rewriteJournal() {
	if s.journal == nil {
		return
	}
	s.mu.Lock()
	recs := s.journalRecords()
	s.mu.Unlock()
	s.journalMost = journalSlack*len(recs) + journalMin
	err := ptJournal.Hit(failpoint.Scope{Source: "disk"})
	if err == nil {
		err = s.journal.Rewrite(s.durable(), recs)
	}
	if err != nil {
		s.journalFailed(err)
	}
	s.noteJournalBytes()
}

// journalRecords returns what a fresh journal holds. The caller holds mu.
func (s *Store) journalRecords() []journal.Record {
	var recs []journal.Record
	for _, n := range s.ix.nodes {
		if n.leaving {
			continue
		}
		if n.hits > 0 {
			recs = append(recs, touchRecord(n))
		}
		if n.strikes > 0 {
			recs = append(recs, s.strikeRecord(n, 0))
		}
	}
	for id, c := range s.convicted {
		recs = append(recs, journal.Record{Kind: journal.Convicted, ID: id, Count: uint32(c.count), TimeNS: c.createdNS})
	}
	for key := range s.markKeys {
		recs = append(recs, journal.Record{Kind: journal.Strike, Key: key})
	}
	sort.Slice(recs, func(i, j int) bool { return string(recs[i].ID[:]) < string(recs[j].ID[:]) })
	return recs
}

func touchRecord(n *node) journal.Record {
	return journal.Record{Kind: journal.Touched, ID: n.id, Count: uint32(min(n.hits, 4e6) * 1000), TimeNS: n.lastUsed.UnixNano()}
}

func (s *Store) journalFailed(err error) {
	s.countLeft(err)
	s.mu.Lock()
	s.count.journalFailures++
	first := s.count.journalFailures == 1
	s.mu.Unlock()
	if first {
		s.opt.Log("kv cache journal: %s; statistics and strikes live in memory only", errnoText(err))
	}
}

func (s *Store) noteJournalBytes() {
	n := s.journal.Bytes()
	s.mu.Lock()
	s.journalBytes = n
	s.mu.Unlock()
}
