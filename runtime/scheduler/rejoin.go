package scheduler

import (
	"errors"
	"slices"

	"ds4/runtime/kvstore"
)

// Damage in the middle of a conversation should cost the damaged segment and not
// what follows it. A restore brings back what comes before; the request then
// evaluates the missing segment anew, which gets the name of the old one, since
// names are made of contents. At its end the request joins the stored chain
// again: what follows is added to the live session.

// errOtherTokens refuses stored tokens that the prompt does not have.
var errOtherTokens = errors.New("scheduler: the stored tokens are not the prompt's")

// rejoin lets a request that has just completed a segment go on from disk, if
// the store knows so much of what follows that reading pays. It reports whether
// the request now waits for a restore.
func (s *Scheduler) rejoin(j *job) bool {
	sl := j.slot
	pos, n := sl.sess.Len(), len(sl.saved)
	if pos%s.cfg.SegmentTokens != 0 || j.noJoin || j.plan.cold || n == 0 || sl.saved[n-1].at != pos {
		return false
	}
	text := j.prompt.text[:len(j.prompt.text)-len(s.tok.CacheText(nil, j.prompt.tokens[len(j.prompt.tokens)-1]))]
	if len(text) <= len(sl.past.text) {
		return false
	}
	chain := s.disk.beyond(sl.saved[n-1].id, pos, text[len(sl.past.text):])
	if chain.Empty() || !s.worthRestoring(chain.Tokens, pos) {
		return false
	}
	unpin := s.disk.pin(chain)
	if err := s.disk.begin(j, chain); err != nil {
		unpin()
		s.cfg.Log("kv cache not used: %v", err)
		j.noJoin = true
		return false
	}
	s.read(j, chain, unpin, &extension{s: s, prompt: j.prompt, past: sl.past, chain: chain})
	return true
}

// extension is what stored tokens add to the past of a live session.
type extension struct {
	s      *Scheduler
	prompt target
	past   history
	chain  kvstore.Chain
	// After accept: the longer history, and what the request should then evaluate
	// as its prompt.
	longer history
	tokens []int32
}

// accept refuses stored tokens that are not the prompt's.
func (x *extension) accept(tokens []int32) error {
	h := x.past
	h.tokens, h.ends, h.text = slices.Clip(h.tokens), slices.Clip(h.ends), slices.Clip(h.text)
	h.appendLike(tokens, x.prompt.text, x.s.tok)
	if x.chain.Sampled && len(h.tokens) == x.chain.Tokens {
		h.sampledEnd = x.chain.Tokens
	}
	want, common := x.s.match(&h, x.prompt)
	if n := len(h.tokens); common < n || n >= len(want) || len(want) >= x.s.eng.ContextTokens() {
		return errOtherTokens
	}
	x.longer, x.tokens = h, want
	return nil
}

// endRejoin goes on with the prompt: behind what was read, or, if that did not
// work out, from where the request stood.
func (s *Scheduler) endRejoin(r restored) {
	j, n := r.job, len(r.got.Tokens)
	sl := j.slot
	j.phase = phasePrefill
	if r.err != nil {
		s.disk.dismissed(j)
		j.noJoin = true // once is enough
		if !errors.Is(r.err, errOtherTokens) {
			s.count.add(func(c *Stats) { c.Failures[classRestore]++ })
		}
		s.cfg.Log("kv cache not joined again at %d: %v", sl.sess.Len(), r.err)
		return
	}
	sl.past = r.join.longer
	sl.saved = append(sl.saved, ends(r.got.Chain, s.cfg.SegmentTokens)...)
	s.setTokens(j, r.join.tokens, j.attempt.cached+n, SourceDisk)
	j.attempt.restored += n
	j.attempt.chain = append(slices.Clip(j.attempt.chain), r.got.Chain.IDs...)
	s.disk.working(j)
	if len(sl.past.tokens) == j.attempt.mark {
		s.keep(sl)
	}
	s.cfg.Log("%s joined what is stored from %d on, %d tokens read", j.span(), r.got.Chain.From, n)
}
