package config

import (
	"fmt"
	"slices"
	"strings"

	"ds4/runtime/failpoint"
)

const maxFaultRules = 256

// UnsafeSwitches lists the words of --unsafe. Each takes one safeguard away, so
// that the harness can show that it would notice. The packages that own the
// safeguards know the words, too.
var UnsafeSwitches = []string{
	"recovery-off",     // no failure ladder
	"no-checksum",      // segments are not verified
	"no-inflight",      // no marker before a restore
	"no-rename",        // segments are written under their final name
	"no-convict",       // guilty segments stay in use
	"no-fsync",         // nothing is made durable
	"touch-in-place",   // a hit writes the segment again
	"dead-session",     // a failed session stays on offer
	"no-quarantine",    // bad segments stay where they are
	"delete-on-cancel", // who hangs up costs the cached prefix
	"delete-on-outage", // who fails first is guilty, not the device
	"restore-live",     // a restore overwrites a live session
	"retry-forever",    // no limit to failures of one context range
	"trust-length",     // a declared length is allocated
	"accept-stale",     // segments of any model are taken
	"no-sweep",         // leftovers of dead writers stay
	"no-budget",        // only good segments count
	"no-shutdown-save", // live sessions are lost at shutdown
	"no-backoff",       // a failing disk is tried at every save
	"consume-on-hit",   // a restored segment is removed
	"wipe-at-start",    // nothing survives a restart
	"no-pin",           // making room costs what is wanted next
	"no-rewind",        // rows beyond a shared prefix stay
	"no-deadline",      // a restore may take for ever
	"hide-trouble",     // health does not mention the disk cache
	"trust-clock",      // segments from the future, or older than a month, are stale
	"drop-orphans",     // a missing segment costs those behind it
	"no-trim",          // start does not evict down to the budget
	"process-identity", // the cache identity is that of the process
	"strict-tokens",    // what was sampled is never found again
	"loose-rewind",     // a session is continued beyond what the prompt shares with it
	"cold-only",        // prompts that reused something are not stored
	"store-twice",      // what is stored is stored again
	"evict-oldest",     // the oldest segment goes first, whatever needs it
	"share-buffers",    // a save reuses the memory of the one before
	"no-frontier",      // a restore leaves unfinished windows out
	"no-reopen",        // a cache folder that goes away is not noticed
	"no-shrink",        // a full disk costs new segments, not old ones
	"blame-all",        // who shares a failed pass is guilty of it
	"oldest-session",   // the session unused for longest makes room, whatever it holds
	"forget-calls",     // tool calls are rendered anew from what the client sends
	"leak-goroutines",  // that of a request whose client has gone stays
	"leak-files",       // restored segments stay open
	"obey-cut-calls",   // a block of tool calls that was cut is handed out as if it were whole
	"leak-memory",      // places in conversations to come back to are never dropped
	"wait-for-disk",    // what saves a segment waits until it is written
	"status-in-stream", // a failure after the headers is written as a response of its own
	"no-keepalive",     // a stream is silent while there is no text
	"ignore-hangup",    // clients that have gone are answered to the end
}

// Faults holds the hooks for fault injection. They take effect only in a process
// whose environment has DS4_ENABLE_FAULTS=1.
type Faults struct {
	Rules     []failpoint.Rule
	Unsafe    []string
	MetalPlan string // of DS4_METAL_FAULT
}

// AddFaults registers the settings of Faults. They exist as flags only: an
// environment or a file must not be able to break a server by itself.
func (s *Set) AddFaults(f *Faults) {
	rules := List(s, &f.Rules, "fault", "", maxFaultRules, failpoint.Parse, failpoint.Rule.String,
		"arm a fault `RULE`; refused unless "+EnableFaultsEnv+"=1")
	rules.flagOnly = true
	unsafe := Var(s, &f.Unsafe, "unsafe", "", nil, parseUnsafe, func(list []string) string { return strings.Join(list, ",") },
		"switch off safeguards, `LIST`")
	unsafe.flagOnly, unsafe.hidden = true, true
}

func parseUnsafe(text string) ([]string, error) {
	var list []string
	for word := range strings.SplitSeq(text, ",") {
		if !slices.Contains(UnsafeSwitches, word) {
			return nil, fmt.Errorf("%q is unknown, want %s", clip(word), strings.Join(UnsafeSwitches, ", "))
		}
		list = append(list, word)
	}
	return list, nil
}

// Has reports whether a switch of --unsafe was given.
func (f *Faults) Has(name string) bool { return slices.Contains(f.Unsafe, name) }

// Allow reads DS4_METAL_FAULT and refuses every hook that is asked for while
// the environment does not enable them.
func (f *Faults) Allow(environ []string) error {
	env := environment(environ)
	f.MetalPlan = env[MetalFaultEnv]
	if env[EnableFaultsEnv] == "1" {
		return nil
	}
	switch {
	case len(f.Rules) > 0:
		return fmt.Errorf("flag --fault: %w", ErrFaultsOff)
	case len(f.Unsafe) > 0:
		return fmt.Errorf("flag --unsafe: %w", ErrFaultsOff)
	case f.MetalPlan != "":
		return fmt.Errorf("environment %s: %w", MetalFaultEnv, ErrFaultsOff)
	}
	return nil
}
