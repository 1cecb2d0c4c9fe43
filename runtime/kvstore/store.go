package kvstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"ds4/runtime/kvstore/journal"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// Defaults and limits.
const (
	DefaultBudgetBytes    = 4096 * mib
	DefaultMinTokens      = 512
	DefaultRecoverTimeout = 30 * time.Second
	DefaultSaveTimeout    = 10 * time.Second
	DefaultWarnEvery      = time.Minute
	DefaultLockGrace      = 50 * time.Millisecond
	DefaultRetryAfter     = time.Second

	queueLength   = 2               // segments that wait for the writer
	keeperLength  = 1024            // notes that wait for the keeper
	keeperWait    = 2 * time.Second // longest that a request waits for a note to reach the disk
	maxNodes      = 1 << 18         // segments in the index, at 200 bytes each; more are ignored
	maxConvicted  = 1 << 16         // convictions that are remembered
	maxStuckReads = 32              // abandoned reads; with more, the disk is given up
)

// Store is the disk cache in one folder.
type Store struct {
	opt  Options
	fs   vfs.FS
	dir  folder
	pid  int
	lock vfs.Locker // nil if read-only or unavailable; changes under mu

	writing sync.Mutex // held while a segment is written, and while the folder is opened again

	queue      chan *job     // to the writer
	notes      chan func()   // to the keeper
	quit       chan struct{} // closed by Close
	writerDone chan struct{}
	keeperDone chan struct{}
	recovered  chan struct{} // closed when recovery has ended
	saves      sync.WaitGroup
	abort      atomic.Bool  // Close ran out of time: the writer drops what it has
	stuck      atomic.Int64 // reads that a restore no longer waits for
	tempCount  atomic.Uint64
	markCount  atomic.Uint64

	// The keeper's own, after recovery.
	journal     *journal.Writer
	journalMost int // records beyond which the journal is rewritten
	keeperEnds  bool

	// Recovery's own.
	scanning bool
	isolated int // damaged files so far
	unswept  int // files that could not be removed so far

	mu        sync.Mutex
	ready     bool
	closed    bool
	disabled  string // why nothing works
	readOnly  string // why nothing is written
	holder    Holder // what the lock file says of us; zero if it is not ours
	ix        *index
	pending   map[segment.ID]*job // queued or being written
	convicted map[segment.ID]conviction
	jailed    []jailed            // the quarantine, oldest first
	markers   map[string]struct{} // our in-flight markers, by name
	markKeys  map[uint64]struct{} // markers whose strikes are in the journal
	synced    map[string]bool     // shard folders whose names are durable; guarded by writing
	foreign   int64               // bytes under the folder that are not ours, or could not be removed
	calls     int64               // bytes of the file of tool calls
	tmpBytes  int64
	jailBytes int64
	// Files that are there whatever is evicted.
	journalBytes int64
	backoff      backoff
	verdicts     Verdicts
	count        counters
	lastSaved    *segment.Segment // for Unsafe.ShareBuffers
	leaked       []vfs.File       // for Unsafe.LeakFiles
	tellRegained func()           // of OnRegained
}

// conviction is what the journal knows about a guilty segment.
type conviction struct {
	count     int
	createdNS int64 // of the guilty file: tells it from a later one of the same name
}

// backoff is the pause after a failed write.
type backoff struct {
	until  time.Time
	delay  time.Duration
	reason string // of the last failure; empty after a success
}

// holds reports whether the pause is not over. A clock that was set back does not
// make it longer.
func (b backoff) holds(now time.Time) bool {
	left := b.until.Sub(now)
	return left > 0 && left <= b.delay
}

// Open uses the folder and recovers what is in it. The only errors are those of
// the options: a folder that cannot be used, or that another process holds,
// gives a Store that works as far as it can and says so in Health. Open returns
// when recovery ends or after RecoverTimeout; until recovery has ended, nothing
// is found and nothing is stored.
func Open(opt Options) (*Store, error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	s := &Store{
		opt: opt, fs: opt.FS, dir: folder(opt.Dir), pid: os.Getpid(),
		queue: make(chan *job, queueLength), notes: make(chan func(), keeperLength), quit: make(chan struct{}),
		writerDone: make(chan struct{}), keeperDone: make(chan struct{}), recovered: make(chan struct{}),
		ix: newIndex(), pending: map[segment.ID]*job{}, convicted: map[segment.ID]conviction{},
		markers: map[string]struct{}{}, markKeys: map[uint64]struct{}{}, synced: map[string]bool{},
	}
	go func() {
		s.recover()
		close(s.recovered)
		go s.writer()
		go s.keeper()
	}()
	t := time.NewTimer(opt.RecoverTimeout)
	defer t.Stop()
	select {
	case <-s.recovered:
	case <-t.C:
		opt.Log("kv recovery goes on behind the scenes after %v; the cache is not used until it ends", opt.RecoverTimeout)
	}
	return s, nil
}

