// Package faults is the vocabulary of the fault-injecting harness: what is done
// to a runtime (Op), where inside it (Rule), what its file operations meet
// (CallRule), and how the runtime answered (Outcome).
//
// The sub-packages do the damage: proc starts and kills processes, corrupt changes
// published files, proxy breaks connections, disk and root make a host bad, syscalls
// fails system calls; errfs is a file system that crashes, and explore builds what a
// power cut may leave. None of them knows the engine or the store; a runtime under
// test is a black box.
package faults

import (
	"fmt"
	"slices"
	"strings"
)

// Op names one kind of damage that comes from outside of the process.
type Op string

// The operations on a published file. Shorten and inflate forge one: what it says
// of itself is consistent, and wrong. Kill and terminate act on the process.
const (
	OpTruncate   Op = "truncate"   // cut the file at an offset
	OpFlip       Op = "flip"       // invert one bit
	OpZero       Op = "zero"       // overwrite bytes with zeroes
	OpDelete     Op = "delete"     // remove the name
	OpReplace    Op = "replace"    // other content under the same name
	OpDirectory  Op = "directory"  // a directory where the file was
	OpSubstitute Op = "substitute" // other text in place of a part of the content
	OpShorten    Op = "shorten"    // a section of a segment has a row less, and all checksums fit
	OpInflate    Op = "inflate"    // a section of a segment claims more bytes than there are, and all checksums fit
	OpKill       Op = "kill"       // SIGKILL
	OpTerminate  Op = "terminate"  // SIGTERM
)

// FileOps lists the operations on files, in the order of the documentation.
func FileOps() []Op {
	return []Op{OpTruncate, OpFlip, OpZero, OpDelete, OpReplace, OpDirectory, OpSubstitute, OpShorten, OpInflate}
}

// Outcome is how a runtime came out of a fault.
type Outcome string

const (
	// Recovered: right answers within the retry bound.
	Recovered Outcome = "recovered"
	// Degraded: right answers, but the runtime reports that a part of it is off
	// (a cache that is read-only or disabled).
	Degraded Outcome = "degraded"
	// Refused: a clear typed error, and the next request works.
	Refused Outcome = "refused"
	// Wrong: an answer differs from that of a runtime without a cache. Always fatal.
	Wrong Outcome = "wrong"
	// Stuck: a deadline passed, or the request needed more attempts than allowed.
	Stuck Outcome = "stuck"
	// Inconclusive: a fault that had to happen never did, or the lane is missing.
	Inconclusive Outcome = "inconclusive"
)

// Outcomes lists every outcome, best first.
func Outcomes() []Outcome {
	return []Outcome{Recovered, Degraded, Refused, Wrong, Stuck, Inconclusive}
}

// Good says whether a scenario may ask for the outcome: wrong, stuck and
// inconclusive are never what anybody wants.
func (o Outcome) Good() bool { return o == Recovered || o == Degraded || o == Refused }

// ParseOutcome reads an outcome; an unknown word is an error that lists all.
func ParseOutcome(s string) (Outcome, error) {
	if o := Outcome(s); slices.Contains(Outcomes(), o) {
		return o, nil
	}
	var names []string
	for _, o := range Outcomes() {
		names = append(names, string(o))
	}
	return "", fmt.Errorf("faults: unknown outcome %q (known: %s)", s, strings.Join(names, ", "))
}
