package cli

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"ds4/faults/disk"
	"ds4/reports"
)

// The programs as a user has them, against each other: real servers, real faults.
func TestPrograms(t *testing.T) {
	bench, ds4 := built(t)
	for name, test := range map[string]func(t *testing.T, bench, ds4 string){
		"run": runsAndReports, "speed": measuresSpeed, "interrupt": stopsOnInterrupt, "killed": killedLeavesNothing,
		"serve-speed": servesAndStops, "compare": comparesInTurns, "shards": joinsShards,
		"examples": startsAsExamplesSay, "ds4 as any server": servesBesideItself,
	} {
		t.Run(name, func(t *testing.T) {
			test(t, bench, ds4)
			if left := running(t, ds4); len(left) > 0 {
				t.Errorf("processes %v are left", left)
			}
		})
	}
}

// built compiles both programs into one directory: ds4bench then finds ds4 beside
// itself.
func built(t *testing.T) (ds4bench, ds4 string) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs servers")
	}
	t.Setenv("TMPDIR", t.TempDir()) // a run that is stopped keeps what it had
	dir := t.TempDir()
	for _, name := range []string{"ds4bench", "ds4"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), "ds4/cmd/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	ds4bench, ds4 = filepath.Join(dir, "ds4bench"), filepath.Join(dir, "ds4")
	for _, path := range []string{ds4bench, ds4} {
		if file, err := elf.Open(path); err != nil {
			t.Error(err)
		} else if file.Section(".interp") != nil {
			t.Errorf("%s is not static", path)
		}
	}
	return ds4bench, ds4
}

// runBench runs ds4bench in a directory of its own and returns what it left.
func runBench(t *testing.T, bench string, wantExit int, args ...string) (stdout, dir string) {
	t.Helper()
	dir = t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bench, args...)
	cmd.Dir = dir
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != wantExit {
		t.Fatalf("ds4bench %s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, wantExit, out.String(), diag.String())
	}
	return out.String(), dir
}

// Command lines of ds4 in the help texts are such that ds4 takes them.
func startsAsExamplesSay(t *testing.T, _, ds4 string) {
	line := regexp.MustCompile(`\./ds4 serve[^"|#\n]*`)
	found := 0
	for _, cmd := range newRoot(nil, io.Discard, io.Discard).Commands() {
		for _, example := range line.FindAllString(cmd.Example, -1) {
			found++
			words, err := splitWords(example)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(ds4, append(words[1:], "--print-config")...).CombinedOutput(); err != nil {
				t.Errorf("ds4bench %s: %s: %v\n%s", cmd.Name(), example, err, out)
			}
		}
	}
	if found < 2 {
		t.Errorf("%d examples, want more", found)
	}
}

// A ds4 that is described like any other server runs beside its control and beside
// what else runs on the machine.
func servesBesideItself(t *testing.T, bench, ds4 string) {
	t.Setenv("DS4_LOCK_FILE", filepath.Join(t.TempDir(), "lock"))
	runBench(t, bench, 0, "run", "any-server-hung-up", "--server-command", ds4+" serve --port $PORT --kv-disk-dir $KV --thinking-sampling")
}

