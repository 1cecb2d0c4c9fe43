package run

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"ds4/reports"
	"ds4/scenarios"
)

const growing = caseHead + `steps:
  - start: {}
  - repeat:
      times: 6
      for: 1ms
      steps:
        - chat: {prompt: {corpus: chat, tokens: 20, fresh: true}}
        - mark: {as: warm, pass: 2}
expect: [{outcome: recovered}, {growth: {name: fake_held, since: warm, at_most: 0}}]
`

// What a server holds may not grow between a mark and the end; what is garbage at
// one moment may be gone at the next.
func TestGrowth(t *testing.T) {
	if res := replay(t, "good", growing); res.Verdict != reports.Pass {
		t.Errorf("%s %v", res.Verdict, res.Failures)
	}
	res := replay(t, "grows", growing)
	if all := strings.Join(res.Failures, "\n"); res.Verdict != reports.Fail || !strings.Contains(all, "fake_held grew by ") {
		t.Errorf("%s %s", res.Verdict, all)
	}
}

// A mark says nothing about another process, and one whose pass did not come
// nothing at all.
func TestGrowthNeedsItsMark(t *testing.T) {
	for says, text := range map[string]string{
		"its pass did not come":            strings.Replace(growing, "pass: 2", "pass: 50", 1),
		"is not the one that runs":         strings.Replace(growing, "expect:", "  - signal: {kill: KILL}\n  - start: {}\nexpect:", 1),
		"no sample is named no_such_thing": strings.Replace(growing, "fake_held", "no_such_thing", 1),
	} {
		res := replay(t, "good", text)
		if all := strings.Join(res.Failures, "\n"); res.Verdict != reports.Fail || !strings.Contains(all, says) {
			t.Errorf("want %q, got %s %s", says, res.Verdict, all)
		}
	}
}

// TestFor: the time is shared out, a repeat with a time is stretched, and other
// scenarios are repeated; each runs once at least.
func TestFor(t *testing.T) {
	stretched, err := scenarios.Load([]byte(growing), "a.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := caseHead + "steps: [{start: {}}, {chat: {prompt: {text: hi}}}]\nexpect: [{outcome: recovered}]\n"
	repeated, err := scenarios.Load([]byte(strings.Replace(text, "id: case", "id: other", 1)), "b.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		time time.Duration
		want string // pattern of repetitions
	}{{time.Nanosecond, "case 1 other 1"}, {4 * time.Second, "case 1 other many"}} {
		counts := map[string]int{}
		start := time.Now()
		_, err := Run(context.Background(), Options{
			Server: os.Args[0], Scenarios: []*scenarios.Scenario{stretched, repeated}, Seed: 1, For: c.time,
			WorkDir: t.TempDir(), ServerEnv: modeEnv("good"),
			OnResult: func(r *reports.Result) error {
				counts[r.Scenario]++
				if r.Verdict != reports.Pass {
					t.Errorf("%s: %v", r.Scenario, r.Failures)
				}
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		many := fmt.Sprint(counts["other"])
		if counts["other"] > 1 {
			many = "many"
		}
		if got := fmt.Sprintf("case %d other %s", counts["case"], many); got != c.want || time.Since(start) < c.time/2 {
			t.Errorf("for %s: %s in %s, want %s", c.time, got, time.Since(start), c.want)
		}
	}
}
