package faults

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"ds4/runtime/failpoint"
)

// AnyOp stands for every operation of a lane.
const AnyOp = "any"

// CallActions are what a CallRule can do to an operation on files.
var CallActions = []failpoint.Kind{failpoint.KindDelay, failpoint.KindEACCES, failpoint.KindEIO, failpoint.KindENOSPC,
	failpoint.KindErr, failpoint.KindFlip, failpoint.KindHang, failpoint.KindKill9, failpoint.KindLie,
	failpoint.KindShort, failpoint.KindZero}

// callKeys are the keys of a CallRule besides its triggers.
var callKeys = append([]string{"part", "path"}, failpoint.TriggerKeys...)

// CallRule is one fault of an operation on files, seen from outside of whoever
// asks for it: a method of a file system, or a system call.
//
//	OP{:KEY=VALUE}:ACTION
//
// as in write:path=*.kv:nth=3:part=50%:enospc. OP is a word of the lane, or any.
// Actions are those of the points, and lie: say that it was done, and do nothing.
// Keys are the triggers, path=GLOB (path.Match on the whole name or its base) and
// part=N or part=P%: so much of a read or write is done before the action.
type CallRule struct {
	Op   string
	Path string // "" matches every name
	failpoint.Trigger
	Part    int64 // bytes, or percent
	PartPct bool
	Action  failpoint.Action
}

// ParseCall reads a rule for a lane that knows these operations. An unknown word
// is an error that lists what is known.
func ParseCall(text string, ops []string) (CallRule, error) {
	var r CallRule
	parts, err := failpoint.Split(text)
	if err == nil {
		err = r.parse(parts, ops)
	}
	if err != nil {
		return CallRule{}, fmt.Errorf("faults: call rule %q: %w", text, err)
	}
	return r, nil
}

func (r *CallRule) parse(parts []string, ops []string) error {
	r.Op = parts[0]
	if r.Op != AnyOp && !slices.Contains(ops, r.Op) {
		return fmt.Errorf("unknown operation %q; known: %s %s", r.Op, AnyOp, strings.Join(ops, " "))
	}
	seen := map[string]bool{}
	for _, p := range parts[1:] {
		word := p[:len(p)-len(strings.TrimLeft(p, "abcdefghijklmnopqrstuvwxyz0123456789"))]
		isKey := slices.Contains(callKeys, word)
		if !isKey {
			if seen[""] {
				return fmt.Errorf("%q after the action %s; known keys: %s", p, r.Action, strings.Join(callKeys, " "))
			}
			var err error
			if r.Action, err = failpoint.ParseAction(p, CallActions); err != nil {
				return fmt.Errorf("%w; known keys: %s", err, strings.Join(callKeys, " "))
			}
			word = ""
		}
		if seen[word] {
			return fmt.Errorf("key %q twice", word)
		}
		seen[word] = true
		if isKey {
			if err := r.set(p, word); err != nil {
				return err
			}
		}
	}
	if !seen[""] {
		return fmt.Errorf("no action; known: %s", strings.Join(actionNames(), " "))
	}
	return r.Trigger.Check()
}

func (r *CallRule) set(text, key string) (err error) {
	value, ok := strings.CutPrefix(text, key+"=")
	switch {
	case !ok && text == "every":
		value = "1"
	case !ok:
		return fmt.Errorf("%q: key %q needs a value", text, key)
	}
	switch key {
	case "path":
		if _, err := path.Match(value, ""); err != nil || value == "" {
			return fmt.Errorf("path=%s is no pattern", value)
		}
		if strings.Contains(value, "**") {
			return fmt.Errorf("path=%s: ** matches no more than *, within one folder; a pattern without / is held against the last part of any name", value)
		}
		r.Path = value
		return nil
	case "part":
		r.Part, r.PartPct, err = failpoint.ParseShare(key, value)
		if err == nil && r.Part == 0 {
			err = fmt.Errorf("part=%s: want more than nothing", value)
		}
		return err
	}
	return r.Trigger.Set(key, value)
}

func actionNames() []string {
	var names []string
	for _, k := range CallActions {
		names = append(names, string(k))
	}
	return names
}

// String prints the rule in its one canonical form; ParseCall reads it back to an
// equal rule.
func (r CallRule) String() string {
	var b strings.Builder
	b.WriteString(r.Op)
	if r.Path != "" {
		b.WriteString(":path=" + r.Path)
	}
	b.WriteString(r.Trigger.String())
	if r.Part > 0 {
		fmt.Fprintf(&b, ":part=%d", r.Part)
		if r.PartPct {
			b.WriteByte('%')
		}
	}
	b.WriteString(":" + r.Action.String())
	return b.String()
}

// ArmedLine is the log line of a rule that was armed, as a point's.
func (r CallRule) ArmedLine() string { return failpoint.ArmedLine(r.String()) }

// FiredLine is the log line of the n-th time that it fired, as a point's.
func (r CallRule) FiredLine(n int) string { return failpoint.FiredLine(r.String(), n) }

// Matches reports whether an operation is one that the rule counts. Of a rename
// the new name counts.
func (r CallRule) Matches(op, name string) bool {
	if r.Op != AnyOp && r.Op != op {
		return false
	}
	if r.Path == "" {
		return true
	}
	whole, _ := path.Match(r.Path, name)
	base, _ := path.Match(r.Path, path.Base(name))
	return whole || base
}

// Done returns how many of n bytes are read or written before the action.
func (r CallRule) Done(n int) int { return failpoint.Share(r.Part, r.PartPct, n) }
