package selftest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"ds4/reports"
	"ds4/scenarios"
	"ds4/scenarios/run"
)

// serverVar names a ds4 binary to use instead of a fresh build.
const serverVar = "DS4_SERVER"

// server builds the server under test.
func server(t *testing.T) string {
	t.Helper()
	if path := os.Getenv(serverVar); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "ds4")
	out, err := exec.Command("go", "build", "-o", path, "ds4/cmd/ds4").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// proofVar, set to anything, makes the test below prove all scenarios and not
// only a quick one; `ds4bench selftest` does the same.
const proofVar = "DS4_PROOF"

// The five scenarios that the suite stands on must fail when what they test is
// switched off. A suite that passes then proves nothing.
func TestBrokenServersAreCaught(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers")
	}
	list, err := scenarios.Library()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{
		"stale-kv-after-kill9": true, "dead-session-after-failure": true, "restore-kills-process": true,
		"flipped-bit": true, "kill-while-writing": true,
	}
	opt := Options{Run: run.Options{Server: server(t), Seed: 1, WorkDir: t.TempDir(), OtherModel: OtherModel}}
	for _, s := range list {
		if len(s.Catches) == 0 {
			continue
		}
		if delete(want, s.ID); os.Getenv(proofVar) != "" || s.ID == "dead-session-after-failure" {
			opt.Run.Scenarios = append(opt.Run.Scenarios, s)
		}
	}
	if len(want) > 0 {
		t.Errorf("scenarios that name no switch: %v", want)
	}
	opt.Each = func(p Proof) {
		first := ""
		if len(p.Result.Failures) > 0 {
			first = p.Result.Failures[0]
		}
		t.Logf("%-28s %-14s caught %t in %.1f s: %.200s", p.Scenario, p.Switch, p.Caught, p.Result.DurationMS/1000, first)
	}
	if err := Prove(t.Context(), opt); err != nil {
		t.Error(err)
	}
}

// Every scenario must name what it catches, and every way to break a server must
// be caught by some scenario.
func TestEverySwitchIsCaught(t *testing.T) {
	list, err := scenarios.Library()
	if err != nil {
		t.Fatal(err)
	}
	caught := map[string]bool{}
	for _, s := range list {
		if len(s.Catches) == 0 {
			t.Errorf("%s names nothing that it catches", s.ID)
		}
		for _, sw := range s.Catches {
			caught[sw] = true
			if !slices.Contains(Switches(), sw) {
				t.Errorf("%s names the unknown switch %q", s.ID, sw)
			}
		}
	}
	for _, sw := range Switches() {
		if !caught[sw] {
			t.Errorf("no scenario catches %s", sw)
		}
	}
}

// A scenario that asks for nothing that the switch breaks must be reported as
// one that missed it.
func TestProveReportsAMiss(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers")
	}
	s, err := scenarios.Load([]byte(`id: blind
title: looks away
lane: process
catches: [no-convict]
steps: [{start: {}}, {stop: {}}]
expect: [{outcome: recovered}]
`), "blind.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got []Proof
	opt := Options{Run: run.Options{Server: server(t), Scenarios: []*scenarios.Scenario{s}, WorkDir: t.TempDir()},
		Each: func(p Proof) { got = append(got, p) }}
	err = Prove(t.Context(), opt)
	if !errors.Is(err, ErrMissed) || len(got) != 1 || got[0].Caught || got[0].Result.Verdict != reports.Pass {
		t.Errorf("error %v, proofs %+v", err, got)
	}
	s.Catches = []string{"no-gravity"}
	if err := Prove(t.Context(), opt); err == nil || errors.Is(err, ErrMissed) {
		t.Errorf("an unknown switch: %v", err)
	}
}

// A server that never gets ready makes every scenario inconclusive, and proves none.
func TestProveNeedsAServerThatStarts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers")
	}
	s, err := scenarios.Load([]byte(`id: hopeless
title: cannot start
lane: process
catches: [no-convict]
server: {args: {ctx: nonsense}}
steps: [{start: {}}, {stop: {}}]
expect: [{outcome: recovered}]
`), "hopeless.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got []Proof
	err = Prove(t.Context(), Options{
		Run:  run.Options{Server: server(t), Scenarios: []*scenarios.Scenario{s}, WorkDir: t.TempDir()},
		Each: func(p Proof) { got = append(got, p) },
	})
	if !errors.Is(err, ErrMissed) || len(got) != 1 || got[0].Caught || got[0].Result.Verdict != reports.Inconclusive {
		t.Errorf("error %v, proofs %+v", err, got)
	}
}
