package run

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"ds4/faults/syscalls"
	"ds4/reports"
	"ds4/scenarios"
)

const callsHead = `id: case
title: a case
lane: syscalls
deadline: 60s
server: {args: {kv-disk-dir: $KV, kv-disk-space-mb: 1}}
steps:
  - `

func callsCase(expect string, steps ...string) string {
	return callsHead + strings.Join(steps, "\n  - ") + "\nexpect: [" + expect + "]\n"
}

// needCalls skips a test that this host does not allow.
func needCalls(t *testing.T) {
	t.Helper()
	for _, a := range syscalls.Abilities() {
		if err := syscalls.Probe(t.Context(), a); err != nil {
			t.Skip(err)
		}
	}
}

// Rules for system calls happen to the server of their start and to no other, and
// are reported like all others. The server of these tests writes one file, at its
// end.
func TestCalls(t *testing.T) {
	needCalls(t)
	res := replay(t, "good", callsCase("{outcome: recovered}, {fired: {fault: write, exactly: 3}}, {fired: {fault: 'write:path=*.kv:short(2)', exactly: 2}}",
		"start: {syscalls: ['write:path=*.kv:eio']}", "stop: {}", "expect: [{segments: {exactly: 1}}, {disk_bytes: {exactly: 0}}]",
		"start: {}", "stop: {}", "expect: [{disk_bytes: {exactly: 5}}]",
		"start: {syscalls: ['write:path=*.kv:short(2)', 'rename:eio'], may_not_fire: true}", "stop: {}",
		"expect: [{disk_bytes: {exactly: 5}}]"))
	if res.Verdict != reports.Pass {
		t.Errorf("%s %s %v", res.Verdict, res.Reason, res.Failures)
	}
	want := []reports.Fault{{Rule: "write:path=*.kv:eio", Armed: 1, Fired: 1}, {Rule: "write:path=*.kv:short(2)", Armed: 1, Fired: 2}, {Rule: "rename:eio", Armed: 1}}
	if !slices.Equal(res.Faults, want) {
		t.Errorf("faults %+v, want %+v", res.Faults, want)
	}
}

// A rule that does not fire proves nothing.
func TestCallsThatDoNotFire(t *testing.T) {
	needCalls(t)
	res := replay(t, "good", callsCase("{outcome: recovered}", "start: {syscalls: ['rename:eio']}", "stop: {}"))
	if res.Verdict != reports.Inconclusive || !strings.Contains(res.Reason, `"rename:eio" was armed and did not fire`) {
		t.Errorf("%s %q", res.Verdict, res.Reason)
	}
}

// A kill by a rule is the end of the process that a scenario waits for.
func TestCallsKill(t *testing.T) {
	needCalls(t)
	res := replay(t, "good", callsCase("{outcome: recovered}, {fired: {fault: write, exactly: 1}}",
		"start: {syscalls: ['write:path=*.kv:part=60%:kill9']}", "signal: {kill: TERM}", "wait: {exit: true}",
		"expect: [{disk_bytes: {exactly: 3}}, {segments: {exactly: 1}}]", "start: {}", "stop: {}"))
	if res.Verdict != reports.Pass {
		t.Errorf("%s %s %v", res.Verdict, res.Reason, res.Failures)
	}
}

// A sweep over operations hits every call of each, and demands that there is one.
func TestSweepOverOps(t *testing.T) {
	needCalls(t)
	sweep := func(ops string) string {
		return callsCase("{outcome: recovered}", "start: {}", "stop: {}", "keep: {name: kept}",
			"sweep: {var: n, op: ["+ops+"], until: unfired, limit: 9, steps: [{put-back: {name: kept}}, {start: {syscalls: ['$op:nth=$n:eio']}}, {stop: {}}]}")
	}
	res := replay(t, "good", sweep("write, create"))
	var fired []string
	for _, f := range res.Faults {
		if f.Fired > 0 {
			fired = append(fired, f.Rule)
		}
	}
	if want := []string{"write:nth=1:eio", "create:nth=1:eio"}; res.Verdict != reports.Pass || !slices.Equal(fired, want) {
		t.Errorf("%s %s %v, fired %v, want %v", res.Verdict, res.Reason, res.Failures, fired, want)
	}
	res = replay(t, "good", sweep("write, rename"))
	if all := strings.Join(res.Failures, "\n"); res.Verdict != reports.Fail || !strings.Contains(all, "the server made no call that is a rename") {
		t.Errorf("%s %s", res.Verdict, all)
	}
}

// What the host does not allow is skipped with the reason, and proves nothing if
// it was asked for by name.
func TestCallsNotAllowed(t *testing.T) {
	s, err := scenarios.Load([]byte(callsCase("{outcome: recovered}", "start: {syscalls: ['rename:eio']}")), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for explicit, want := range map[bool]reports.Verdict{false: reports.Skipped, true: reports.Inconclusive} {
		r := &runner{opt: Options{Explicit: explicit}, tmp: t.TempDir(),
			calls: map[syscalls.Ability]error{syscalls.Notify: errors.New("not on Sundays"), syscalls.Files: nil}}
		if res := r.one(t.Context(), s, 0, 1); res.Verdict != want || res.Reason != "not on Sundays" {
			t.Errorf("explicit=%t: %s %q, want %s", explicit, res.Verdict, res.Reason, want)
		}
	}
	if r := (&runner{opt: Options{Target: "http://127.0.0.1:1"}}); r.cannot(s) == "" {
		t.Error("a server that runs already can be put under rules")
	}
}

// A server that is not ours is put under rules as well.
func TestCallsOfAnyServer(t *testing.T) {
	needCalls(t)
	text := other("good", "", `  - start: {syscalls: ["write:path=state.db:nth=2:part=50%:kill9"]}
  - chat: {as: first, prompt: {text: "What is it?"}}
  - chat: {as: victim, prompt: {text: "And that?"}, may_fail: true}
  - wait: {exit: true}
  - start: {}
  - chat: {as: again, same: first}
`, sameAgain+"  - fired: {fault: write, exactly: 1}\n")
	res := replay(t, "", strings.Replace(text, "lane: process", "lane: syscalls", 1))
	if res.Verdict != reports.Pass {
		t.Errorf("%s %s %v", res.Verdict, res.Reason, res.Failures)
	}
}
