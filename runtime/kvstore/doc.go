// Package kvstore keeps the state of conversations on disk, so that a prefill
// survives the process.
//
// The state of a conversation is a chain of immutable, content-addressed segment
// files (package segment), found again by the text that they cover. A Store
// works on one folder. Segments are written by one background writer; Lookup
// works in memory; Restore reads with several readers, verifies while it reads,
// and brings back the longest good prefix.
//
// Promises. A damaged, torn, foreign or stale file never reaches a session: it
// is refused, and the chain before it is used. A failing disk never fails a
// request: writes are dropped with one line and retried later, reads end in a
// shorter prefix. What Save took, Flush waited for and Has still knows survives a
// power cut (Sync data), and so do strikes and verdicts; what is given up after
// that is named in a log line, with its reason. A segment whose restore killed the
// process twice is never tried a third time. Everything under the folder counts
// for the budget, and nothing is written that would exceed it: what is not ours,
// and what cannot be removed, leaves less room until the next start. After Restore
// returned an error the target was aborted and nothing writes to it any more. A
// clock that jumps makes nothing wrong and no pause longer.
//
// A start may find anything under the folder: links, devices, FIFOs, garbage in
// the place of every file, hundreds of thousands of names. It follows no link, waits
// for nothing, and holds less than 64 MiB for all of it; what is more than its
// bounds (2^18 segments, 1,000 damaged files, 2^14 files of the quarantine, 4,096
// markers) is ignored if it may be good and removed if it is not. A segment that
// cannot be read is left alone, and what continues it stays.
//
// Not promised: that something is found again (the budget, the disk or a doubt
// may have dropped it), that hits are counted exactly, that SyncNone leaves anything
// after a power cut but what is intact, or that a second process on the same
// folder sees what the first writes. The second one is read-only until the first
// has ended. A folder that cannot be used, or not be written, is tried again.
//
// Lookup takes time in proportion to the prompt and to the number of segments that
// could follow what matches, whatever their lengths and whoever chose them. A
// start reads header, table and footer of each file and allocates nothing for
// its contents.
//
// Concurrency: all methods may be called from any goroutine.
//
//	func Open(opt Options) (*Store, error)                   // recovers first; an error only for bad options
//	func (s *Store) Close(ctx context.Context) error         // writes what is queued, within ctx
//	func (s *Store) Lookup(text []byte) Chain                // longest offered prefix of a prompt's cache text
//	func (s *Store) Beyond(after string, from int, text []byte) Chain // the same, from a segment on
//	func (s *Store) Pin(c Chain) (unpin func())              // not evicted until unpin: the chain of a waiting request
//	func (s *Store) BeginInflight(c Chain) (*Inflight, error) // before Restore: the marker that survives our death
//	func (s *Store) Restore(ctx context.Context, c Chain, begin func(to int) (Target, error)) (Restored, error)
//	func (s *Store) Save(ctx context.Context, seg *Segment) (id string, err error) // queues; the disk may still fail
//	func (s *Store) Has(id string) bool                      // stored or queued: good as a Parent
//	func (s *Store) Queued() int                             // segments that wait for the writer
//	func (s *Store) Flush(ctx context.Context) error         // until the queue is empty
//	func (s *Store) Withhold(ids []string, why string)       // probation: not offered, one strike, on disk
//	func (s *Store) Release(ids []string)                    // probation ended without a verdict: strike taken back
//	func (s *Store) Convict(ids []string, why string)        // guilty: last one quarantined, others keep their strike
//	func (s *Store) Strike(ids []string, why string)         // two strikes: quarantined
//	func (s *Store) Health() (ok bool, reason string)
//	func (s *Store) ReadOnly() (bool, string)
//	func (s *Store) Stats() Stats
//	func (s *Store) List() []Entry
//	func (s *Store) Quarantined(ctx context.Context) ([]JailInfo, error)
//	func (s *Store) Clear() (Freed, error)
//	func (s *Store) Purge(ctx context.Context, sel Selection) (PurgeReport, error)
//	func (s *Store) Readmit(name string) (FileRef, error)    // a quarantined segment, after a full check
//	func (s *Store) Announce(url string)                     // where tools find this process
//	func (s *Store) HoldingKey() string                      // in the lock file while it is ours
//
// For the file of tool calls, which is another package's: CallsFile, Owned, OnRegained,
// CountCalls.
//
// Without a Store, on a folder: LookAt, FindID, DumpFile, WhoHas, Purge, Readmit.
package kvstore
