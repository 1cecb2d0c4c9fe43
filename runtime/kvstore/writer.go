package kvstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"syscall"
	"time"

	"ds4/runtime/failpoint"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

const (
	writePiece = 1 << 20 // bytes of one write call
	minBackoff = time.Second
	maxBackoff = time.Minute
	// A full disk is somebody's problem beyond this cache: give a tenth back.
	keepOnFullDisk = 0.9
	// A segment that was convicted this often is not stored again.
	maxConvictions = 2
)

// job is a segment on its way to disk, or a mark in the queue.
type job struct {
	id        segment.ID
	seg       *segment.Segment
	reason    string
	textCRC   uint32
	tokensCRC uint32
	urgent    bool
	renews    bool          // it is stored, but on probation
	mark      chan struct{} // closed when the writer gets here
}

// node is what the segment will be in the index.
func (j *job) node(bytes int64) *node {
	return &node{id: j.id, parent: j.seg.Parent, from: j.seg.From, to: j.seg.To, sampled: j.seg.Sampled,
		textLen: len(j.seg.Text), textCRC: j.textCRC, tokensCRC: j.tokensCRC, bytes: bytes, createdNS: j.seg.CreatedNS}
}

// Save queues a segment for the writer and returns its id. A segment that is
// already stored or queued is not written again, except on probation: then a copy
// waits for the verdict. While the queue is full Save
// waits, at most SaveTimeout; Stats has the time. An error means that the segment
// will not be stored; it never concerns the request whose state it is. Writing
// happens later and may fail without a word to the caller: Has knows.
func (s *Store) Save(ctx context.Context, seg *Segment) (id string, err error) {
	j, err := s.newJob(seg)
	if err != nil {
		return "", err
	}
	id = j.id.String()
	s.mu.Lock()
	err = s.admit(j, seg.To)
	if err != nil || j.mark != nil {
		s.mu.Unlock()
		return id, err
	}
	s.pending[j.id] = j
	s.saves.Add(1)
	s.mu.Unlock()
	defer s.saves.Done()
	if err := s.enqueue(ctx, j); err != nil {
		s.mu.Lock()
		delete(s.pending, j.id)
		s.mu.Unlock()
		return id, err
	}
	if s.opt.Unsafe.WaitForDisk {
		return id, s.Flush(ctx)
	}
	return id, nil
}

// newJob checks a segment's ids. Its sections are checked by the encoder.
func (s *Store) newJob(seg *Segment) (*job, error) {
	var parent segment.ID
	if seg.Parent != "" {
		var err error
		if parent, err = segment.ParseID(seg.Parent); err != nil {
			return nil, fmt.Errorf("%w: parent: %v", ErrInput, err)
		}
	}
	f := &segment.Segment{Identity: s.opt.Identity, Parent: parent, From: seg.From, To: seg.To,
		CreatedNS: s.opt.Now().UnixNano(), Sampled: seg.Sampled, Text: seg.Text, Tokens: seg.Tokens,
		Raw: seg.Raw, Comp: seg.Comp, Index: seg.Index, Frontier: seg.Frontier}
	if err := f.Check(s.opt.Layout); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrInput, err)
	}
	j := &job{id: f.ID(), seg: f, reason: seg.Reason, urgent: seg.Urgent, textCRC: segment.Checksum(seg.Text),
		tokensCRC: segment.TokensChecksum(seg.Tokens, s.opt.Layout.Vocab)}
	if j.reason == "" {
		j.reason = "continued"
	}
	if s.opt.Unsafe.ShareBuffers {
		s.shareBuffers(f)
	}
	return j, nil
}

