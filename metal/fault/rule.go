// Package fault forces errors out of a metal.Device: Wrap returns a device that
// behaves like the one inside it until a rule of its Plan fires.
//
// A rule says which operation fails (where, label, marker, scope, count), what
// the failure looks like (code, text), how much of the work was executed all the
// same (effect), and what stays broken afterwards (sticky). The error takes the
// road of a real one: a *metal.CommandError, after which the device is poisoned
// until Rebuild.
//
// Promises. A rule prints back as it was parsed. Each rule writes one log line
// when it is armed and one each time that it fires, before anything happens.
// Without a firing rule every call does what the inner device does. Not
// promised: that a rule fires; Plan.Counts tells.
package fault

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"ds4/metal"
)

// At is the operation that a rule makes fail.
type At int

// The operations. Commit is the default.
const (
	AtCommit   At = iota // CommandBuffer.Commit returns the error
	AtWait               // CommandBuffer.Wait returns it, as a GPU reports it
	AtAlloc              // Device.NewBuffer; label is the buffer's
	AtWrap               // Device.WrapBytes; label is the buffer's
	AtPipeline           // Device.Pipeline; label is the kernel's name
)

// Effect is how much of a failed command buffer was executed.
type Effect int

const (
	// EffectNone executes nothing.
	EffectNone Effect = iota
	// EffectAll executes everything and then reports the failure.
	EffectAll
	// EffectPartial executes the first dispatches only: Rule.First of them, else
	// those before the marker that Rule.Op matched, else half.
	EffectPartial
	// EffectScramble executes everything and then overwrites each byte that the
	// execution changed in a buffer of NewBuffer, half of them so that floats
	// become NaN. Bytes that were not written survive: metal promises as much.
	EffectScramble
)

// Sticky is what stays broken after a rule fired.
type Sticky int

const (
	// StickyNo breaks one command buffer. The device is poisoned until Rebuild.
	StickyNo Sticky = iota
	// StickyQueue fails every command buffer until RebuildQueue.
	StickyQueue
	// StickyDevice fails every command buffer until RebuildDevice.
	StickyDevice
	// StickyProcess fails every command buffer of every device of the Plan.
	StickyProcess
)

// CodeZero injects an error whose code is 0, which Rule.Code cannot say.
const CodeZero metal.Code = -1

// Rule is one way to fail. The zero value of a field does not restrict, or is
// the default named. All restrictions must hold: At to Chunk choose the
// operations that count as matches; N, Every and Prob choose among those, and
// Times bounds how often the rule fires.
type Rule struct {
	At    At
	Label string // regular expression for the label
	Op    string // regular expression for any marker of the command buffer

	Phase  string // metal.Scope.Phase, several joined by "|"
	Source string // metal.Scope.Source: disk, memory or cold
	Range  string // prefix of metal.Scope.Range; "*" for any but ""
	Entry  string // prefix of metal.Scope.Entry; "*" for any but ""
	Chunk  int    // metal.Scope.Chunk

	N     int     // only the n-th match
	Every int     // only each k-th match
	Times int     // at most so many fires
	Prob  float64 // each match with this probability, drawn ...
	Seed  uint64  // ... from a generator with this seed

	Code   metal.Code // default metal.CodeInternal
	Text   string     // the driver's message; default Code.Message()
	Effect Effect
	First  int // EffectPartial: dispatches to execute
	Sticky Sticky

	Delay time.Duration // before anything else happens
	Pass  bool          // do not fail: only count, log and delay
	Hang  bool          // AtWait: block until the context ends
	Panic bool          // panic in the caller
	Kill  bool          // SIGKILL to the own process

	// Origin is printed in log lines instead of the rule, if it was translated
	// from another language. It is no part of the rule's text.
	Origin string
}

// Limits of a plan.
const (
	MaxRules     = 64
	MaxSpecBytes = 64 << 10
	MaxDelay     = time.Hour
)

var (
	atNames     = []string{"commit", "wait", "alloc", "wrap", "pipeline"}
	effectNames = []string{"none", "all", "partial", "scramble"}
	stickyNames = []string{"no", "queue", "device", "process"}
)

// name prints an enumerated value.
func name[T ~int](names []string, v T) string {
	if v >= 0 && int(v) < len(names) {
		return names[v]
	}
	return strconv.Itoa(int(v))
}

