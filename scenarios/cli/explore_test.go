package cli

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
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

// A run follows from its seed, and uses all that the generator has.
func TestExploredRuns(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(20) {
		s, err := newScript(seed, 8, 50)
		again, _ := newScript(seed, 8, 50)
		if err != nil || s.String() != again.String() || !slices.Equal(s.questions, again.questions) {
			t.Fatalf("seed %d: %v, %v, then %v", seed, err, s, again)
		}
		asked := map[int]bool{}
		for i, st := range s.steps {
			switch {
			case st.end == syscall.SIGKILL:
				seen["kill"] = true
			case st.end != 0:
				seen["restart"] = true
			case asked[st.ask]:
				seen["again"] = true
			case st.ask >= len(s.questions):
				t.Errorf("seed %d: step %d asks question %d of %d", seed, i, st.ask, len(s.questions))
			}
			if st.end == 0 {
				asked[st.ask] = true
			}
		}
		for i, q := range s.questions {
			for _, other := range s.questions[:i] {
				if n := len(other) / 4; strings.HasPrefix(q, other[:n]) {
					seen["alike"] = true
				}
			}
		}
		if len(asked) != len(s.questions) {
			t.Errorf("seed %d: %d of %d questions are asked", seed, len(asked), len(s.questions))
		}
	}
	if len(seen) != 4 {
		t.Errorf("runs have only %v", seen)
	}
	if one, err := newScript(9, 1, 50); err != nil || one.String() != "ask 1" {
		t.Errorf("a run of one request: %v, %v", one, err)
	}
}

// Each question has its own share of what must be reused.
func TestJudgeReuse(t *testing.T) {
	e := exploredServer{script: exploredScript{questions: []string{"a", "b"}}}
	whole, cut := &explore.State{Last: true}, &explore.State{Last: true, Lost: []string{"a name"}}
	if err := e.judgeReuse([]int64{128, 64}, whole); err != nil {
		t.Fatal(err)
	}
	if err := e.judgeReuse([]int64{128, 64}, cut); err != nil {
		t.Error(err)
	}
	if err := e.judgeReuse([]int64{128, 0}, cut); err == nil || !strings.Contains(err.Error(), "to question 2") {
		t.Errorf("a lost question: %v", err)
	}
}

// The default patterns are about lines that a ds4 server writes.
func TestExploredLines(t *testing.T) {
	damage, stored := regexp.MustCompile(damageWords), regexp.MustCompile(storedWords)
	for line, bad := range map[string]bool{
		"kv recovery scanned=3 ok=3 stale=0 corrupt=0 orphan=0":           false,
		"kv recovery scanned=3 ok=2 stale=0 corrupt=1 orphan=0":           true,
		"kv cache quarantined key=5f9c why=torn tokens=0":                 true,
		"kv cache quarantined key=5f9c why=corrupt tokens=0":              true,
		"kv cache quarantined key=5f9c why=poisoned tokens=128":           false,
		"kv cache strike segments=2 quarantined=0 why=\"a process died\"": false,
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

// The question of a run is shorter than what ds4 stores by itself: an example that
// does not say so explores nothing.
func TestExploreExamplesStoreSomething(t *testing.T) {
	doc, err := os.ReadFile("../../docs/syscalls.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(newExplore(nil).Example + "\n" + string(doc)) {
		if strings.Contains(line, "ds4bench explore") && strings.Contains(line, "./ds4 serve") {
			if n++; !strings.Contains(line, "--kv-cache-min-tokens 64 ") {
				t.Errorf("stores nothing: %s", line)
			}
		}
	}
	if n < 2 {
		t.Errorf("%d examples", n)
	}
}