// admit decides whether a segment is queued. It sets j.mark if there is nothing
// to do. The caller holds mu.
func (s *Store) admit(j *job, to int) error {
	if err := s.writable(); err != nil {
		return err
	}
	if s.has(j.id) {
		if !s.sameTokens(j) {
			return fmt.Errorf("%w: %v is stored with other tokens of the same text", ErrRefused, j.id)
		}
		if j.renews = s.renewable(j); !j.renews && !s.opt.Unsafe.StoreTwice {
			j.mark = s.quit
		}
		return nil
	}
	switch {
	case to < s.opt.MinTokens:
		return fmt.Errorf("%w: %d tokens, minimum %d", ErrTooShort, to, s.opt.MinTokens)
	case s.ix.nodes[j.id] != nil:
		return fmt.Errorf("%w: %v is being removed", ErrRefused, j.id)
	case s.convicted[j.id].count >= maxConvictions:
		return fmt.Errorf("%w: %v was convicted %d times", ErrRefused, j.id, s.convicted[j.id].count)
	case !j.seg.Parent.IsZero() && !s.has(j.seg.Parent):
		return fmt.Errorf("%w: %v", ErrNoParent, j.seg.Parent)
	case s.backoff.holds(s.opt.Now()) && !j.urgent && !s.opt.Unsafe.NoBackoff:
		return fmt.Errorf("%w: %s", ErrBackoff, s.backoff.reason)
	}
	return nil
}

// sameTokens reports whether a segment that is stored or queued has the tokens of
// the one that would be stored. What is sampled need not be cut as the tokenizer cuts
// it, and rows depend on the tokens: nothing may follow a segment of others. The
// caller holds mu.
func (s *Store) sameTokens(j *job) bool {
	n := s.ix.nodes[j.id]
	if p := s.pending[j.id]; p != nil {
		n = p.node(0)
	}
	return n.to == j.seg.To && n.tokensCRC == j.tokensCRC
}

// enqueue waits for a place in the queue and counts the time.
func (s *Store) enqueue(ctx context.Context, j *job) error {
	select {
	case s.queue <- j:
		return nil
	default:
	}
	start := time.Now()
	defer func() {
		s.mu.Lock()
		s.count.stall += time.Since(start)
		s.mu.Unlock()
	}()
	t := time.NewTimer(s.opt.SaveTimeout)
	defer t.Stop()
	select {
	case s.queue <- j:
		return nil
	case <-t.C:
		return fmt.Errorf("%w: no place in the write queue for %v", ErrBusy, s.opt.SaveTimeout)
	case <-ctx.Done():
		return fmt.Errorf("kvstore: save: %w", ctx.Err())
	case <-s.quit:
		return fmt.Errorf("%w: closed", ErrUnavailable)
	}
}

// Flush waits until everything that was queued before it is on disk or given up.
func (s *Store) Flush(ctx context.Context) error {
	s.mu.Lock()
	if err := s.usable(); err != nil && (s.closed || s.disabled != "") { // recovery ends
		s.mu.Unlock()
		return err
	}
	s.saves.Add(1)
	s.mu.Unlock()
	j := &job{mark: make(chan struct{})}
	var err error
	select {
	case s.queue <- j:
	case <-ctx.Done():
		err = fmt.Errorf("kvstore: flush: %w", ctx.Err())
	case <-s.quit:
		err = fmt.Errorf("%w: closed", ErrUnavailable)
	}
	s.saves.Done() // Close waits for the queue to be left alone, not for the writer
	if err != nil {
		return err
	}
	select {
	case <-j.mark:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("kvstore: flush: %w", ctx.Err())
	}
}

// writer writes what is queued until the queue is closed.
func (s *Store) writer() {
	defer close(s.writerDone)
	for j := range s.queue {
		if j.mark != nil {
			close(j.mark)
			continue
		}
		s.store(j)
	}
}

// store writes one segment and says how it went. It never gives up the writer.
func (s *Store) store(j *job) {
	start := time.Now()
	bytes, err := s.writeOwned(j)
	took := time.Since(start)
	s.mu.Lock()
	delete(s.pending, j.id)
	s.count.writeTime += took
	switch {
	case err == nil:
		s.backoff = backoff{}
		s.count.stored++
		s.count.bytesWritten += bytes
		s.count.tokensStored += int64(j.seg.To - j.seg.From)
	case errors.Is(err, errSkip):
		s.count.skipped++
	default:
		s.count.storeFailures++
		s.backOff(err)
	}
	pause := s.backoff.delay
	s.mu.Unlock()
	switch {
	case err == nil:
		s.opt.Log("kv cache stored tokens=%d trimmed=0 reason=%s key=%v size=%.2f MiB save=%.1f ms",
			j.seg.To, j.reason, j.id, inMiB(bytes), millis(took))
		s.writing.Lock()
		s.dropReplaced(j)
		s.writing.Unlock()
	case errors.Is(err, errSkip):
		s.opt.Log("kv cache store skipped (%s): %v", j.reason, err)
	default:
		s.opt.Log("kv cache store failed (%s): %v save=%.1f ms; next try in %v", j.reason, err, millis(took), pause)
	}
}