// fill checks the options and puts the defaults in.
func (o *Options) fill() error {
	if o.FS == nil || o.Dir == "" {
		return fmt.Errorf("%w: FS and Dir are required", ErrOptions)
	}
	if err := o.Layout.Check(); err != nil {
		return fmt.Errorf("%w: %v", ErrOptions, err)
	}
	setDefault(&o.BudgetBytes, DefaultBudgetBytes)
	setDefault(&o.MinTokens, DefaultMinTokens)
	setDefault(&o.Validate, ValidateHeader)
	setDefault(&o.Sync, SyncData)
	setDefault(&o.RecoverTimeout, DefaultRecoverTimeout)
	setDefault(&o.SaveTimeout, DefaultSaveTimeout)
	setDefault(&o.LockGrace, DefaultLockGrace)
	setDefault(&o.WarnEvery, DefaultWarnEvery)
	setDefault(&o.RetryAfter, DefaultRetryAfter)
	setDefault(&o.Readers, min(max(runtime.GOMAXPROCS(0), 2), 8))
	if o.BudgetBytes < 0 || o.QuarantineBytes < 0 || o.MinTokens < 0 || o.Readers < 0 || o.ContextTokens < 0 {
		return fmt.Errorf("%w: negative size", ErrOptions)
	}
	switch o.Validate {
	case ValidateOff, ValidateHeader, ValidateFull:
	default:
		return fmt.Errorf("%w: validate mode %q; known: off header full", ErrOptions, o.Validate)
	}
	switch o.Sync {
	case SyncData, SyncNone:
	default:
		return fmt.Errorf("%w: sync mode %q; known: none data", ErrOptions, o.Sync)
	}
	// A quarantine that fills the budget would leave no room for good segments.
	o.QuarantineBytes = min(o.QuarantineBytes, o.BudgetBytes/4)
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.BootID == "" {
		o.BootID = bootID()
	}
	return nil
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Close stores what is queued, as long as ctx lasts, removes this process's
// in-flight markers and gives the folder up. When ctx ends first, the segment
// being written is dropped with its temporary file and ctx's error is returned.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.quit)
	if err := s.wait(ctx, s.recovered); err != nil {
		go func() {
			<-s.recovered
			_ = s.finish(context.Background())
		}()
		return err
	}
	return s.finish(ctx)
}

// finish is the part of Close that follows recovery.
func (s *Store) finish(ctx context.Context) error {
	s.saves.Wait() // they see quit
	close(s.queue)
	err := s.wait(ctx, s.writerDone)
	if err != nil {
		s.abort.Store(true)
		grace := time.NewTimer(time.Second)
		defer grace.Stop()
		select {
		case <-s.writerDone:
		case <-grace.C:
			go func() { // the lock stays ours for as long as something may be written
				<-s.writerDone
				s.keep(false, s.endKeeping)
			}()
			return fmt.Errorf("kvstore: close: the writer does not end: %w", err)
		}
	}
	s.keep(false, s.endKeeping)
	if err2 := s.wait(ctx, s.keeperDone); err2 != nil && err == nil {
		err = err2
	}
	return err
}

func (s *Store) wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	default:
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("kvstore: close: %w", ctx.Err())
	}
}

// keeper runs the notes: everything about the folder that is neither the scan,
// nor a segment's write or read. One goroutine, so that notes reach the disk in
// the order in which they were given.
func (s *Store) keeper() {
	defer close(s.keeperDone)
	warn := time.NewTicker(s.opt.WarnEvery)
	defer warn.Stop()
	retries := newRetries(s.opt.RetryAfter)
	defer retries.Stop()
	s.describe() // somebody may have announced an address while recovery went on
	for {
		select {
		case <-retries.C:
			retries.next(s.regain())
		case note := <-s.notes:
			if note(); s.keeperEnds {
				return
			}
		case <-warn.C:
			s.lookAfter()
			if ok, why := s.Health(); !ok {
				s.opt.Log("kv cache degraded: %s", why)
			}
		}
	}
}

// keep gives the keeper a note. With wait it returns when the note was carried
// out, or false when that takes too long: a disk that hangs must not hang a
// request. The note is carried out anyway, unless too many wait already.
func (s *Store) keep(wait bool, note func()) bool {
	done := make(chan struct{})
	run := func() {
		defer close(done)
		s.lookAfter()
		note()
	}
	select {
	case s.notes <- run:
	default:
		return false
	}
	if !wait {
		return true
	}
	t := time.NewTimer(keeperWait)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-s.keeperDone:
		return false
	case <-t.C:
		return false
	}
}

// endKeeping is the keeper's last note.
func (s *Store) endKeeping() {
	s.dismissAll()
	s.removeOwnMarkers()
	if s.journal != nil {
		_ = s.journal.Close() // every record that matters was synced
	}
	if s.lock != nil {
		_ = s.lock.Close() // the kernel drops it with the process otherwise
	}
	s.keeperEnds = true
}

