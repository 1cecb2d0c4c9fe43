package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ds4/faults/disk"
	"ds4/reports"
	"ds4/scenarios"
)

const limitsHead = `id: case
title: a case
lane: limits
deadline: 100s
server: {args: {kv-disk-dir: $KV, kv-disk-space-mb: 1}%s}
steps:
  - start: {}
%s
expect: [{outcome: recovered}]
`

// needHost skips a test that this host does not allow.
func needHost(t *testing.T, list ...disk.Ability) {
	t.Helper()
	for _, a := range list {
		if err := disk.Probe(t.Context(), a); err != nil {
			t.Skip(err)
		}
	}
}

func limitsCase(server string, steps ...string) string {
	return fmt.Sprintf(limitsHead, server, "  - "+strings.Join(steps, "\n  - "))
}

// TestDisk: the server's disk is full and free again, and lasts from one process
// to the next. The server of these tests writes at its end.
func TestDisk(t *testing.T) {
	needHost(t, disk.Volumes)
	res := replay(t, "good", limitsCase(", disk: 1MiB",
		"fill-disk: {}", "stop: {}", "expect: [{disk_bytes: {exactly: 0}}, {segments: {exactly: 1}}]",
		"start: {}", "free-disk: {}", "stop: {}", "expect: [{disk_bytes: {exactly: 5}}]",
		"keep: {name: one}", "remove-dir: {}", "expect: [{segments: {exactly: 0}}]",
		"put-back: {name: one}", "expect: [{segments: {exactly: 1}}]",
		"start: {}", "expect: [{segments: {exactly: 1}}]"))
	if res.Verdict != reports.Pass {
		t.Errorf("%s %s %v", res.Verdict, res.Reason, res.Failures)
	}
}

// TestHostSteps: limits, modes and owners do something, and are undone before the
// last checks.
func TestHostSteps(t *testing.T) {
	for name, c := range map[string]struct {
		need  []disk.Ability
		steps []string
	}{
		"fsize": {[]disk.Ability{disk.Limits}, []string{"limit: {fsize: 3}", "stop: {}", "expect: [{disk_bytes: {exactly: 3}}]"}},
		"nofile": {[]disk.Ability{disk.Limits}, []string{
			"limit: {nofile: 0}", "chat: {as: a, prompt: {text: hello}, may_fail: true, timeout: 500ms}", "limit: {nofile: none}",
			"chat: {as: b, prompt: {text: hello}}", "limit: {nofile: 0}", "stop: {}", "expect: [{segments: {exactly: 0}}]"}},
		"mode": {[]disk.Ability{disk.Modes}, []string{
			"access: {mode: '0500'}", "stop: {}", "expect: [{segments: {exactly: 0}}]"}},
		"owner": {[]disk.Ability{disk.Modes, disk.Strangers}, []string{
			"access: {owner: other}", "stop: {}", "expect: [{segments: {exactly: 0}}]"}},
		"move": {nil, []string{"remove-dir: {move: true}", "stop: {}", "expect: [{segments: {exactly: 0}}]"}},
	} {
		t.Run(name, func(t *testing.T) {
			needHost(t, c.need...)
			res := replay(t, "good", limitsCase("", c.steps...))
			if res.Verdict != reports.Pass {
				t.Errorf("%s %s %v", res.Verdict, res.Reason, res.Failures)
			}
		})
	}
}

// TestHostDoesNotAllow: what cannot be run is skipped with the reason, and proves
// nothing if it was asked for by name.
func TestHostDoesNotAllow(t *testing.T) {
	s, err := scenarios.Load([]byte(limitsCase("", "limit: {nofile: 0}")), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for explicit, want := range map[bool]reports.Verdict{false: reports.Skipped, true: reports.Inconclusive} {
		r := &runner{opt: Options{Explicit: explicit}, tmp: t.TempDir(),
			host: map[disk.Ability]error{disk.Limits: errors.New("not on Sundays")}}
		res := r.one(t.Context(), s, 0, 1)
		if res.Verdict != want || res.Reason != "not on Sundays" {
			t.Errorf("explicit=%t: %s %q, want %s", explicit, res.Verdict, res.Reason, want)
		}
		if left, _ := os.ReadDir(r.tmp); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	s.Lane = "cellar"
	r := &runner{opt: Options{}, tmp: t.TempDir()}
	if res := r.one(t.Context(), s, 0, 1); res.Verdict != reports.Skipped || !strings.Contains(res.Reason, "lane cellar is not available") {
		t.Errorf("%s %q", res.Verdict, res.Reason)
	}
}

// TestDiskIsKept: a repetition that failed leaves its cache directory like any
// other, although the disk is gone.
func TestDiskIsKept(t *testing.T) {
	needHost(t, disk.Volumes)
	s, err := scenarios.Load([]byte(limitsCase(", disk: 1MiB", "stop: {}", "expect: [{segments: {exactly: 7}}]")), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := Run(t.Context(), Options{Server: os.Args[0], Scenarios: []*scenarios.Scenario{s}, Seed: 1, WorkDir: t.TempDir(),
		ServerEnv: modeEnv("good"), KeepFailed: true})
	if err != nil {
		t.Fatal(err)
	}
	res := sum.Results[0]
	if _, err := os.Stat(filepath.Join(res.WorkDir, "kv", "segments", "aa", "0.kv")); err != nil || res.Verdict != reports.Fail {
		t.Errorf("%s %v: %v", res.Verdict, res.Warnings, err)
	}
}
