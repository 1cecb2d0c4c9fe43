package scheduler

import (
	"slices"

	"ds4/metal"
	"ds4/runtime/engine"
)

// Which requests share a pass, and who is to blame when a shared pass fails.
//
// Every answer has a token in every pass, beside a chunk of one prompt, so an
// answer never waits for more than a chunk. The exceptions are a pass after a
// failure, and more answers than a pass has room for: those take turns.

const (
	// prefillShare is the part of a pass, one in so many tokens, that answers leave
	// to prompts.
	prefillShare = 4
	// apartAfter shared passes failed in a row: nothing shares a pass for apartFor.
	// What fails together may work alone, and trying again soon would use up the
	// rebuilds that the recovery policy allows.
	apartAfter = 2
	apartFor   = metal.RebuildWindow
)

// batch is one pass over the device: the next token of decoding requests, and a
// chunk of one request's prompt.
type batch struct {
	seqs    []engine.Sequence
	prefill *job
	chunk   int // tokens of prefill
	decodes []*job
}

func (b *batch) shared() bool { return len(b.seqs) > 1 }

func (b *batch) decode(list ...*job) {
	for _, j := range list {
		b.decodes = append(b.decodes, j)
		b.seqs = append(b.seqs, engine.Sequence{Session: j.slot.sess, Tokens: []int32{j.next}})
	}
}

// nextBatch chooses what the next pass evaluates. Requests that prefill take
// turns; a request that is alone after a failed pass gets one to itself.
func (s *Scheduler) nextBatch() (b batch) {
	var decodes, prefills []*job
	for _, j := range s.active {
		switch j.phase {
		case phaseDecode:
			decodes = append(decodes, j)
		case phasePrefill:
			prefills = append(prefills, j)
		}
	}
	apart := s.cfg.Now().Before(s.apartUntil)
	single := slices.IndexFunc(decodes, func(j *job) bool { return j.alone })
	if apart && single < 0 && len(decodes) > 0 && (len(prefills) == 0 || !s.decodedLast) {
		for _, j := range decodes { // a round of passes of their own
			j.alone = true
		}
		single = 0
	}
	if single >= 0 {
		b.decode(decodes[single])
		return b
	}
	if len(prefills) == 0 {
		b.decode(s.fit(decodes, s.chunk)...)
		return b
	}
	j := prefills[s.turns%len(prefills)]
	room := s.chunk - max(s.chunk/prefillShare, 1)
	if j.alone || apart || room == 0 {
		if len(decodes) > 0 && !s.decodedLast {
			b.decode(s.fit(decodes, s.chunk)...)
			return b
		}
		decodes = nil
	}
	s.turns++
	b.decode(s.fit(decodes, room)...)
	pos := j.slot.sess.Len()
	end := s.chunkEnd(j, pos, s.chunk-len(b.decodes))
	b.prefill, b.chunk = j, end-pos
	b.seqs = append(b.seqs, engine.Sequence{Session: j.slot.sess, Tokens: j.attempt.tokens[pos:end]})
	return b
}

// fit returns the next room requests of a list that may be longer.
func (s *Scheduler) fit(list []*job, room int) []*job {
	if len(list) <= room {
		return list
	}
	first := s.served % len(list)
	s.served = first + room
	return append(list[first:len(list):len(list)], list[:first]...)[:room]
}

// chunkEnd is where the next chunk of a prompt ends: at a place where the state
// is saved or kept, at the end of the prompt, or where room ends.
func (s *Scheduler) chunkEnd(j *job, pos, room int) int {
	end := min(pos+room, len(j.attempt.tokens))
	if pos < j.attempt.mark {
		end = min(end, j.attempt.mark)
	}
	if seg := s.cfg.SegmentTokens; s.disk.on() {
		end = min(end, (pos/seg+1)*seg)
	}
	return end
}

// shareWorked notes a pass that worked.
func (s *Scheduler) shareWorked(b *batch) {
	s.decodedLast = len(b.decodes) > 0
	if b.shared() {
		s.shareFailures = 0
	}
	if t := s.trial; t != nil && len(b.decodes) == 1 && b.decodes[0].alone {
		t.passed++
	}
}

// trial is what is left to find out after a pass of answers and a chunk failed.
// Blame goes by difference: if one of the answers fails alone, too, the chunk may
// be innocent and is evaluated again. If all of them work, it was the chunk: the
// device need not see it once more to know.
type trial struct {
	prefill        *job
	err            error
	passed, failed int // answers that were tried alone
}

// shareFailed looks for the culprit of a failed pass that several requests
// shared: from now on each of them gets passes of its own, answers first.
func (s *Scheduler) shareFailed(b *batch, err error) {
	for _, j := range b.decodes {
		j.alone = true
	}
	if j := b.prefill; j != nil {
		j.attempt.chunks--
		j.alone = true
		s.trial = &trial{prefill: j, err: err}
	}
	if s.shareFailures++; s.shareFailures >= apartAfter {
		s.apartUntil = s.cfg.Now().Add(apartFor)
		s.cfg.Log("device passes that requests share failed %d times in a row: none are shared for %s", s.shareFailures, apartFor)
	}
}

// endTrial blames the chunk of a failed pass once every answer in it was tried
// alone, if none of them was to blame.
func (s *Scheduler) endTrial() {
	t := s.trial
	if t == nil {
		return
	}
	for _, j := range s.active {
		if j.phase == phaseDecode && j.alone {
			return
		}
	}
	s.trial = nil
	if t.prefill.phase == phasePrefill && t.failed == 0 && t.passed > 0 {
		s.jobFailed(t.prefill, stagePrefill, t.err)
	}
}
