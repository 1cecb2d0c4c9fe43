package scheduler

import (
	"container/list"
	"slices"
	"time"
)

// The ladder decides what follows from the failures of one context range. It is
// a state machine without clock, engine or store: the worker tells it what
// happened and carries out its verdicts.
//
// Blame is decided by difference. A stored chain failed and a later cold prefill
// of the same range succeeded: the chain is guilty. The cold prefill failed too:
// the device is the suspect and no file is touched.

const (
	// maxRanges bounds the table of failing ranges; the one unused for longest goes.
	maxRanges = 1024
	// freshStreak failures in a row: the next attempt gets a new session object and
	// nothing from memory or disk.
	freshStreak = 2
	// Ranges that fail within outageWindow to be called an outage of the device.
	outageRanges = 3
	outageWindow = 60 * time.Second
)

// stage is the part of a request that failed, or succeeded.
type stage int

const (
	stagePrefill stage = iota
	stageDecode
)

// plan says how the next attempt of a range may be made.
type plan struct {
	attempt int  // 1-based, in the present streak
	cold    bool // reuse nothing, neither live sessions nor the disk
	fresh   bool // in a new session object
}

// failure is what the worker saw.
type failure struct {
	rangeKey string
	stage    stage
	chain    []string // segments that the state came from, oldest first; nil if none
	cold     bool     // nothing at all was reused
}

// verdict is what the worker must do about a failure.
type verdict struct {
	attempt   int      // failures of the range in a row, this one included
	withhold  []string // put on probation: offer these segments to nobody
	retryCold bool     // the same request may try once more, cold
	clear     bool     // the limit is reached
	withheld  int      // segments of the range on probation now
	outage    bool     // open the breaker
}

// acquittal is what the worker must do about a success, or a recovered device.
type acquittal struct {
	convict []string // guilty chain, oldest segment first
	release []string // on probation for nothing: offer them again
}

type rangeState struct {
	key    string
	streak int
	last   time.Time // of the last failure
	stage  stage     // of the last failure: only a success as late as that ends the streak
	// suspects is the chain on probation, nil if none, found wanting in suspectStage.
	suspects     []string
	suspectStage stage
	coldFailed   bool // since then a cold attempt failed too
	cleared      bool // the limit was reached: the next attempt runs cold
}

type ladder struct {
	limit  int
	window time.Duration
	ranges map[string]*list.Element // of *rangeState
	lru    list.List                // most recently used in front
	recent []rangeFailure           // at most one per range, oldest first
}

type rangeFailure struct {
	key string
	at  time.Time
}

func newLadder(limit int, window time.Duration) *ladder {
	return &ladder{limit: limit, window: window, ranges: map[string]*list.Element{}}
}

// plan tells how the next attempt of the range may be made.
func (l *ladder) plan(key string, now time.Time) plan {
	st := l.get(key)
	if st == nil {
		return plan{attempt: 1}
	}
	l.expire(st, now)
	return plan{
		attempt: st.streak + 1,
		cold:    st.streak >= freshStreak || st.cleared || len(st.suspects) > 0,
		fresh:   st.streak >= freshStreak || st.cleared,
	}
}

// fail records a failure. evicted are segments whose range fell out of the table.
func (l *ladder) fail(f failure, now time.Time) (v verdict, evicted []string) {
	st := l.get(f.rangeKey)
	if st == nil {
		st, evicted = l.add(f.rangeKey)
	}
	l.expire(st, now)
	st.streak++
	st.last, st.stage = now, f.stage
	v.attempt = st.streak
	if len(f.chain) > 0 {
		v.withhold = without(f.chain, st.suspects)
		st.suspects = append(st.suspects, v.withhold...)
		st.suspectStage = max(st.suspectStage, f.stage)
	} else if f.cold && len(st.suspects) > 0 {
		st.coldFailed = true
	}
	v.withheld = len(st.suspects)
	v.clear = st.streak >= l.limit
	st.cleared = st.cleared || v.clear
	v.outage = l.isOutage(f.rangeKey, now) || v.clear
	v.retryCold = len(f.chain) > 0 && !v.outage
	return v, evicted
}

// succeed records that the range got through a stage.
func (l *ladder) succeed(key string, s stage, cold bool) acquittal {
	st := l.get(key)
	if st == nil {
		return acquittal{}
	}
	var a acquittal
	if len(st.suspects) > 0 && cold && s >= st.suspectStage {
		if st.coldFailed {
			a.release = st.suspects
		} else {
			a.convict = st.suspects
		}
		st.suspects, st.coldFailed, st.suspectStage = nil, false, stagePrefill
	}
	if s >= st.stage {
		st.streak, st.cleared = 0, false
		l.recent = slices.DeleteFunc(l.recent, func(f rangeFailure) bool { return f.key == key })
		if len(st.suspects) == 0 {
			l.remove(st)
		}
	}
	return a
}

// recovered records that a canary passed: streaks start again, and what failed
// together with a cold attempt is acquitted. Other suspects stay on probation
// until their range gets through cold.
func (l *ladder) recovered() (release []string) {
	l.recent = nil
	for e := l.lru.Front(); e != nil; e = e.Next() {
		st := e.Value.(*rangeState)
		st.streak = 0
		if st.coldFailed {
			release = append(release, st.suspects...)
			st.suspects, st.coldFailed, st.suspectStage = nil, false, stagePrefill
		}
	}
	return release
}

// forget drops everything, for a cleared store.
func (l *ladder) forget() {
	l.ranges, l.recent = map[string]*list.Element{}, nil
	l.lru.Init()
}

// failing returns the number of ranges with a streak, and the longest.
func (l *ladder) failing() (ranges, longest int) {
	for e := l.lru.Front(); e != nil; e = e.Next() {
		if n := e.Value.(*rangeState).streak; n > 0 {
			ranges++
			longest = max(longest, n)
		}
	}
	return ranges, longest
}

func (l *ladder) get(key string) *rangeState {
	e := l.ranges[key]
	if e == nil {
		return nil
	}
	l.lru.MoveToFront(e)
	return e.Value.(*rangeState)
}

// add makes room for and enters a range.
func (l *ladder) add(key string) (st *rangeState, evicted []string) {
	if l.lru.Len() >= maxRanges {
		oldest := l.lru.Back().Value.(*rangeState)
		// Their strike is on disk: a second one will catch them.
		evicted = oldest.suspects
		l.remove(oldest)
	}
	st = &rangeState{key: key}
	l.ranges[key] = l.lru.PushFront(st)
	return st, evicted
}

func (l *ladder) remove(st *rangeState) {
	l.lru.Remove(l.ranges[st.key])
	delete(l.ranges, st.key)
}

// expire forgets a streak after window without a failure. Probation stays: time
// proves nothing about a file.
func (l *ladder) expire(st *rangeState, now time.Time) {
	if now.Sub(st.last) > l.window {
		st.streak, st.cleared = 0, false
	}
}

// isOutage notes a failing range and reports whether so many different ranges
// failed of late, without a success since, that the device must be the cause.
func (l *ladder) isOutage(key string, now time.Time) bool {
	l.recent = slices.DeleteFunc(l.recent, func(f rangeFailure) bool {
		return f.key == key || now.Sub(f.at) > outageWindow
	})
	l.recent = append(l.recent, rangeFailure{key, now})
	return len(l.recent) >= outageRanges
}

// without returns the elements of list that are not in drop.
func without(list, drop []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(drop, s) {
			out = append(out, s)
		}
	}
	return out
}