// String is the word of the rule language.
func (a At) String() string { return name(atNames, a) }

// String is the word of the rule language.
func (e Effect) String() string { return name(effectNames, e) }

// String is the word of the rule language.
func (s Sticky) String() string { return name(stickyNames, s) }

// String prints the rule in its one canonical form, which Parse reads back.
func (r Rule) String() string {
	var b strings.Builder
	b.WriteString("at=" + r.At.String())
	put := func(key, value string, given bool) {
		if given {
			b.WriteString("," + key + "=" + quote(value))
		}
	}
	number := func(key string, n int) { put(key, strconv.Itoa(n), n != 0) }
	put("label", r.Label, r.Label != "")
	put("op", r.Op, r.Op != "")
	put("phase", r.Phase, r.Phase != "")
	put("source", r.Source, r.Source != "")
	put("range", r.Range, r.Range != "")
	put("entry", r.Entry, r.Entry != "")
	number("chunk", r.Chunk)
	number("n", r.N)
	number("every", r.Every)
	number("times", r.Times)
	put("prob", strconv.FormatFloat(r.Prob, 'g', -1, 64), r.Prob != 0)
	put("seed", strconv.FormatUint(r.Seed, 10), r.Seed != 0)
	put("code", strconv.Itoa(max(int(r.Code), 0)), r.Code != 0)
	put("text", r.Text, r.Text != "")
	put("effect", r.Effect.String(), r.Effect != 0)
	number("first", r.First)
	put("sticky", r.Sticky.String(), r.Sticky != 0)
	put("delay", r.Delay.String(), r.Delay != 0)
	put("pass", "true", r.Pass)
	put("hang", "true", r.Hang)
	put("panic", "true", r.Panic)
	put("kill", "true", r.Kill)
	return b.String()
}

// origin is the rule as log lines show it.
func (r Rule) origin() string {
	if r.Origin != "" {
		return r.Origin
	}
	return r.String()
}

// Validate reports the first reason why the rule could not work as written.
func (r Rule) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrRule, fmt.Sprintf(format, args...))
	}
	for _, e := range []string{r.Label, r.Op} {
		if _, err := regexp.Compile(e); err != nil {
			return bad("%v", err)
		}
	}
	if r.At < 0 || int(r.At) >= len(atNames) || r.Effect < 0 || int(r.Effect) >= len(effectNames) ||
		r.Sticky < 0 || int(r.Sticky) >= len(stickyNames) {
		return bad("at %v, effect %v or sticky %v is out of range", r.At, r.Effect, r.Sticky)
	}
	for _, c := range []struct {
		key string
		n   int
	}{{"chunk", r.Chunk}, {"n", r.N}, {"every", r.Every}, {"times", r.Times}, {"first", r.First}} {
		if c.n < 0 {
			return bad("%s is %d", c.key, c.n)
		}
	}
	if !(r.Prob >= 0 && r.Prob <= 1) {
		return bad("prob is %v, want 0 to 1", r.Prob)
	}
	if r.Code < CodeZero {
		return bad("code is %d", r.Code)
	}
	if r.Delay < 0 || r.Delay > MaxDelay {
		return bad("delay is %v, want 0 to %v", r.Delay, MaxDelay)
	}
	if r.Source != "" && r.Source != "disk" && r.Source != "memory" && r.Source != "cold" {
		return bad("source is %q; known: disk memory cold", r.Source)
	}
	return r.validateAction(bad)
}

// validateAction checks the combination of what happens and where.
func (r Rule) validateAction(bad func(string, ...any) error) error {
	verbs := 0
	for _, v := range []bool{r.Pass, r.Hang, r.Panic, r.Kill} {
		if v {
			verbs++
		}
	}
	command := r.At == AtCommit || r.At == AtWait
	switch {
	case verbs > 1:
		return bad("only one of pass, hang, panic and kill")
	case r.Hang && r.At != AtWait:
		return bad("hang needs at=wait: nothing could end it at %v", r.At)
	case !command && (r.Effect != EffectNone || r.Sticky != StickyNo || r.Op != ""):
		return bad("effect, sticky and op apply to command buffers, not to %v", r.At)
	case r.First != 0 && r.Effect != EffectPartial:
		return bad("first needs effect=partial")
	}
	return nil
}
