package scheduler

import "time"

// The shapes of these lines are known to the users of the original server and
// must not change. The server adds its name and the time.

func (s *Scheduler) logPrompt(j *job, what string) {
	s.cfg.Log("%s%s %s", j.span(), j.flags(), what)
}

func (s *Scheduler) logStart(j *job) {
	s.cfg.Log("%s%s src=%s prompt start", j.span(), j.flags(), j.logSource())
}

func (s *Scheduler) logChunk(j *job, done, all int, chunkRate float64) {
	percent := 100.0
	if all > 0 {
		percent = 100 * float64(done) / float64(all)
	}
	s.cfg.Log("%s%s prefill chunk %d/%d (%.1f%%) chunk=%.2f t/s avg=%.2f t/s %s",
		j.span(), j.flags(), done, all, percent, chunkRate, rate(done, j.attempt.prefill), seconds(j.attempt.prefill))
}

func (s *Scheduler) logDecoding(j *job) {
	to := j.slot.sess.Len()
	last := &j.lastChunk
	from := max(last.at, j.total())
	s.cfg.Log("%s ctx=%d..%d:%d gen=%d%s decoding chunk=%.2f t/s avg=%.2f t/s %s",
		j.kind(), from, to, to-from, j.sampled, j.flags(),
		rate(j.sampled-last.sampled, j.decode-last.decode), rate(j.sampled, j.decode), seconds(j.decode))
	last.at, last.sampled, last.decode = to, j.sampled, j.decode
}

// logFinish writes the line that ends a request which had begun.
func (s *Scheduler) logFinish(j *job, reason, problem string) {
	tail := ""
	if problem != "" {
		tail = ` error="` + oneLine(problem) + `"`
	}
	s.cfg.Log("%s gen=%d%s finish=%s%s %s", j.span(), j.sampled, j.flags(), reason, tail, seconds(time.Since(j.started)))
}

// logMiss says why no live session could be continued. live is the longest
// history compared, common what it shares with the prompt.
func (s *Scheduler) logMiss(live, prompt, common int) {
	reason := "token-mismatch"
	switch {
	case live == 0:
		reason = "no-live-checkpoint"
	case common == prompt && prompt < live:
		reason = "incoming-prompt-shorter-than-live-checkpoint"
	}
	s.cfg.Log("live kv cache miss live=%d prompt=%d common=%d reason=%s", live, prompt, common, reason)
}
