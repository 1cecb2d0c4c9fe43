package run

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ds4/reports"
	"ds4/scenarios"
)

// replay runs one scenario against a fake server that misbehaves in one way.
func replay(t *testing.T, mode, text string) reports.Result {
	t.Helper()
	s, err := scenarios.Load([]byte(text), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	sum, err := Run(context.Background(), Options{
		Server: os.Args[0], Scenarios: []*scenarios.Scenario{s}, Seed: 1, WorkDir: work, ServerEnv: modeEnv(mode), growthPatience: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(work, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	w, err := reports.NewWriter(io.Discard, reports.Run{Command: "run"})
	if err == nil {
		err = w.Result(&sum.Results[0])
	}
	if err != nil {
		t.Errorf("the result cannot be written: %v", err)
	}
	return sum.Results[0]
}

const caseHead = `id: case
title: a case
lane: process
deadline: 100s
server: {args: {kv-disk-dir: $KV, kv-disk-space-mb: 1}}
`

// faulty is the usual scenario: a fault, a client with patience, a verdict.
const faulty = caseHead + `steps:
  - start: {}
  - chat: {as: cold, prompt: {corpus: chat, tokens: 50, seed: 3}}
  - signal: {kill: KILL}
  - start: {faults: ["prefill.embed=err(x):every"]}
  - chat: {as: again, same: cold, retries: 2, timeout: 30s}
expect: [{outcome: recovered}, {fired: {fault: prefill.embed, at_least: 1}}]
`

// Each way to be broken must be seen, and named for what it is.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		mode    string
		verdict reports.Verdict
		outcome string
		says    string // part of a failure, or of the reason
	}{
		{"good", reports.Pass, "recovered", ""},
		{"fails once", reports.Pass, "recovered", ""},
		{"degraded", reports.Fail, "degraded", "degraded, want recovered: the server calls itself degraded"},
		{"refuses", reports.Fail, "refused", "refused, want recovered: chat again: server answered 400"},
		{"loops", reports.Fail, "stuck", "still asks for another"},
		{"hangs", reports.Fail, "stuck", "no error that a client understands"},
		{"dies", reports.Fail, "stuck", "the server died 1 times, the last time with exit status 9"},
		{"html error", reports.Fail, "stuck", "without an error object"},
		{"wrong after fault", reports.Fail, "wrong", "differs from that of a server without a cache"},
		{"always wrong", reports.Fail, "wrong", "chat cold"},
		{"never fires", reports.Inconclusive, "inconclusive", "was armed and did not fire"},
		{"leaves temps", reports.Fail, "recovered", "is still there after a start"},
		{"over budget", reports.Fail, "recovered", "the budget is 1048576"},
		{"deaf", reports.Fail, "stuck", "the deadline of 2s passed"},
		{"bad exit", reports.Fail, "recovered", "exit status 3 after SIGTERM"},
		{"dead at start", reports.Inconclusive, "inconclusive", "cannot open the model"},
		{"dead at the next start", reports.Fail, "stuck", "cannot open the cache"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			t.Parallel()
			text := faulty
			if c.mode == "leaves temps" || c.mode == "over budget" || c.mode == "bad exit" {
				text = strings.Replace(text, "signal: {kill: KILL}", "stop: {}", 1)
			}
			if c.mode == "deaf" {
				text = strings.Replace(text, "deadline: 100s", "deadline: 2s", 1)
			}
			if c.mode == "hangs" {
				text = strings.Replace(text, "timeout: 30s", "timeout: 500ms", 1)
			}
			res := replay(t, c.mode, text)
			all := strings.Join(append(res.Failures, res.Reason), "\n")
			if res.Verdict != c.verdict || res.Outcome != c.outcome || !strings.Contains(all, c.says) {
				t.Errorf("verdict %s, outcome %s, want %s and %s with %q:\n%s", res.Verdict, res.Outcome, c.verdict, c.outcome, c.says, all)
			}
			if res.Verdict == reports.Pass && len(res.Checks) != len(reports.StandardFive()) {
				t.Errorf("checks made: %+v", res.Checks)
			}
		})
	}
}

// The log that a failure shows ends where it happened: the standard checks, which follow,
// start a server of their own.
func TestLogOfAFailure(t *testing.T) {
	res := replay(t, "good", strings.Replace(faulty, "{outcome: recovered}", "{log: {matches: no such line, at_least: 1}}", 1))
	if len(res.Failures) != 2 {
		t.Fatalf("failures %q", res.Failures)
	}
	if log := res.Failures[1]; strings.Count(log, "listening on") != 2 || !strings.Contains(log, "fault fired") {
		t.Errorf("got %s", log)
	}
}

// A fault that was armed and never fired proves nothing, whatever the answers.
func TestArmedButNotFired(t *testing.T) {
	text := strings.Replace(faulty, ", {fired: {fault: prefill.embed, at_least: 1}}", "", 1)
	res := replay(t, "never fires", text)
	if res.Verdict != reports.Inconclusive || res.Outcome != "inconclusive" || !strings.Contains(res.Reason, "did not fire") {
		t.Errorf("%s %s %q", res.Verdict, res.Outcome, res.Reason)
	}
	text = strings.Replace(text, "every\"]}", "every\"], may_not_fire: true}", 1)
	if res := replay(t, "never fires", text); res.Verdict != reports.Pass {
		t.Errorf("%s %v", res.Verdict, res.Failures)
	}
}

func TestSupervisedRestart(t *testing.T) {
	text := strings.Replace(faulty, "every\"]}", "every\"], supervised: 1}", 1) + "  - deaths: {exactly: 1}\n  - retries: {exactly: 1}\n"
	text = strings.Replace(text, "expect: [{outcome: recovered}, {fired: {fault: prefill.embed, at_least: 1}}]\n",
		"expect:\n  - outcome: recovered\n", 1)
	if res := replay(t, "dies once", text); res.Verdict != reports.Pass {
		t.Errorf("%s: %s", res.Verdict, strings.Join(res.Failures, "\n"))
	}
}

// The loop of the seed: more device failures between two successes than the limit.
func TestTooManyAttempts(t *testing.T) {
	text := strings.Replace(faulty, "retries: 2", "retries: 6, may_fail: true", 1)
	res := replay(t, "loops", text)
	if all := strings.Join(res.Failures, "\n"); res.Verdict != reports.Fail || !strings.Contains(all, "attempt 7 of at most 3") {
		t.Errorf("%s: %s", res.Verdict, all)
	}
}

const steps = caseHead + `steps:
  - fill: {as: full, prompt: {corpus: words, tokens: 40, seed: 5}}
  - keep: {name: filled}
  - sweep:
      var: at
      over: ["0", "2", "100%"]
      steps:
        - put-back: {name: filled}
        - corrupt: {op: truncate, at: $at}
        - start: {}
        - chat: {as: x, same: full}
        - stop: {}
  - start: {args: {ctx: 99}}
  - parallel:
      - chat: {as: a, prompt: {text: one slowly}}
      - chat: {as: b, prompt: {text: two}}
  - chat: {as: c, prompt: {text: three slowly}, background: true}
  - wait: {chats: true}
  - turns: {as: talk, users: [{text: hello}, {corpus: chat, tokens: 100}]}
  - repeat: {times: 2, steps: [{chat: {prompt: {text: again}}}]}
  - wait: {log: "prompt done"}
  - expect: [{equal: [x, full]}, {evaluated: {chat: talk, at_least: 100}}]
  - stop: {}
expect:
  - outcome: recovered
  - exit: {code: 0, within: 30s}
  - segments: {exactly: 1}
  - log: {matches: "prompt done", at_least: 9}
measure: [ttft_ms, prefill_tps, disk_bytes]
`

func TestStepsAndSweep(t *testing.T) {
	res := replay(t, "good", steps)
	all := res.Reason + strings.Join(res.Failures, "\n")
	// The last value of the sweep truncates nothing: that must not count as damage.
	if res.Verdict != reports.Inconclusive || !strings.Contains(all, "pass at=100%: step 2 corrupt") {
		t.Fatalf("%s: %s", res.Verdict, all)
	}
	res = replay(t, "good", strings.Replace(steps, `, "100%"`, "", 1))
	if res.Verdict != reports.Pass {
		t.Fatalf("%s %s: %s", res.Verdict, res.Reason, strings.Join(res.Failures, "\n"))
	}
	for _, m := range []string{"ttft_ms", "full.ttft_ms", "talk-2.ttft_ms", "prefill_tps", "disk_bytes", "start_ms"} {
		if len(res.Metrics[m].Samples) == 0 {
			t.Errorf("no sample of %s: %v", m, res.MetricNames())
		}
	}
}

func TestSweepUntilUnfired(t *testing.T) {
	text := caseHead + `steps:
  - sweep:
      var: n
      until: unfired
      limit: 4
      steps:
        - start: {faults: ["kv.fsync=eio:nth=$n"]}
        - chat: {prompt: {text: hello}}
        - stop: {}
expect: [{outcome: recovered}]
`
	// The fake fires for every rule: the sweep finds no end, and must say so.
	res := replay(t, "good", text)
	if all := strings.Join(res.Failures, "\n"); res.Verdict != reports.Fail || !strings.Contains(all, "still fire in pass 4") {
		t.Errorf("%s %s", res.Verdict, all)
	}
	if res := replay(t, "never fires", text); res.Verdict != reports.Pass {
		t.Errorf("%s %s %v", res.Verdict, res.Reason, res.Failures)
	}
}

func TestAbandon(t *testing.T) {
	text := caseHead + `steps:
  - start: {faults: ["prefill.chunk=hang"]}
  - chat: {as: gone, prompt: {text: hello}, abandon: {after: 100ms}}
  - chat: {as: gone-too, prompt: {text: hello}, abandon: {log: "fault fired"}}
expect: [{outcome: recovered}]
`
	if res := replay(t, "hangs", text); res.Verdict != reports.Pass {
		t.Errorf("%s: %s", res.Verdict, strings.Join(res.Failures, "\n"))
	}
}

// Repetitions have seeds of their own, which change generated texts, and results
// come in order with the line that repeats them.
func TestRepetitions(t *testing.T) {
	s, err := scenarios.Load([]byte(faulty), "x")
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	var reached int
	sum, err := Run(t.Context(), Options{
		Server: os.Args[0], Scenarios: []*scenarios.Scenario{s}, Repeat: 2, Seed: 40, WorkDir: t.TempDir(), ServerArgs: []string{"--extra", "1"},
		OnResult: func(r *reports.Result) error { seen = append(seen, r.Rerun); return nil },
		Progress: func(p Progress) { reached = max(reached, p.Repetition) },
	})
	if err != nil || sum.Passed != 2 {
		t.Fatalf("%v %+v", err, sum)
	}
	for i, want := range []string{"ds4bench run case --seed 40 --repeat 1 -- --extra 1", "ds4bench run case --seed 41 --repeat 1 -- --extra 1"} {
		if seen[i] != want {
			t.Errorf("rerun line %q, want %q", seen[i], want)
		}
	}
	if reached != 2 {
		t.Errorf("progress reached repetition %d", reached)
	}
}

func TestPromptsHaveTheWantedLength(t *testing.T) {
	p := prompts{server: os.Args[0], dir: t.TempDir(), texts: map[promptKey]string{}}
	for _, n := range []int{1, 7, 300, 5000} {
		text, err := p.text(t.Context(), &scenarios.Prompt{Corpus: "go-source", Tokens: n, Seed: 1}, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(text) / 5; got < n || got > n+n/50+20 {
			t.Errorf("%d tokens, wanted %d", got, n)
		}
	}
	a, _ := p.text(t.Context(), &scenarios.Prompt{Corpus: "chat", Tokens: 50}, 1, 0)
	b, _ := p.text(t.Context(), &scenarios.Prompt{Corpus: "chat", Tokens: 50}, 2, 0)
	c, _ := p.text(t.Context(), &scenarios.Prompt{Corpus: "chat", Tokens: 50, Fixed: true}, 1, 0)
	d, _ := p.text(t.Context(), &scenarios.Prompt{Corpus: "chat", Tokens: 50, Fixed: true}, 2, 0)
	if a == b || c != d {
		t.Error("seeds of repetitions: a generated text must change, a fixed one must not")
	}
	fresh := map[string]bool{}
	for round := range uint64(50) {
		text, err := p.text(t.Context(), &scenarios.Prompt{Corpus: "words", Tokens: 50, Fresh: true}, 1+round%2, round)
		if err != nil {
			t.Fatal(err)
		}
		fresh[text] = true
	}
	if len(fresh) < 45 {
		t.Errorf("%d texts in 50 passes", len(fresh))
	}
}

// A server that already runs is asked, and nothing else is done to it.
func TestTarget(t *testing.T) {
	f := fake{mode: "good"}
	srv := httptest.NewServer(f.mux())
	defer srv.Close()
	load := func(text string) *scenarios.Scenario {
		s, err := scenarios.Load([]byte(text), "x")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	sum, err := Run(t.Context(), Options{Target: srv.URL, WorkDir: t.TempDir(), Scenarios: []*scenarios.Scenario{
		load(caseHead + "steps: [{start: {}}, {chat: {as: a, prompt: {corpus: chat, tokens: 20}}}, {chat: {as: b, same: a}}]\nexpect: [{equal: [a, b]}, {evaluated: {chat: b, at_least: 10}}]\n"),
		load(caseHead + "steps: [{start: {}}, {wait: {log: x}}]\nexpect: [{outcome: recovered}]\n"),
		load(caseHead + "steps: [{start: {}}]\nexpect: [{quarantined: {exactly: 0}}]\n"),
		load(caseHead + "steps: [{repeat: {times: 1, steps: [{corrupt: {op: flip}}]}}]\nexpect: [{outcome: recovered}]\n"),
	}})
	if err != nil || sum.Passed != 1 || sum.Skipped != 3 || len(sum.Results[0].Warnings) == 0 {
		t.Errorf("%v: %d passed, %d skipped, %v", err, sum.Passed, sum.Skipped, sum.Results[0].Failures)
	}
}

func TestOptions(t *testing.T) {
	if _, err := Run(t.Context(), Options{}); err == nil {
		t.Error("no server and no target")
	}
	s, err := scenarios.Load([]byte(faulty), "x")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := Run(t.Context(), Options{Target: "http://127.0.0.1:1", Scenarios: []*scenarios.Scenario{s}})
	if err != nil || sum.Skipped != 1 {
		t.Errorf("a target cannot be killed: %v %+v", err, sum)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(stopped, Options{Server: os.Args[0], Scenarios: []*scenarios.Scenario{s}}); err == nil {
		t.Error("an ended context is no error")
	}
	if _, err := Run(t.Context(), Options{Server: os.Args[0], Scenarios: []*scenarios.Scenario{s},
		OnResult: func(*reports.Result) error { return fmt.Errorf("disk full") }}); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("OnResult: %v", err)
	}
}