// A scenario from the command line to the reports, against real servers.
func runsAndReports(t *testing.T, bench, ds4 string) {
	scenario, err := filepath.Abs("testdata/scenarios/kill-and-ask-again.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out, dir := runBench(t, bench, ExitPass, "run", scenario, "--seed", "1", "--junit", "r.xml", "--csv", "r.csv", "--report", "html=r.html,markdown=r.md,prom=r.prom,benchfmt=r.bench")
	row := regexp.MustCompile(`(?m)^ kill-and-ask-again +pass +1/1 +recovered .*\n1 repetition: 1 pass; results in results/`)
	if !row.MatchString(out) {
		t.Errorf("printed\n%s", out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "results", "*.jsonl"))
	if err != nil || len(files) != 1 {
		t.Fatalf("results files %v, %v", files, err)
	}
	f, err := reports.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	r, run := f.Results()[0], f.Runs[0]
	if len(r.Checks) != len(reports.StandardFive()) || r.Seed != 1 || len(r.Timeline) == 0 || r.Rerun == "" {
		t.Errorf("result %+v", r)
	}
	if run.End == nil || run.End.Interrupted || run.Run.Server.Path != ds4 || run.Run.Server.Version == "" || run.Run.Server.Model != "ds4-tiny" {
		t.Errorf("run %+v, end %+v", run.Run, run.End)
	}
	for _, m := range []string{reports.MetricPrefillTPS, reports.MetricRestoredTokens, reports.MetricReprefilledTokens, reports.MetricRecovery} {
		if len(r.Metrics[m].Samples) == 0 {
			t.Errorf("no sample of %s", m)
		}
	}
	for name, want := range map[string]string{
		"r.xml": `name="kill-and-ask-again #1"`, "r.csv": "kill-and-ask-again,process,1,1,pass", "r.html": `<svg class="timeline"`,
		"r.md": "| kill-and-ask-again | pass", "r.prom": `verdict="pass"} 1`, "r.bench": "BenchmarkScenario/kill-and-ask-again 1 ",
	} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v, without %q:\n%s", name, err, want, text)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Every row of a speed measurement covers what is new in it.
func measuresSpeed(t *testing.T, bench, _ string) {
	out, dir := runBench(t, bench, ExitPass, "speed", "--frontiers", "128,256,384", "--samples", "2", "--decode-tokens", "8", "--out", "s.jsonl")
	f, err := reports.ReadFile(filepath.Join(dir, "s.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Results()) != 2 || f.Runs[0].Run.Server.KernelSet == "" {
		t.Fatalf("%d rounds, server %+v", len(f.Results()), f.Runs[0].Run.Server)
	}
	for _, r := range f.Results() {
		from := 0
		for _, row := range r.Frontiers {
			if row.PrefillTPS <= 0 || row.DecodeTPS <= 0 || row.DecodeTokens != 8 {
				t.Errorf("row %+v", row)
			}
			// The last token of a prompt opens the answer; the next prompt parts from
			// the conversation before it.
			if from > 0 && row.EvaluatedTokens > row.ContextTokens-from+1 {
				t.Errorf("%d tokens evaluated at %d after %d: the row covers more than what is new", row.EvaluatedTokens, row.ContextTokens, from)
			}
			from = row.ContextTokens
		}
	}
	if !strings.Contains(out, "prefill cost:") {
		t.Errorf("no fit in\n%s", out)
	}
}

// Ctrl-C: a report of what there is, exit 3, no process left.
func stopsOnInterrupt(t *testing.T, bench, ds4 string) {
	cmd := exec.Command(bench, "run", "stale-kv-after-kill9", "--out", "r.jsonl") // seconds of prefill at least
	cmd.Dir = t.TempDir()
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	deadline := time.After(time.Minute)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for len(running(t, ds4, "serve")) == 0 {
		select {
		case <-poll.C:
		case err := <-done:
			t.Fatalf("ended before it started a server: %v\n%s", err, diag.String())
		case <-deadline:
			cmd.Process.Kill()
			t.Fatal("no server was started")
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		cmd.Process.Signal(syscall.SIGKILL)
		t.Fatal("still there 30 s after an interrupt")
	}
	if code := cmd.ProcessState.ExitCode(); code != ExitInconclusive || !strings.Contains(diag.String(), "stopped early") {
		t.Errorf("exit %d, said %q", code, diag.String())
	}
	f, err := reports.ReadFile(filepath.Join(cmd.Dir, "r.jsonl"))
	if err != nil || f.Runs[0].End == nil || !f.Runs[0].End.Interrupted {
		t.Errorf("results %+v, %v", f, err)
	}
}

// Killed with a server on a disk of its own: the server dies, and its disk is gone.
func killedLeavesNothing(t *testing.T, bench, ds4 string) {
	if err := disk.Probe(t.Context(), disk.Volumes); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(bench, "run", "limits-disk-evicts", "--out", "r.jsonl")
	cmd.Dir = t.TempDir()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []string
	for deadline := time.Now().Add(time.Minute); len(pids) == 0; time.Sleep(5 * time.Millisecond) {
		if pids = running(t, ds4, "serve"); time.Now().After(deadline) {
			t.Error("no server was started")
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for deadline := time.Now().Add(30 * time.Second); len(running(t, ds4)) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("processes %v outlived ds4bench", running(t, ds4))
		}
	}
	tables, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil || len(tables) == 0 {
		t.Fatalf("%d processes, %v", len(tables), err)
	}
	for _, name := range tables {
		if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), os.Getenv("TMPDIR")) {
			t.Errorf("%s still has the disk", name)
		}
	}
}

// running lists processes of a binary, those with the given first argument.
func running(t *testing.T, binary string, arg ...string) []string {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	want := append([]string{binary}, arg...)
	var found []string
	for _, path := range entries {
		text, err := os.ReadFile(path) // a process that has just ended reads as an error, a zombie as nothing
		if err == nil && strings.HasPrefix(string(text), strings.Join(want, "\x00")+"\x00") {
			found = append(found, filepath.Base(filepath.Dir(path)))
		}
	}
	return found
}
