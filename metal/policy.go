package metal

import (
	"strings"
	"time"
)

// The recovery policy says what to do about a CommandError; the one owner of
// recovery (the scheduler) carries it out. A committed command buffer can never
// be committed again: "retry" always means to encode the step once more, and
// that needs the device's poison cleared by Rebuild first.

// Action is a set of things to do, in this order: exit; rebuild; drop state;
// fail the request or encode again.
type Action uint8

const (
	// ActReencode (A) encodes the failed step again on the same queue and state.
	ActReencode Action = 1 << iota
	// ActDropState (B) throws session state away and restores it from its last
	// checkpoint or prefills again.
	ActDropState
	// ActRebuildQueue (C) makes a new queue and pipelines: Rebuild(RebuildQueue).
	ActRebuildQueue
	// ActRebuildDevice (D) makes a new device: Rebuild(RebuildDevice).
	ActRebuildDevice
	// ActExit (E) means that nothing inside this process is expected to help. A
	// caller that has no supervisor may stay alive and refuse work instead.
	ActExit
	// ActFail fails the request instead of trying again; other requests go on.
	ActFail
)

var actionLetters = []struct {
	a Action
	s string
}{
	{ActExit, "E"}, {ActRebuildDevice, "D"}, {ActRebuildQueue, "C"}, {ActDropState, "B"}, {ActReencode, "A"}, {ActFail, "fail"},
}

// String joins the letters of the set: "C+B".
func (a Action) String() string {
	var parts []string
	for _, l := range actionLetters {
		if a&l.a != 0 {
			parts = append(parts, l.s)
		}
	}
	return strings.Join(parts, "+")
}

// Decision is the policy's answer to one error.
type Decision struct {
	Action Action
	// Wait is how long to leave the device alone before encoding again.
	Wait time.Duration
	// HalveWork asks for half as much work per command buffer from now on.
	HalveWork bool
	// FreeMemory asks for scratch and idle sessions to be released first.
	FreeMemory bool
	// RefuseAdmissions asks for new sessions to be refused until memory is freed.
	RefuseAdmissions bool
	// CheckFile asks for the size of the mapped model file to be compared: a file
	// that became shorter looks like a page fault.
	CheckFile bool
	// DisableKernel asks for the kernel that ran last never to be used again.
	DisableKernel bool
	// RefuseFallback means that this process may not use the device at all.
	// Another driver has to be chosen by the user: silently computing elsewhere,
	// a hundred times slower, is not a recovery.
	RefuseFallback bool
	// Reason is a few words for the log.
	Reason string
}

// Level is the Rebuild that the decision needs, 0 for none. A poisoned device
// takes no work at all, so even encoding again and failing one request need a
// rebuild of the queue; that one is not counted as a repair.
func (d Decision) Level() Level {
	switch {
	case d.Action&ActExit != 0 || d.RefuseFallback:
		return 0
	case d.Action&ActRebuildDevice != 0:
		return RebuildDevice
	}
	return RebuildQueue
}

// Retry reports whether the failed step should be tried again.
func (d Decision) Retry() bool { return d.Action != 0 && d.Action&(ActExit|ActFail) == 0 }

// The policy's numbers.
const (
	// MaxRebuilds is how many rebuilds (C or D) RebuildWindow may hold: when an
	// error asks for one more the decision is ActExit.
	MaxRebuilds   = 3
	RebuildWindow = 10 * time.Minute
)

// class groups the errors that get the same ladder.
type class uint8

const (
	classInternal class = iota
	classVictim
	classInteractivity
	classTimeout
	classPageFault
	classRevoked
	classNotPermitted
	classMemory
	classResource
	classRemoved
	classStack
	classCount
)

const (
	actCB = ActRebuildQueue | ActDropState
	actDB = ActRebuildDevice | ActDropState
)

