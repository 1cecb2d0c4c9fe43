package failpoint

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kind is the verb of an action.
type Kind string

// The actions of the language.
const (
	KindErr    Kind = "err"    // err or err(TEXT): fail with exactly this text
	KindMetal  Kind = "metal"  // metal(CODE[,TEXT][,effect=..][,sticky=..]): a Metal command buffer error
	KindShort  Kind = "short"  // short(N) or short(P%): only so many of the bytes arrive
	KindENOSPC Kind = "enospc" // fail as a full disk does
	KindEIO    Kind = "eio"    // fail as a broken disk does
	KindEACCES Kind = "eacces" // fail as a forbidden file does
	KindFlip   Kind = "flip"   // flip(OFF): invert the lowest bit of the byte at this offset
	KindZero   Kind = "zero"   // zero(OFF,N): clear N bytes from this offset
	KindDelay  Kind = "delay"  // delay(D): go on after this time
	KindHang   Kind = "hang"   // hang or hang(D): stand still until Disarm, or for this time
	KindKill9  Kind = "kill9"  // SIGKILL to the own process
	KindPanic  Kind = "panic"  // panic in the caller
	KindSkew   Kind = "skew"   // skew(D): once, and from then on, the clock is wrong by D, which may be negative
	KindLie    Kind = "lie"    // say that it was done, and do nothing; not for points
)

var kinds = []Kind{KindEACCES, KindDelay, KindEIO, KindENOSPC, KindErr, KindFlip,
	KindHang, KindKill9, KindMetal, KindPanic, KindShort, KindSkew, KindZero}

// Effects of a Metal error: what of the failed command buffer was executed.
var metalEffects = []string{"none", "all", "partial", "scramble"}

// What stays broken after a Metal error.
var metalSticky = []string{"no", "queue", "device", "process"}

// MetalCodes are the names that metal(CODE) accepts besides numbers.
var MetalCodes = map[string]int{
	"Internal": 1, "Timeout": 2, "PageFault": 3, "AccessRevoked": 4, "NotPermitted": 7,
	"OutOfMemory": 8, "InvalidResource": 9, "Memoryless": 10, "DeviceRemoved": 11, "StackOverflow": 12,
}

// Action is what happens when a rule fires.
type Action struct {
	Kind   Kind
	Text   string        // err, metal; may be empty
	Offset int64         // flip, zero
	Count  int64         // zero: bytes; short: bytes or percent
	Pct    bool          // short: Count is a percentage
	Delay  time.Duration // delay, hang, skew; 0 for hang: until Disarm
	Code   string        // metal: name or number as written
	Effect string        // metal: one of none, all, partial, scramble, or empty
	Sticky string        // metal: one of no, queue, device, process, or empty
}

// Touches reports whether an action that works on bytes has something to do with
// n bytes from offset at on; every other action does.
func (a Action) Touches(at int64, n int) bool {
	end := at + int64(n)
	switch a.Kind {
	case KindFlip:
		return a.Offset >= at && a.Offset < end
	case KindZero:
		return a.Offset < end && at < a.Offset+min(a.Count, end)
	case KindShort:
		return a.Keep(n) < n
	}
	return true
}

// Damage carries out flip and zero on data that lies at offset at.
func (a Action) Damage(at int64, data []byte) {
	switch a.Kind {
	case KindFlip:
		data[a.Offset-at] ^= 1
	case KindZero:
		from := max(a.Offset-at, 0)
		to := min(a.Offset+min(a.Count, at+int64(len(data)))-at, int64(len(data)))
		clear(data[from:to])
	}
}

// Keep returns how many of n bytes a short action lets arrive.
func (a Action) Keep(n int) int { return Share(a.Count, a.Pct, n) }

// Share returns count, or count percent, of n bytes; at most n.
func Share(count int64, pct bool, n int) int {
	if pct {
		return int(int64(n) * count / 100)
	}
	return int(min(count, int64(n)))
}

