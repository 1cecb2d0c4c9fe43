package cli

import (
	"regexp"
	"strings"
	"testing"

	"ds4/faults/explore"
)

// A server owes what it had said before the power cut, and no more.
func TestOwed(t *testing.T) {
	e := exploredServer{promises: []promise{{10, 128}, {30, 256}, {20, 64}}}
	for point, want := range map[int]int64{0: 0, 9: 0, 10: 128, 25: 128, 30: 256, 99: 256} {
		if got := e.owed(&explore.State{Point: point}); got != want {
			t.Errorf("after %d operations %d tokens are owed, want %d", point, got, want)
		}
	}
}

// The default patterns are about lines that a ds4 server writes.
func TestExploredLines(t *testing.T) {
	damage, stored := regexp.MustCompile(damageWords), regexp.MustCompile(storedWords)
	for line, bad := range map[string]bool{
		"kv recovery scanned=3 ok=3 stale=0 corrupt=0 orphan=0":           false,
		"kv recovery scanned=3 ok=2 stale=0 corrupt=1 orphan=0":           true,
		"kv cache quarantined key=5f9c why=torn tokens=0":                 true,
		"kv cache stored tokens=128 trimmed=0 reason=continued key=a3af9": false,
	} {
		if damage.MatchString(line) != bad {
			t.Errorf("%q counts as damage: %t", line, !bad)
		}
	}
	if m := stored.FindStringSubmatch("kv cache stored tokens=128 trimmed=0"); len(m) != 2 || m[1] != "128" {
		t.Errorf("stored: %v", m)
	}
	if text := strings.Join(exploredFlags, " "); !strings.Contains(text, kvWord) {
		t.Errorf("%s has no place for the directory", text)
	}
}
