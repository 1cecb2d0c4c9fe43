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
// shorter prefix. What Save reported as stored and Flush waited for survives a
// power cut (Sync data). A segment whose restore killed the process twice is
// never tried a third time. Everything under the folder stays within the
// budget, except what is not ours to delete. After Restore returned an error
// the target was aborted and nothing writes to it any more.
//
// Not promised: that something is found again (the budget, the disk or a doubt
// may have dropped it), or that a second process on the same folder sees what
// the first writes. The second one is read-only.
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
//	func (s *Store) Pin(c Chain) (unpin func())              // not evicted until unpin: the chain of a waiting request
//	func (s *Store) BeginInflight(c Chain) (*Inflight, error) // before Restore: the marker that survives our death
//	func (s *Store) Restore(ctx context.Context, c Chain, begin func(to int) (Target, error)) (Restored, error)
//	func (s *Store) Save(ctx context.Context, seg *Segment) (id string, err error)
//	func (s *Store) Has(id string) bool                      // stored or queued: good as a Parent
//	func (s *Store) Flush(ctx context.Context) error         // until the queue is empty
//	func (s *Store) Withhold(ids []string, why string)       // probation: not offered, one strike, on disk
//	func (s *Store) Release(ids []string)                    // probation ended without a verdict: strike taken back
//	func (s *Store) Convict(ids []string, why string)        // guilty: last one quarantined, others keep their strike
//	func (s *Store) Strike(ids []string, why string)         // two strikes: quarantined
//	func (s *Store) Health() (ok bool, reason string)
//	func (s *Store) ReadOnly() (bool, string)
//	func (s *Store) Stats() Stats
//	func (s *Store) List() []Entry
//	func (s *Store) Clear() (Freed, error)
//
// Without a Store, on a folder: Inspect, VerifyDir, Purge.
package kvstore
