package cli

import (
	"encoding/binary"
	"math"
	"time"

	"ds4/runtime/chat"
	"ds4/runtime/config"
	"ds4/runtime/kvstore"
	"ds4/runtime/scheduler"
)

// What --unsafe takes away. The harness alone uses it, to prove that its
// scenarios notice.

func storeUnsafe(f *config.Faults) kvstore.Unsafe {
	return kvstore.Unsafe{
		NoChecksum: f.Has(config.UnsafeNoChecksum), NoInflight: f.Has(config.UnsafeNoInflight),
		NoRename: f.Has(config.UnsafeNoRename), NoConvict: f.Has(config.UnsafeNoConvict),
		NoSync: f.Has(config.UnsafeNoFsync), NoQuarantine: f.Has(config.UnsafeNoQuarantine),
		NoSweep: f.Has(config.UnsafeNoSweep), NoBudget: f.Has(config.UnsafeNoBudget),
		NoBackoff: f.Has(config.UnsafeNoBackoff), TouchInPlace: f.Has(config.UnsafeTouchInPlace),
		TrustLength: f.Has(config.UnsafeTrustLength), ConsumeOnHit: f.Has(config.UnsafeConsumeOnHit),
		WipeAtStart: f.Has(config.UnsafeWipeAtStart), NoPin: f.Has(config.UnsafeNoPin),
		StoreTwice: f.Has(config.UnsafeStoreTwice), EvictOldest: f.Has(config.UnsafeEvictOldest),
		ShareBuffers: f.Has(config.UnsafeShareBuffers), NoFrontier: f.Has(config.UnsafeNoFrontier),
	}
}

func schedulerUnsafe(f *config.Faults) scheduler.Unsafe {
	return scheduler.Unsafe{
		RecoveryOff: f.Has(config.UnsafeRecoveryOff), DeadSession: f.Has(config.UnsafeDeadSession),
		DeleteOnCancel: f.Has(config.UnsafeDeleteOnCancel), DeleteOnOutage: f.Has(config.UnsafeDeleteOnOutage),
		RestoreLive: f.Has(config.UnsafeRestoreLive), NoRewind: f.Has(config.UnsafeNoRewind),
		NoShutdownSave: f.Has(config.UnsafeNoShutdownSave), HideTrouble: f.Has(config.UnsafeHideTrouble),
		StrictTokens: f.Has(config.UnsafeStrictTokens), LooseRewind: f.Has(config.UnsafeLooseRewind), ColdOnly: f.Has(config.UnsafeColdOnly),
	}
}

// identity is what segments must have been written with to be of use, unless
// anything will do, or nothing.
func (s *stack) identity(f *config.Faults) [32]byte {
	if f.Has(config.UnsafeAcceptStale) {
		return [32]byte{1}
	}
	id := s.eng.Identity(s.tok.Fingerprint(), chat.TemplateRevision)
	if f.Has(config.UnsafeProcessIdentity) {
		binary.LittleEndian.PutUint64(id[:], uint64(time.Now().UnixNano()))
	}
	return id
}

// restoreMin is the least time that a restore may take; 0 means the default.
func restoreMin(f *config.Faults) time.Duration {
	if f.Has(config.UnsafeNoDeadline) {
		return math.MaxInt64
	}
	return 0
}

// failureLimit is how often a context range may fail in a row.
func failureLimit(o stackOptions) int {
	if o.faults.Has(config.UnsafeRetryForever) {
		return math.MaxInt
	}
	return o.recovery.PrefillFailureLimit
}
