package scheduler

import (
	"context"
	"errors"
	"time"

	"ds4/runtime/kvstore"
)

// restored is the end of a restore.
type restored struct {
	job  *job
	join *extension // nil: the chain begins at 0
	got  kvstore.Restored
	took time.Duration
	err  error
}

// beginRestore reads a chain from disk into a session, beside the worker, so
// that other requests go on.
func (s *Scheduler) beginRestore(j *job, chain kvstore.Chain) {
	unpin := s.disk.pin(chain) // making room must not cost what is wanted
	if s.cfg.Unsafe.RestoreLive && s.claimLive(j) {
		// What it holds is overwritten, and nobody is told.
	} else if err := s.claim(j); err != nil {
		unpin()
		s.refuse(j, err)
		return
	}
	if err := s.disk.begin(j, chain); err != nil {
		// Without the marker a restore that kills the process would do so for ever.
		unpin()
		s.cfg.Log("kv cache not used: %v", err)
		j.noJoin = true
		s.fallBack(j)
		return
	}
	s.read(j, chain, unpin, nil)
}

// read restores a chain into the request's session, for as long as evaluating it
// would take, and reports to endRestores. The slot is the restore's own until
// then.
func (s *Scheduler) read(j *job, chain kvstore.Chain, unpin func(), join *extension) {
	j.phase = phaseRestoring
	limit := max(s.cfg.RestoreMin, s.pace.estimate(chain.Tokens-chain.From))
	ctx, cancel := context.WithTimeout(j.ctx, limit)
	sess := j.slot.sess
	var accept func([]int32) error
	if join != nil {
		accept = join.accept
	}
	go func() {
		start := time.Now()
		got, err := s.disk.restore(ctx, sess, chain, accept)
		unpin()
		s.restores <- restored{job: j, join: join, got: got, took: time.Since(start), err: err}
		cancel()
	}()
	go func() { // a shutdown does not wait for the disk
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
}

// endRestores carries on with requests whose restore has ended, and reports whether
// there were any.
func (s *Scheduler) endRestores() (any bool) {
	for {
		select {
		case r := <-s.restores:
			s.endRestore(r)
			any = true
		default:
			return any
		}
	}
}

func (s *Scheduler) endRestore(r restored) {
	j := r.job
	sl := j.slot
	j.restoreTime += r.took
	s.count.add(func(c *Stats) { c.RestoreTime += r.took })
	if s.stopping() || j.cancelled() {
		s.abandonRestore(j)
		return
	}
	if r.join != nil {
		s.endRejoin(r)
		return
	}
	if r.err != nil {
		// Not a failure for the client as long as the prompt can be evaluated, and
		// none at all if what was found is not there any more.
		if !errors.Is(r.err, kvstore.ErrVanished) {
			s.count.add(func(c *Stats) { c.Failures[classRestore]++ })
		}
		j.noJoin = !errors.Is(r.err, kvstore.ErrMiss) // what was bad is gone, what follows it need not be
		s.fallBack(j)
		return
	}
	h := history{}
	h.appendLike(r.got.Tokens, j.prompt.text, s.tok)
	if r.got.Chain.Sampled {
		h.sampledEnd = len(h.tokens)
	}
	tokens, common := s.match(&h, j.prompt)
	if n := len(h.tokens); common < n || n >= len(tokens) || len(tokens) >= s.eng.ContextTokens() {
		s.shorten(j, &h, min(common, len(tokens)-1))
		return
	}
	sl.past = h
	sl.saved = ends(r.got.Chain, s.cfg.SegmentTokens)
	sl.continued = 1 // somebody came back for it
	s.setTokens(j, tokens, len(h.tokens), SourceDisk)
	j.attempt.chain, j.attempt.restored = r.got.Chain.IDs, len(h.tokens)
	s.disk.working(j)
	s.beginPrefill(j)
}

// abandonRestore ends a restore that nobody wants any more.
func (s *Scheduler) abandonRestore(j *job) {
	s.resetSlot(j.slot)
	s.detach(j)
	if s.stopping() {
		s.endForShutdown(j)
		return
	}
	s.cancel(j)
}

// shorten handles a chain whose text is the prompt's but whose last tokens are
// not: it was cut inside a word. What ends before the difference is tried, once.
func (s *Scheduler) shorten(j *job, h *history, common int) {
	s.disk.dismissed(j)
	s.resetSlot(j.slot)
	chain := s.disk.lookup(j.prompt.text[:h.textLen(common)])
	if j.shortened || chain.Tokens < s.cfg.MinCacheTokens || chain.Tokens > common {
		s.fallBack(j)
		return
	}
	j.shortened = true
	j.slot.job = nil
	s.beginRestore(j, chain)
}

// fallBack goes on without the disk after a restore that did not work out.
func (s *Scheduler) fallBack(j *job) {
	s.disk.dismissed(j)
	if s.cfg.Unsafe.RestoreLive {
		s.deaden(j.slot)
	} else {
		s.resetSlot(j.slot)
	}
	j.noDisk = true
	s.retry(j)
}