// CodeNumber returns the MTLCommandBufferError number of a metal action.
func (a Action) CodeNumber() (int, error) {
	if n, ok := MetalCodes[a.Code]; ok {
		return n, nil
	}
	n, err := strconv.Atoi(a.Code)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: metal code %q; known: %s, or a number", ErrSyntax, a.Code, strings.Join(codeNames(), " "))
	}
	return n, nil
}

// String prints the action as Parse reads it.
func (a Action) String() string {
	arg := ""
	switch a.Kind {
	case KindErr:
		arg = a.Text
	case KindMetal:
		arg = a.Code
		if a.Text != "" {
			arg += "," + a.Text
		}
		if a.Effect != "" {
			arg += ",effect=" + a.Effect
		}
		if a.Sticky != "" {
			arg += ",sticky=" + a.Sticky
		}
	case KindShort:
		arg = strconv.FormatInt(a.Count, 10)
		if a.Pct {
			arg += "%"
		}
	case KindFlip:
		arg = strconv.FormatInt(a.Offset, 10)
	case KindZero:
		arg = fmt.Sprintf("%d,%d", a.Offset, a.Count)
	case KindDelay, KindHang, KindSkew:
		if a.Delay != 0 {
			arg = a.Delay.String()
		}
	}
	if arg == "" {
		return string(a.Kind)
	}
	return string(a.Kind) + "(" + arg + ")"
}

// Rule arms one point. The zero value of a trigger means that it does not
// restrict. All triggers of a rule must hold: first match, n and after choose
// the hits that count, then nth, every or prob choose among those, and times
// bounds how often the rule fires.
type Rule struct {
	Point  string
	Action Action

	N     int    // only hits with this Scope.N
	After int64  // only hits with Scope.N at or beyond it
	Match string // disk, memory, cold, entry, range, entry(PREFIX), range(PREFIX)

	Trigger
}

// String prints the rule in its one canonical form; Parse reads it back to an
// equal Rule.
func (r Rule) String() string {
	var b strings.Builder
	b.WriteString(r.Point)
	switch {
	case r.N > 0:
		fmt.Fprintf(&b, "(n=%d)", r.N)
	case r.After > 0:
		fmt.Fprintf(&b, "(after=%d)", r.After)
	}
	b.WriteByte('=')
	b.WriteString(r.Action.String())
	b.WriteString(r.Trigger.String())
	if r.Match != "" {
		b.WriteString(":match=" + r.Match)
	}
	return b.String()
}

// ArmedLine is the log line of a rule that was armed. Whoever executes a rule
// writes it, so that a harness finds the same line for every point.
func (r Rule) ArmedLine() string { return ArmedLine(r.String()) }

// FiredLine is the log line of the n-th time that a rule fired. It must be
// written before the action happens.
func (r Rule) FiredLine(n int) string { return FiredLine(r.String(), n) }

// ArmedLine is Rule.ArmedLine for a rule of any kind, printed.
func ArmedLine(rule string) string { return fmt.Sprintf("fault armed rule=%q", rule) }

// FiredLine is Rule.FiredLine for a rule of any kind, printed.
func FiredLine(rule string, n int) string { return fmt.Sprintf("fault fired rule=%q n=%d", rule, n) }

// matches reports whether a scope passes match, n and after.
func (r *Rule) matches(s Scope) bool {
	if r.N > 0 && s.N != int64(r.N) {
		return false
	}
	if r.After > 0 && s.N < r.After {
		return false
	}
	switch word, arg := splitCall(r.Match); word {
	case "":
		return true
	case "entry":
		return s.Entry != "" && strings.HasPrefix(s.Entry, arg)
	case "range":
		return s.Range != "" && strings.HasPrefix(s.Range, arg)
	default:
		return s.Source == word
	}
}

// splitCall splits "word(arg)"; arg is empty without parentheses.
func splitCall(s string) (word, arg string) {
	word, rest, ok := strings.Cut(s, "(")
	if !ok {
		return s, ""
	}
	return word, strings.TrimSuffix(rest, ")")
}