// ladders is the policy: the n-th error of a class since the last success gets
// the n-th answer of its ladder, the last one again and again. Internal, victim and interactivity share their tail: a
// kind answer that did not help leads to the general one.
var ladders = [classCount][]Decision{
	classInternal: internalLadder,
	classVictim: append([]Decision{
		{Action: ActReencode, Reason: "another process made the GPU reset"},
	}, internalLadder...),
	classInteractivity: append([]Decision{
		{Action: ActReencode, Wait: 200 * time.Millisecond, HalveWork: true, Reason: "the GPU was needed to drive a display"},
		{Action: ActReencode, Wait: 600 * time.Millisecond, HalveWork: true, Reason: "the GPU was needed to drive a display again"},
		{Action: ActReencode, Wait: 2 * time.Second, HalveWork: true, Reason: "the GPU is busy driving a display"},
	}, internalLadder...),
	classTimeout: {
		{Action: actCB, HalveWork: true, Reason: "a command buffer took too long"},
		{Action: ActExit, Reason: "command buffers keep timing out"},
	},
	classPageFault: {
		{Action: actCB, CheckFile: true, Reason: "the GPU accessed memory that is not mapped"},
		{Action: ActFail, CheckFile: true, Reason: "the GPU accessed unmapped memory again: a defect of a kernel"},
	},
	classRevoked:      {{Action: ActExit, Reason: "the system ignores every further submission of this process"}},
	classNotPermitted: {{Action: ActFail, RefuseFallback: true, Reason: "this process may not use the GPU"}},
	classMemory: {
		{Action: ActReencode | ActDropState, FreeMemory: true, HalveWork: true, Reason: "not enough device memory"},
		{Action: ActFail, FreeMemory: true, RefuseAdmissions: true, Reason: "still not enough device memory"},
	},
	classResource: {
		{Action: actCB, Reason: "a resource was freed while in use: a defect"},
		{Action: ActFail, Reason: "a resource was freed while in use again: a defect"},
	},
	classRemoved: {
		{Action: actDB, Reason: "the device was removed"},
		{Action: ActExit, Reason: "the device was removed and no other works"},
	},
	classStack: {{Action: ActFail, DisableKernel: true, Reason: "a kernel overflowed its stack"}},
}

var internalLadder = []Decision{
	{Action: actCB, Reason: "internal error of the device"},
	{Action: actDB, Reason: "internal error after a new queue"},
	{Action: ActExit, Reason: "internal error after a new device"},
}

// classify finds the class of an error. Unknown codes count as internal.
func classify(e *CommandError) class {
	if e.Fatal {
		return classRevoked
	}
	switch e.Code {
	case CodeTimeout:
		return classTimeout
	case CodePageFault:
		return classPageFault
	case CodeAccessRevoked:
		return classRevoked
	case CodeNotPermitted:
		return classNotPermitted
	case CodeOutOfMemory:
		return classMemory
	case CodeInvalidResource:
		return classResource
	case CodeDeviceRemoved:
		return classRemoved
	case CodeStackOverflow:
		return classStack
	case CodeNone, CodeInternal:
		switch e.IOGPU {
		case IOGPUVictim:
			return classVictim
		case IOGPUInteractivity:
			return classInteractivity
		}
	}
	return classInternal
}

// Recoverable reports whether the policy's first answer to a code tries again
// inside this process.
func Recoverable(code Code) bool {
	return ladders[classify(&CommandError{Code: code})][0].Retry()
}

// History is what the policy remembers: the errors since the last success, and
// the recent rebuilds. The zero value has seen nothing. It is a plain value:
// Next and Success return a changed copy.
type History struct {
	errors   [classCount]uint8
	rebuilds [MaxRebuilds]time.Time // newest last; zero for none
}

// Next decides what to do about e at time now and returns the history that
// includes it. It is a pure function.
func (h History) Next(e *CommandError, now time.Time) (Decision, History) {
	c := classify(e)
	ladder := ladders[c]
	d := ladder[min(int(h.errors[c]), len(ladder)-1)]
	if int(h.errors[c]) < len(ladder) {
		h.errors[c]++
	}
	if d.Action&(ActRebuildQueue|ActRebuildDevice) == 0 {
		return d, h
	}
	// rebuilds[0] is the oldest of the last MaxRebuilds.
	if oldest := h.rebuilds[0]; !oldest.IsZero() && now.Sub(oldest) < RebuildWindow {
		return Decision{Action: ActExit, Reason: d.Reason + "; too many rebuilds in a short time"}, h
	}
	copy(h.rebuilds[:], h.rebuilds[1:])
	h.rebuilds[MaxRebuilds-1] = now
	return d, h
}

// Success records that work completed: the next error starts its ladder again.
// Rebuilds are not forgotten, so that a device that fails after every
// success still reaches the limit.
func (h History) Success() History {
	h.errors = [classCount]uint8{}
	return h
}