// backOff makes a pause after a failure, longer each time, and returns it. The
// caller holds mu.
func (s *Store) backOff(err error) time.Duration {
	s.backoff.delay = min(max(2*s.backoff.delay, minBackoff), maxBackoff)
	s.backoff.until = s.opt.Now().Add(s.backoff.delay)
	s.backoff.reason = errnoText(err)
	return s.backoff.delay
}

// isFull reports whether removing something may help.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// errSkip marks a segment that is not written for a reason that is no failure of
// the disk.
var errSkip = errors.New("skipped")

// write makes room, writes the file and publishes it.
func (s *Store) write(j *job) (int64, error) {
	e, err := segment.Encode(s.opt.Layout, j.seg)
	if err != nil {
		return 0, fmt.Errorf("%w: %v", errSkip, err)
	}
	if !s.followable(j.seg.Parent) {
		return 0, fmt.Errorf("%w: parent %v was not stored", errSkip, j.seg.Parent)
	}
	if !s.makeRoom(e.Bytes) {
		return 0, fmt.Errorf("%w: size=%.2f MiB exceeds the budget of %.2f MiB less what the conversations in use hold",
			errSkip, inMiB(e.Bytes), inMiB(s.opt.BudgetBytes))
	}
	s.addTemp(e.Bytes)
	defer s.addTemp(-e.Bytes)
	fresh := j.node(e.Bytes)
	standsBy := false
	if s.opt.Unsafe.NoRename {
		err = s.writeInPlace(e)
	} else {
		standsBy, err = s.writeDurably(j, e, fresh)
	}
	if err != nil {
		return 0, err
	}
	if !standsBy {
		s.publish(fresh)
	}
	return e.Bytes, nil
}

// followable reports whether a segment is there that another one may follow; the
// root always is. One that is just being replaced is waited for.
func (s *Store) followable(id segment.ID) bool {
	if id.IsZero() {
		return true
	}
	state := func() (there, leaving bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		n := s.ix.nodes[id]
		return n != nil && !n.leaving, n != nil && n.leaving
	}
	there, leaving := state()
	if leaving && s.keep(true, func() {}) {
		there, _ = state()
	}
	return there
}

func (s *Store) addTemp(n int64) {
	s.mu.Lock()
	s.tmpBytes += n
	s.mu.Unlock()
}

// writeDurably is the protocol: nothing has the segment's name before all of its
// bytes are on the medium, and nothing is called stored before the name is. The
// copy of a segment on probation does not get the name yet: it stands by.
func (s *Store) writeDurably(j *job, e *segment.Encoded, fresh *node) (standsBy bool, err error) {
	tmp, name := s.dir.temp(e.ID, s.pid, s.tempCount.Add(1)), s.dir.segment(e.ID)
	if err := s.writeFile(tmp, e); err != nil {
		s.discard(tmp, e.ID.String())
		return false, err
	}
	if j.renews {
		if standsBy, err = s.standBy(fresh, tmp); standsBy || err != nil {
			return standsBy, err
		}
	}
	err = s.openShard(path.Dir(name))
	if err == nil {
		err = ptRename.Hit(s.scope(e.ID, 0))
	}
	if err == nil {
		err = s.fs.Rename(tmp, name)
	}
	if err != nil {
		s.discard(tmp, e.ID.String())
		return false, fmt.Errorf("kvstore: publish %v: %w", e.ID, err)
	}
	if err := s.syncShard(path.Dir(name), e.ID); err != nil {
		// The name may be gone after a power cut. Do not count on it.
		s.discard(name, e.ID.String())
		return false, err
	}
	return false, nil
}

// writeFile creates a file with the whole segment in it and syncs it.
func (s *Store) writeFile(name string, e *segment.Encoded) error {
	f, err := s.fs.Create(name)
	if err != nil {
		return fmt.Errorf("kvstore: write %v: %w", e.ID, err)
	}
	err = s.writeParts(f, e)
	if err == nil && s.durable() {
		if err = ptFsync.Hit(s.scope(e.ID, e.Bytes)); err == nil {
			err = f.Sync()
		}
	}
	// A late error of a delayed write may come with the close.
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("kvstore: write %v: %w", e.ID, err)
	}
	return nil
}

