package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestLadder is a list of stories. A step is "fail disk|cold|memory
// [decode]", "ok cold|reuse [decode]", "wait DURATION" or "canary"; want is what
// the ladder answers.
func TestLadder(t *testing.T) {
	type step struct{ do, want string }
	for _, tc := range []struct {
		name  string
		limit int
		steps []step
	}{
		{"a poisoned chain is convicted by a cold success", 3, []step{
			{"plan", "attempt=1"},
			{"fail disk", "attempt=1 withhold=[a b] withheld=2 retry"},
			{"plan", "attempt=2 cold"},
			{"ok cold", "convict=[a b]"},
			{"plan", "attempt=1"},
		}},
		{"cold fails too: the chain is acquitted", 3, []step{
			{"fail disk", "attempt=1 withhold=[a b] withheld=2 retry"},
			{"fail cold", "attempt=2 withheld=2"},
			{"plan", "attempt=3 cold fresh"},
			{"ok cold", "release=[a b]"},
			{"plan", "attempt=1"},
		}},
		{"the limit clears the context and a recovered device acquits", 3, []step{
			{"fail disk", "attempt=1 withhold=[a b] withheld=2 retry"},
			{"fail cold", "attempt=2 withheld=2"},
			{"fail cold", "attempt=3 withheld=2 clear outage"},
			{"canary", "release=[a b]"},
			{"plan", "attempt=1 cold fresh"},
			{"ok cold", ""},
			{"plan", "attempt=1"},
		}},
		{"limit one: the next cold success convicts", 1, []step{
			{"fail disk", "attempt=1 withhold=[a b] withheld=2 clear outage"},
			{"canary", ""},
			{"plan", "attempt=1 cold fresh"},
			{"ok cold", "convict=[a b]"},
		}},
		{"no disk: nothing is withheld, nothing is retried", 3, []step{
			{"fail cold", "attempt=1"},
			{"plan", "attempt=2"},
			{"fail memory", "attempt=2"},
			{"plan", "attempt=3 cold fresh"},
			{"ok cold", ""},
			{"plan", "attempt=1"},
		}},
		{"a success that reused something proves nothing about the chain", 3, []step{
			{"fail disk", "attempt=1 withhold=[a b] withheld=2 retry"},
			{"ok reuse", ""},
			{"plan", "attempt=1 cold"},
			{"ok cold", "convict=[a b]"},
		}},
		{"a chain that failed in decode is judged after a cold decode", 3, []step{
			{"fail disk decode", "attempt=1 withhold=[a b] withheld=2 retry"},
			{"ok cold", ""},
			{"plan", "attempt=2 cold"},
			{"ok cold decode", "convict=[a b]"},
			{"plan", "attempt=1"},
		}},
		{"prefill successes do not hide a decode that always fails", 3, []step{
			{"fail cold decode", "attempt=1"},
			{"ok cold", ""},
			{"fail cold decode", "attempt=2"},
			{"ok cold", ""},
			{"fail cold decode", "attempt=3 clear outage"},
		}},
		{"a streak is forgotten after the window, probation is not", 3, []step{
			{"fail disk", "attempt=1 withhold=[a b] withheld=2 retry"},
			{"wait 10m", ""},
			{"plan", "attempt=2 cold"},
			{"wait 1s", ""},
			{"plan", "attempt=1 cold"},
			{"ok cold", "convict=[a b]"},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLadder(tc.limit, 10*time.Minute)
			now := time.Unix(1000, 0)
			for i, s := range tc.steps {
				if got := playLadder(l, &now, s.do); got != s.want {
					t.Fatalf("step %d %q: got %q, want %q", i+1, s.do, got, s.want)
				}
			}
		})
	}
}

