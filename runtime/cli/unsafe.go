package cli

import (
	"math"

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
		TrustLength: f.Has(config.UnsafeTrustLength),
	}
}

func schedulerUnsafe(f *config.Faults) scheduler.Unsafe {
	return scheduler.Unsafe{
		RecoveryOff: f.Has(config.UnsafeRecoveryOff), DeadSession: f.Has(config.UnsafeDeadSession),
		DeleteOnCancel: f.Has(config.UnsafeDeleteOnCancel), DeleteOnOutage: f.Has(config.UnsafeDeleteOnOutage),
		RestoreLive: f.Has(config.UnsafeRestoreLive), NoShutdownSave: f.Has(config.UnsafeNoShutdownSave),
	}
}

// identity is what segments must have been written with to be of use, unless
// anything will do.
func (s *stack) identity(f *config.Faults) [32]byte {
	if f.Has(config.UnsafeAcceptStale) {
		return [32]byte{1}
	}
	return s.eng.Identity(s.tok.Fingerprint(), chat.TemplateRevision)
}

// failureLimit is how often a context range may fail in a row.
func failureLimit(o stackOptions) int {
	if o.faults.Has(config.UnsafeRetryForever) {
		return math.MaxInt
	}
	return o.recovery.PrefillFailureLimit
}
