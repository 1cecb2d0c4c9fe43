package scheduler

// Session is what a live session is doing, for people who watch. It holds nothing
// of what was said.
type Session struct {
	State       string // one of the Session constants
	Tokens      int    // positions that it holds in memory
	SavedTokens int    // of them, from the first on, those that are on disk or about to be
	// Of the request that it serves, all 0 when it is idle. CachedTokens of
	// PromptTokens were reused; CompletionTokens were sampled so far.
	PromptTokens     int
	CachedTokens     int
	CompletionTokens int
}

// States of a session.
const (
	SessionEmpty     = "empty"     // holds nothing
	SessionIdle      = "idle"      // holds a conversation that may go on
	SessionRestoring = "restoring" // reads a prefix from disk
	SessionPrefill   = "prefill"
	SessionDecode    = "decode"
)

// sessions describes the slots; into is overwritten.
func (s *Scheduler) sessions(into []Session) []Session {
	into = into[:0]
	for _, sl := range s.slots {
		v := Session{State: SessionIdle, Tokens: len(sl.past.tokens)}
		if n := len(sl.saved); n > 0 {
			v.SavedTokens = min(sl.saved[n-1].at, v.Tokens)
		}
		switch j := sl.job; {
		case j != nil:
			v.State = SessionRestoring
			switch j.phase {
			case phasePrefill:
				v.State = SessionPrefill
			case phaseDecode:
				v.State = SessionDecode
			}
			v.PromptTokens, v.CachedTokens, v.CompletionTokens = j.total(), j.attempt.cached, j.sampled
		case sl.empty():
			v.State = SessionEmpty
		}
		into = append(into, v)
	}
	return into
}