func playLadder(l *ladder, now *time.Time, do string) string {
	has := func(w string) bool { return strings.Contains(do, w) }
	st := stagePrefill
	if has("decode") {
		st = stageDecode
	}
	var out []string
	say := func(on bool, format string, args ...any) {
		if on {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	switch verb, rest, _ := strings.Cut(do, " "); verb {
	case "plan":
		p := l.plan("r", *now)
		say(true, "attempt=%d", p.attempt)
		say(p.cold, "cold")
		say(p.fresh, "fresh")
	case "fail":
		f := failure{rangeKey: "r", stage: st, cold: has("cold")}
		if has("disk") {
			f.chain = []string{"a", "b"}
		}
		v, _ := l.fail(f, *now)
		say(true, "attempt=%d", v.attempt)
		say(v.withhold != nil, "withhold=%v", v.withhold)
		say(v.withheld > 0, "withheld=%d", v.withheld)
		say(v.clear, "clear")
		say(v.outage, "outage")
		say(v.retryCold, "retry")
	case "ok":
		a := l.succeed("r", st, has("cold"))
		say(a.convict != nil, "convict=%v", a.convict)
		say(a.release != nil, "release=%v", a.release)
	case "canary":
		r := l.recovered()
		say(r != nil, "release=%v", r)
	case "wait":
		d, err := time.ParseDuration(rest)
		if err != nil {
			panic(err)
		}
		*now = now.Add(d)
	default:
		panic("unknown step " + do)
	}
	return strings.Join(out, " ")
}

func TestLadderOutage(t *testing.T) {
	now := time.Unix(1000, 0)
	fail := func(l *ladder, key string) bool {
		v, _ := l.fail(failure{rangeKey: key, cold: true}, now)
		return v.outage
	}
	l := newLadder(3, time.Minute)
	if fail(l, "a") || fail(l, "b") || fail(l, "b") {
		t.Fatal("two ranges are not an outage")
	}
	if !fail(l, "c") {
		t.Fatal("three ranges within a minute are one")
	}
	l = newLadder(3, time.Minute)
	fail(l, "a")
	fail(l, "b")
	l.succeed("a", stagePrefill, true)
	if fail(l, "c") {
		t.Fatal("a range that succeeded still counts as failing")
	}
	l = newLadder(3, time.Hour)
	fail(l, "a")
	now = now.Add(outageWindow + 1)
	fail(l, "b")
	if fail(l, "c") {
		t.Fatal("a failure of long ago counts")
	}
}

func TestLadderTableIsBounded(t *testing.T) {
	l := newLadder(3, time.Minute)
	now := time.Unix(0, 0)
	var evicted []string
	for i := range maxRanges + 2 {
		_, out := l.fail(failure{rangeKey: fmt.Sprint(i), chain: []string{fmt.Sprint("seg", i)}}, now)
		evicted = append(evicted, out...)
		l.plan("0", now) // in use: must not go
	}
	if diff := cmp.Diff([]string{"seg1", "seg2"}, evicted); diff != "" {
		t.Error(diff)
	}
	if n := l.lru.Len(); n != maxRanges || len(l.ranges) != n {
		t.Errorf("table holds %d ranges, map %d, limit %d", n, len(l.ranges), maxRanges)
	}
}

// TestLadderBound checks the promise that clients rely on, over random devices:
// between two successes of a range, canaries included, at most limit attempts
// reach the device, and no chain is tried twice while it is on probation.
func TestLadderBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		l := newLadder(limit, time.Hour)
		now := time.Unix(0, 0)
		var b breaker
		attempts, withheld := 0, false
		for range rapid.IntRange(1, 60).Draw(t, "requests") {
			now = now.Add(time.Duration(rapid.IntRange(0, 9).Draw(t, "seconds")) * time.Second)
			if b.open {
				if b.due(now) {
					ok := rapid.Bool().Draw(t, "canary")
					b.result(ok, now)
					if ok {
						if l.recovered() != nil {
							withheld = false
						}
						attempts = 0
					}
				}
				continue
			}
			p := l.plan("r", now)
			chain := []string{"a"}
			if p.cold || withheld {
				chain = nil
			}
			attempts++
			if attempts > limit {
				t.Fatalf("attempt %d, limit %d", attempts, limit)
			}
			if rapid.Bool().Draw(t, "works") {
				a := l.succeed("r", stagePrefill, p.cold || chain == nil)
				withheld = withheld && a.release == nil
				attempts = 0
				continue
			}
			v, _ := l.fail(failure{rangeKey: "r", chain: chain, cold: chain == nil}, now)
			withheld = withheld || v.withhold != nil
			if v.outage {
				b.trip("test", now)
			}
			if v.clear != (attempts == limit) {
				t.Fatalf("clear=%v after %d attempts, limit %d", v.clear, attempts, limit)
			}
		}
	})
}

func TestBreakerSchedule(t *testing.T) {
	var b breaker
	now := time.Unix(0, 0)
	if b.due(now) || b.retryAfter(now) != 0 {
		t.Fatal("a closed breaker sends canaries")
	}
	if !b.trip("x", now) || b.trip("y", now) || b.reason != "x" {
		t.Fatal("trip opens once and keeps the first reason")
	}
	for i, want := range []time.Duration{5, 10, 20, 40, 60, 60} {
		want *= time.Second
		if got := b.retryAfter(now); got != want {
			t.Fatalf("canary %d: after %v, want %v", i+1, got, want)
		}
		if b.due(now.Add(want - 1)) {
			t.Fatalf("canary %d is early", i+1)
		}
		now = now.Add(want)
		if !b.due(now) {
			t.Fatalf("canary %d is late", i+1)
		}
		b.result(false, now)
	}
	if b.result(true, now); b.open {
		t.Fatal("a canary that passes closes the breaker")
	}
}