// Health reports whether the cache does all that it should, and if not, why.
func (s *Store) Health() (ok bool, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.disabled != "":
		return false, "off: " + s.disabled
	case s.closed:
		return false, "closed"
	case !s.ready:
		return false, "recovering"
	case s.readOnly != "":
		return false, "read-only: " + s.readOnly
	case s.backoff.reason != "":
		return false, "not storing: " + s.backoff.reason
	case s.stuck.Load() > 0:
		return false, fmt.Sprintf("%d reads hang", s.stuck.Load())
	}
	return true, ""
}

// ReadOnly reports whether this process may not write, and why.
func (s *Store) ReadOnly() (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readOnly != "", s.readOnly
}

// usable returns nil if the index may be used. The caller holds mu.
func (s *Store) usable() error {
	switch {
	case s.disabled != "":
		return fmt.Errorf("%w: %s", ErrUnavailable, s.disabled)
	case s.closed:
		return fmt.Errorf("%w: closed", ErrUnavailable)
	case !s.ready:
		return fmt.Errorf("%w: recovering", ErrUnavailable)
	}
	return nil
}

// writable returns nil if files may be changed. The caller holds mu.
func (s *Store) writable() error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.readOnly != "" {
		return fmt.Errorf("%w: %s", ErrReadOnly, s.readOnly)
	}
	return nil
}

// durable reports whether writes are synced.
func (s *Store) durable() bool { return s.opt.Sync == SyncData && !s.opt.Unsafe.NoSync }

// Lookup returns the longest stored prefix of a prompt's cache text that may be
// restored: at least MinTokens, at most ContextTokens-1, nothing on probation.
// It does no I/O.
func (s *Store) Lookup(text []byte) Chain {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count.lookups++
	return s.longest(segment.ID{}, 0, text)
}

// Beyond returns the longest stored chain that continues the segment after, which
// ends at position from, with text. The segment itself need not be there: it may
// be on its way to disk, in the place of one that was damaged.
func (s *Store) Beyond(after string, from int, text []byte) Chain {
	key, err := segment.ParseID(after)
	if err != nil {
		return Chain{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.longest(key, from, text)
}

// longest is Lookup after any segment. The caller holds mu.
func (s *Store) longest(after segment.ID, from int, text []byte) Chain {
	if s.usable() != nil {
		return Chain{}
	}
	n, textLen := s.ix.longest(s.opt.Identity, after, from, text, max(s.opt.ContextTokens-1, 0))
	if n == nil || n.to < s.opt.MinTokens {
		return Chain{}
	}
	return newChain(s.ix.chain(after, n), textLen)
}

// newChain describes nodes that follow each other.
func newChain(nodes []*node, textLen int) Chain {
	c := Chain{From: nodes[0].from}
	if p := nodes[0].parent; !p.IsZero() {
		c.After = p.String()
	}
	for _, n := range nodes {
		c.IDs = append(c.IDs, n.id.String())
		c.Ends = append(c.Ends, n.to)
		c.Tokens, c.Sampled = n.to, n.sampled
		c.Bytes += n.bytes
	}
	c.TextLen = textLen
	return c
}

// Has reports whether the segment is stored or queued, so that a segment with it
// as parent can be saved.
func (s *Store) Has(id string) bool {
	key, err := segment.ParseID(id)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.usable() == nil && s.has(key)
}

func (s *Store) has(id segment.ID) bool {
	n := s.ix.nodes[id]
	return n != nil && !n.leaving || s.pending[id] != nil
}

// Pin keeps the chain of a waiting request from being evicted until unpin, which
// may be called more than once.
func (s *Store) Pin(c Chain) (unpin func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unpinner(s.pin(s.nodesOf(c.IDs)))
}

// nodesOf returns the nodes of the ids that are in the index. The caller holds mu.
func (s *Store) nodesOf(ids []string) []*node {
	var list []*node
	for _, id := range ids {
		if key, err := segment.ParseID(id); err == nil && s.ix.nodes[key] != nil {
			list = append(list, s.ix.nodes[key])
		}
	}
	return list
}

func (s *Store) pin(nodes []*node) []*node {
	if s.opt.Unsafe.NoPin {
		return nil
	}
	for _, n := range nodes {
		n.pins++
	}
	return nodes
}

func (s *Store) unpinner(nodes []*node) func() {
	var once sync.Once
	return func() {
		once.Do(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, n := range nodes {
				n.pins--
			}
		})
	}
}

// rootCause is what an error says without the path, which somebody else may have
// chosen.
func rootCause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// errnoText shortens an error for a reason that people read.
func errnoText(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) && !errors.Is(err, errLost) {
		return pe.Op + " " + pe.Path + ": " + pe.Err.Error()
	}
	return err.Error()
}
