package scheduler

import (
	"slices"

	"ds4/runtime/engine"
)

// maxPoints is how many places to come back to a live session keeps: the ends of
// its last prompts. Each costs a window of rows and one row of logits.
const maxPoints = 2

// slot is one live session and what is known of its past.
type slot struct {
	sess   *engine.Session // nil: nothing is allocated
	past   history
	points []*engine.Point // ascending
	saved  []savedEnd      // ascending
	job    *job            // nil: idle
	used   uint64          // larger is more recent
	// continued is how many requests went on from what the slot held.
	continued int
	// hidden says that after the last point comes what no later prompt will repeat,
	// reasoning, a call that was cut or the beginning of a stop string: the point is the better place to save.
	hidden bool
	// thought says that what follows the last point is in later prompts if the client
	// sends it back: reasoning, or an answer that was broken off, which may as well be
	// asked for again. Both places are worth saving.
	thought bool
}

// savedEnd is the end of a segment that the store has, or has in its queue.
type savedEnd struct {
	at     int
	id     string
	parent bool // a full segment: what follows continues it
	prompt bool // a tail at the end of a prompt: a later tail may continue it
}

// lastSaved is the id of the last segment, "" if there is none.
func (sl *slot) lastSaved() string {
	if len(sl.saved) == 0 {
		return ""
	}
	return sl.saved[len(sl.saved)-1].id
}

func (sl *slot) idle() bool { return sl.job == nil }

// genuine reports whether the slot holds something, and knows all of it.
func (sl *slot) genuine() bool {
	return sl.sess != nil && sl.sess.Len() > 0 && sl.sess.Len() == len(sl.past.tokens)
}

// empty reports whether the slot holds nothing worth keeping.
func (sl *slot) empty() bool { return len(sl.past.tokens) == 0 }

// reach returns how far a prompt can go with the slot if the two share common
// positions: all of it, or back to a kept point.
func (sl *slot) reach(common int) int {
	if n := len(sl.past.tokens); n <= common {
		return n
	}
	best := 0
	for _, p := range sl.points {
		if p.Len() <= common {
			best = p.Len()
		}
	}
	return best
}

// rewind takes the session back to n positions, which reach has promised.
func (sl *slot) rewind(n int) error {
	if n == len(sl.past.tokens) {
		return nil
	}
	for _, p := range sl.points {
		if p.Len() == n {
			if err := sl.sess.Rewind(p); err != nil {
				return err
			}
			sl.forgetAfter(n)
			return nil
		}
	}
	return engine.ErrPoint
}

func (sl *slot) forgetAfter(n int) {
	sl.past.truncate(n)
	sl.points = slices.DeleteFunc(sl.points, func(p *engine.Point) bool { return p.Len() > n })
	sl.saved = slices.DeleteFunc(sl.saved, func(e savedEnd) bool { return e.at > n })
	sl.hidden, sl.thought = false, false
}

// wipe empties the session and forgets it.
func (sl *slot) wipe() {
	if sl.sess != nil {
		sl.sess.Reset()
	}
	sl.clear()
}

// clear forgets everything that is known of the session; the caller empties the
// session itself. Tokens, points and bindings to the store go together.
func (sl *slot) clear() {
	sl.past, sl.points, sl.saved, sl.continued = history{}, nil, nil, 0
	sl.hidden, sl.thought = false, false
}

// keep remembers the present position.
func (sl *slot) keep() {
	if n := len(sl.points); n > 0 && sl.points[n-1].Len() == sl.sess.Len() {
		return
	}
	if len(sl.points) == maxPoints {
		sl.points = slices.Delete(sl.points, 0, 1)
	}
	sl.points = append(sl.points, sl.sess.Keep())
}
