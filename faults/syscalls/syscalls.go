// Package syscalls fails the system calls of a program by rules, from outside:
// errors, short and torn writes, delays, an fsync that lies, a kill before or
// after the n-th call. It works on any Linux program, statically linked ones
// included, and needs no root: the program is started under a seccomp filter
// that hands the chosen calls to this process.
//
// It promises: a call that no rule is about is executed by the kernel as if
// nobody had looked; calls are counted over all threads and processes of a
// program, in the order in which they came; every rule says in one line that it
// was armed, and in one that it fired, before anything happens; the process that
// made a call is looked at only while it waits in that call; nothing that a
// target says is believed beyond a limit.
//
// It does not see what is no system call on a file: stores to a mapping, and
// what the kernel does by itself. io_uring is refused, and a shared writable
// mapping of a watched file is reported, because both would go unseen. If this
// process dies, targets do not hang: the calls that it was asked about fail with
// ENOSYS from then on.
//
// A program that uses Supervisor must call Main first thing, because the filter
// is installed by the program itself, started again, before it becomes the
// target.
package syscalls

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"ds4/faults"
	"ds4/runtime/failpoint"
)

var (
	// ErrUnavailable means that this host, or this user, may not do it.
	ErrUnavailable = errors.New("syscalls: not possible here")
	// ErrNoMain means that the program does not call Main.
	ErrNoMain = errors.New("syscalls: the program does not call syscalls.Main")
	// ErrRule is returned for a rule that means nothing for a system call.
	ErrRule = errors.New("syscalls: rule means nothing for a system call")
)

// Ability is something that a host may or may not allow.
type Ability string

// The abilities.
const (
	// Notify: calls are seen, their paths are known, and they can be failed,
	// delayed, or never return.
	Notify Ability = "notify"
	// Files: a call can be carried out for the target, wholly or in part, and its
	// data can be seen.
	Files Ability = "files"
)

// Abilities lists all of them.
func Abilities() []Ability { return []Ability{Notify, Files} }

// About says in a few words what an ability is.
func (a Ability) About() string {
	switch a {
	case Notify:
		return "to be asked about the system calls of a process (seccomp user notification, Linux 5.19)"
	case Files:
		return "to use the memory and the open files of a process (process_vm_readv, pidfd_getfd)"
	}
	return string(a)
}

// unavailable says why an ability is missing.
func unavailable(a Ability, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, a.About(), err)
}

// Rule is one fault of system calls. Its text is one of faults.CallRule, with the
// operations of Ops:
//
//	err(ERRNO) eio enospc eacces  the call fails with this error
//	short(N)                      of a read or write only so much is done, and said
//	flip(OFF) zero(OFF,N)         the bytes of a read or write change on their way; offsets count in the file
//	lie                           nothing is done, and success is reported
//	delay(D) hang                 it takes that long; hang: until the process is killed
//	kill9                         the process is killed
//
// With part=P% or part=N so much of a write is done before the action: a torn
// write then kill is write:part=50%:kill9. With part=100% any call is done first:
// rename:part=100%:kill9 kills after the rename.
type Rule struct{ faults.CallRule }

// ParseRule reads a rule.
func ParseRule(text string) (Rule, error) {
	r, err := faults.ParseCall(text, Ops())
	if err != nil {
		return Rule{}, err
	}
	if err := check(r); err != nil {
		return Rule{}, fmt.Errorf("%w: %q: %w", ErrRule, text, err)
	}
	return Rule{r}, nil
}

// check refuses what cannot be done to any call of the rule's operation.
func check(r faults.CallRule) error {
	if !able(r.Op, r.Action.Kind) {
		return fmt.Errorf("%s cannot happen to %s", r.Action.Kind, r.Op)
	}
	if r.Part > 0 && r.Op != OpWrite && (!r.PartPct || r.Part != wholePct) {
		return fmt.Errorf("part of a call that is no write: only part=100%%, the whole call, is known")
	}
	if r.Part > 0 {
		switch r.Action.Kind {
		case failpoint.KindShort, failpoint.KindFlip, failpoint.KindZero, failpoint.KindDelay:
			return fmt.Errorf("part and %s exclude each other", r.Action.Kind)
		}
	}
	if r.Action.Kind == failpoint.KindErr {
		if _, err := errno(r.Action.Text); err != nil {
			return err
		}
	}
	return nil
}

// wholePct is the part of a call that is all of it.
const wholePct = 100

// able says whether an action makes sense for an operation.
func able(op string, kind failpoint.Kind) bool {
	switch kind {
	case failpoint.KindFlip, failpoint.KindZero, failpoint.KindShort:
		return op == OpRead || op == OpWrite || op == faults.AnyOp
	case failpoint.KindLie:
		return !slices.Contains([]string{OpRead, OpOpen, OpCreate, OpReadDir}, op)
	}
	return true
}

// Needs says what a host must allow for the rule.
func (r Rule) Needs() []Ability {
	switch r.Action.Kind {
	case failpoint.KindShort, failpoint.KindFlip, failpoint.KindZero:
		return []Ability{Notify, Files}
	}
	if r.Part > 0 {
		return []Ability{Notify, Files}
	}
	return []Ability{Notify}
}

// maxErrno is the highest error number that Linux gives a name.
const maxErrno = 133

// errno finds an error number by its name; no name means EIO.
func errno(name string) (unix.Errno, error) {
	if name == "" {
		return unix.EIO, nil
	}
	for n := unix.Errno(1); n <= maxErrno; n++ {
		if unix.ErrnoName(n) == name {
			return n, nil
		}
	}
	return 0, fmt.Errorf("err(%s): want the name of an error number, such as EIO, EDQUOT, EROFS or EINTR", name)
}

// opsOf lists the operations that rules are about, without doubles.
func opsOf(rules []Rule) []string {
	var list []string
	for _, r := range rules {
		if r.Op == faults.AnyOp {
			return Ops()
		}
		if !slices.Contains(list, r.Op) {
			list = append(list, r.Op)
		}
	}
	return list
}

// opWords joins operations for the launcher's command line.
func opWords(ops []string) string { return strings.Join(ops, ",") }
