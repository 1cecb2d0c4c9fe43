package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ds4/reports"
)

// Latencies of a real server; then Ctrl-C in the middle, which keeps what there is.
func servesAndStops(t *testing.T, bench, ds4 string) {
	out, dir := runBench(t, bench, ExitPass, "serve-speed", "--concurrency", "2", "--requests", "4", "--samples", "1", "--prompt-tokens", "128",
		"--output-tokens", "4", "--turns", "2", "--disk-cache", "--out", "s.jsonl", "--", "--kv-segment-tokens", "128", "--kv-cache-min-tokens", "64")
	f, err := reports.ReadFile(filepath.Join(dir, "s.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Results()) != 3 || f.Runs[0].Run.Server.KernelSet == "" {
		t.Fatalf("%d results, server %+v", len(f.Results()), f.Runs[0].Run.Server)
	}
	for _, r := range f.Results() {
		l := r.Load
		if l.Requests != 4 || l.Failed != 0 || l.OutputTokens != 4*4 || len(r.Metrics[reports.MetricTTFT].Samples) != 4 {
			t.Errorf("load %+v", l)
		}
		if l.Workload == "multi-turn" && l.CachedTokens == 0 {
			t.Errorf("nothing of a conversation was reused: %+v", l)
		}
	}
	if !strings.Contains(out, "goodput: requests per second with the first token within 2000 ms") {
		t.Errorf("printed\n%s", out)
	}

	cmd := exec.Command(bench, "serve-speed", "--workloads", "independent", "--samples", "1000", "--prompt-tokens", "64", "--output-tokens", "2", "--out", "r.jsonl")
	cmd.Dir = t.TempDir()
	var diag bytes.Buffer
	cmd.Stderr = &diag
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	results := filepath.Join(cmd.Dir, "r.jsonl")
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile(results)
		if err == nil && bytes.Count(text, []byte("\n")) > 1 { // the run record and a result
			break
		}
		if time.Now().After(deadline) {
			t.Error("no result in time")
			break
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		cmd.Process.Kill()
		t.Fatal("still there a minute after an interrupt")
	}
	if code := cmd.ProcessState.ExitCode(); code != ExitInconclusive || !strings.Contains(diag.String(), "stopped early") {
		t.Errorf("exit %d, said %q", code, diag.String())
	}
	f, err = reports.ReadFile(results)
	if err != nil || len(f.Results()) == 0 || f.Runs[0].End == nil || !f.Runs[0].End.Interrupted {
		t.Errorf("results %+v, %v", f, err)
	}
}

// Two servers in turns: one in the environment and with the flags that it was given,
// one that runs any command line with a port.
func comparesInTurns(t *testing.T, bench, ds4 string) {
	_, dir := runBench(t, bench, ExitInconclusive, "compare", "--a", "DS4_CPU=avx2 "+ds4+" serve --threads 1",
		"--b", "sh -c 'exec "+ds4+" serve --host 127.0.0.1 --ctx 4096 --port $PORT'", "--frontiers", "128", "--decode-tokens", "4", "--samples", "2",
		"--restart-every", "1", "--out", "c.jsonl") // two samples tell nothing
	f, err := reports.ReadFile(filepath.Join(dir, "c.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, r := range f.Results() {
		order = append(order, r.Side)
		if len(r.Frontiers) != 1 || r.Frontiers[0].PrefillTPS <= 0 || r.Frontiers[0].DecodeReadBytes <= 0 || r.Machine == nil {
			t.Errorf("result %+v", r)
		}
	}
	if got := strings.Join(order, ""); got != "abba" {
		t.Errorf("measured %s, want abba", got)
	}
	run := f.Runs[0].Run
	if run.Server.Version == "" || !strings.Contains(strings.Join(run.Server.Args, " "), "--threads 1") || run.ServerB == nil {
		t.Errorf("run %+v", run)
	}
}

// The shards of a run together are the run.
func joinsShards(t *testing.T, bench, _ string) {
	scenario, err := filepath.Abs("testdata/scenarios/kill-and-ask-again.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, part := range []string{"1/3", "2/3", "3/3"} { // the third has nothing to do
		_, dir := runBench(t, bench, ExitPass, "run", scenario, "--repeat", "2", "--shard", part, "--out", "r.jsonl")
		files = append(files, filepath.Join(dir, "r.jsonl"))
	}
	out, dir := runBench(t, bench, ExitPass, append([]string{"merge", "-o", "all.jsonl"}, files...)...)
	if !strings.Contains(out, "3 runs, 2 repetitions: 2 pass") {
		t.Errorf("printed %q", out)
	}
	f, err := reports.ReadFile(filepath.Join(dir, "all.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	seeds := make(map[uint64]bool)
	for _, r := range f.Results() {
		seeds[r.Seed] = true
	}
	if len(f.Results()) != 2 || !seeds[1] || !seeds[2] {
		t.Errorf("%d results with seeds %v", len(f.Results()), seeds)
	}
}
