package cli

import (
	"encoding/binary"
	"math"
	"time"

	"ds4/runtime/chat"
	"ds4/runtime/config"
	"ds4/runtime/server"
)

// What --unsafe takes away. The harness alone uses it, to prove that its
// scenarios notice.

// Words of --unsafe that take effect here; kvstore and scheduler know the others.
const (
	unsafeAcceptStale     = "accept-stale"
	unsafeNoDeadline      = "no-deadline"
	unsafeRetryForever    = "retry-forever"
	unsafeProcessIdentity = "process-identity"
	unsafeForgetCalls     = "forget-calls"
)

// identity is what segments must have been written with to be of use, unless
// anything will do, or nothing.
func (s *stack) identity(f *config.Faults) [32]byte {
	if f.Has(unsafeAcceptStale) {
		return [32]byte{1}
	}
	id := s.eng.Identity(s.tok.Fingerprint(), chat.TemplateRevision)
	if f.Has(unsafeProcessIdentity) {
		binary.LittleEndian.PutUint64(id[:], uint64(time.Now().UnixNano()))
	}
	return id
}

// restoreMin is the least time that a restore may take; 0 means the default.
func restoreMin(f *config.Faults) time.Duration {
	if f.Has(unsafeNoDeadline) {
		return math.MaxInt64
	}
	return 0
}

// failureLimit is how often a context range may fail in a row.
func failureLimit(o stackOptions) int {
	if o.faults.Has(unsafeRetryForever) {
		return math.MaxInt
	}
	return o.recovery.PrefillFailureLimit
}

// forgetful remembers tool calls and never says so.
type forgetful struct{ server.CallMemory }

func (forgetful) Lookup(string) ([]byte, bool) { return nil, false }
