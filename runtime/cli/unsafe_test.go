package cli

import (
	"slices"
	"testing"

	"ds4/runtime/config"
	"ds4/runtime/kvstore"
	"ds4/runtime/scheduler"
	"ds4/runtime/server"
)

// Every word of --unsafe must take something away in exactly one place, and no
// package may wait for a word that the flag refuses.
func TestUnsafeWords(t *testing.T) {
	asked := []string{unsafeAcceptStale, unsafeNoDeadline, unsafeRetryForever, unsafeProcessIdentity, unsafeForgetCalls}
	note := func(word string) bool { asked = append(asked, word); return true }
	kvstore.UnsafeOf(note)
	scheduler.UnsafeOf(note)
	server.UnsafeOf(note)
	slices.Sort(asked)
	if twice := len(asked) - len(slices.Compact(slices.Clone(asked))); twice != 0 {
		t.Errorf("%d words are waited for in two places: %v", twice, asked)
	}
	if known := slices.Sorted(slices.Values(config.UnsafeSwitches)); !slices.Equal(known, asked) {
		t.Errorf("the flag knows\n%v, the packages wait for\n%v", known, asked)
	}
}

// A word sets its own switch, and no other.
func TestUnsafeOf(t *testing.T) {
	only := func(want string) func(string) bool { return func(word string) bool { return word == want } }
	if got := kvstore.UnsafeOf(only("no-sweep")); got != (kvstore.Unsafe{NoSweep: true}) {
		t.Errorf("%+v", got)
	}
	if got := scheduler.UnsafeOf(only("dead-session")); got != (scheduler.Unsafe{DeadSession: true}) {
		t.Errorf("%+v", got)
	}
	if got := server.UnsafeOf(only("no-keepalive")); got != (server.Unsafe{NoKeepalive: true}) {
		t.Errorf("%+v", got)
	}
	none := func(string) bool { return false }
	if kvstore.UnsafeOf(none) != (kvstore.Unsafe{}) || scheduler.UnsafeOf(none) != (scheduler.Unsafe{}) || server.UnsafeOf(none) != (server.Unsafe{}) {
		t.Error("without words something is switched off")
	}
}