func (s *Store) writeParts(f vfs.File, e *segment.Encoded) error {
	if err := ptWriteHeader.Hit(s.scope(e.ID, 0)); err != nil {
		return err
	}
	at := int64(0)
	for _, part := range e.Parts() {
		for len(part) > 0 {
			if s.abort.Load() {
				return fmt.Errorf("%w: closed", ErrUnavailable)
			}
			if err := ptWritePayload.Hit(s.scope(e.ID, at)); err != nil {
				return err
			}
			b := part[:min(len(part), writePiece)]
			b = b[:ptWritePayload.Split(s.scope(e.ID, at), len(b))]
			n, err := f.Write(b)
			if err != nil {
				return err
			}
			at += int64(n)
			part = part[n:]
		}
	}
	// A rule may stop the file exactly at its end.
	return ptWritePayload.Hit(s.scope(e.ID, at))
}

// openShard makes the folder of a segment. Its own name must be durable before a
// segment in it can be.
func (s *Store) openShard(dir string) error {
	if s.synced[dir] {
		return nil
	}
	// If all of them are gone, so are the segments that we think we have.
	if _, err := s.fs.Lstat(s.dir.segments()); err != nil {
		return fmt.Errorf("kvstore: %w", err)
	}
	if err := s.fs.MkdirAll(dir); err != nil {
		return fmt.Errorf("kvstore: %w", err)
	}
	if s.durable() {
		if err := s.fs.SyncDir(s.dir.segments()); err != nil {
			return fmt.Errorf("kvstore: sync %s: %w", s.dir.segments(), err)
		}
	}
	s.synced[dir] = true
	return nil
}

func (s *Store) syncShard(dir string, id segment.ID) error {
	err := ptDirsync.Hit(s.scope(id, 0))
	if err == nil && s.durable() {
		err = s.fs.SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("kvstore: sync %s: %w", dir, err)
	}
	return nil
}

// publish puts a written segment into the index.
func (s *Store) publish(fresh *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.ix.nodes[fresh.id]; old != nil {
		s.ix.remove(old) // its file was just replaced
	}
	fresh.lastUsed = s.opt.Now()
	s.ix.add(fresh)
}

// dropReplaced removes the tails that a new segment makes superfluous: same
// parent, and its text begins with theirs.
func (s *Store) dropReplaced(j *job) {
	s.mu.Lock()
	var tails []*node
	s.ix.prefixes(j.seg.Parent, &sums{text: j.seg.Text}, 0, func(n *node) {
		if n.textLen < len(j.seg.Text) && n.to < j.seg.To && n.pins == 0 && n.offered() && s.evictable(n) &&
			segment.MakeID(s.opt.Identity, n.parent, n.from, j.seg.Text[:n.textLen]) == n.id {
			n.leaving = true
			tails = append(tails, n)
		}
	})
	s.mu.Unlock()
	for _, n := range tails {
		s.drop(n, "superseded")
	}
}

// remove unlinks a file of the cache; one that is not there is removed.
func (s *Store) remove(name, entry string) error {
	err := ptUnlink.Hit(failpoint.Scope{Source: "disk", Entry: entry})
	if err == nil {
		err = s.fs.Remove(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// discard removes what a failed write has left. What cannot be removed counts, so
// that a disk on which nothing works is not filled; the next start removes it.
func (s *Store) discard(name, entry string) {
	if s.remove(name, entry) != nil {
		s.addForeign(s.sizeOf(name))
	}
}

// writeAtomic is vfs.WriteFileAtomic; a temporary file that stays counts.
func (s *Store) writeAtomic(name string, data []byte, durable bool) error {
	err := vfs.WriteFileAtomic(s.fs, name, data, durable)
	s.countLeft(err)
	return err
}

// countLeft counts the temporary file that an error tells of.
func (s *Store) countLeft(err error) {
	var left *vfs.TempLeftError
	if errors.As(err, &left) {
		s.addForeign(s.sizeOf(left.Name))
	}
}

func (s *Store) scope(id segment.ID, n int64) failpoint.Scope {
	return failpoint.Scope{Source: "disk", Entry: id.String(), N: n}
}
