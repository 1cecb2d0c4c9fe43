package reports

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var day = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func sampleRun() Run {
	return Run{
		Format: Format, Command: "run", Args: []string{"--seed", "7"}, Start: day, Seed: math.MaxUint64,
		Build:   Build{Version: "0.1.0", Commit: "abc", Dirty: true, Go: "go1.26.8"},
		Host:    Host{Name: "box", OS: "linux", Arch: "amd64", Kernel: "6.1", CPU: "Some CPU", Cores: 2, MemoryBytes: 8 << 30, CPUFeatures: []string{"avx2"}},
		Server:  Server{Path: "/bin/ds4", Version: "0.1.0", Model: "ds4-tiny", Identity: "00ff", KernelSet: "scalar"},
		ServerB: &Server{Path: "/bin/other"}, Shard: &Shard{Index: 2, Count: 3, Plan: "00", Units: 4, Total: 12},
	}
}

func sampleResult() Result {
	r := Result{
		Scenario: "stale-kv-after-kill9", Title: "A restored prefix makes every prefill fail", Origin: "antirez/ds4#251",
		Lane: "process", Tags: []string{"seed", "ci"}, Repetition: 2, Seed: math.MaxUint64 - 1, Start: day, DurationMS: 1234.5,
		Verdict: Pass, Outcome: "recovered",
		Checks: []Check{{Name: CheckProcess, OK: true}, {Name: CheckTemp, OK: false, Detail: "a.tmp"}},
		Faults: []Fault{{Rule: "prefill.embed=err(x)", Armed: 1, Fired: 1}}, Warnings: []string{"busy"},
		Rerun: "ds4bench run stale-kv-after-kill9 --seed 9", WorkDir: "/tmp/w",
		Frontiers: []Frontier{{ContextTokens: 512, EvaluatedTokens: 512, PrefillMS: 10, PrefillTPS: 51200}, {ContextTokens: 1024}},
	}
	r.Load = &Load{Workload: "multi-turn", Concurrency: 4, Requests: 9, Failed: 1, Good: 7, Objective: Objective{TTFTMS: 500},
		PromptTokens: 900, CachedTokens: 300, OutputTokens: 90, DurationMS: 1000}
	r.Machine = &Machine{OthersPercent: 3, FrequencyLowMHz: 2000, FrequencyTopMHz: 3000, ReadBPS: 4e10}
	r.Side = SideB
	r.AddMetric(MetricRetries, 1)
	r.AddMetric(MetricPrefillTPS, 431.25, 428.5)
	r.AddEvent(1500*time.Microsecond, EventStart, "ds4 serve")
	return r
}

// encode writes a complete file.
func encode(t testing.TB, results ...Result) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := NewWriter(&buf, sampleRun())
	if err != nil {
		t.Fatal(err)
	}
	for i := range results {
		if err := w.Result(&results[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.End(End{Time: day, DurationMS: 2000}); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestRoundTrip(t *testing.T) {
	data := encode(t, sampleResult(), Result{Scenario: "b", Repetition: 1, Verdict: Skipped, Reason: "lane root"})
	f, err := Read(bytes.NewReader(data), "r.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	want := &File{Runs: []Log{{
		Run:     sampleRun(),
		Results: []Result{sampleResult(), {Scenario: "b", Repetition: 1, Verdict: Skipped, Reason: "lane root"}},
		End:     &End{Time: day, DurationMS: 2000, Results: 2},
	}}}
	if d := cmp.Diff(want, f); d != "" {
		t.Errorf("read differs from written (-want +got):\n%s", d)
	}
}

// A run that is killed at any byte leaves a file that reads up to the last whole
// record, without an end.
func TestKilledAtEveryByte(t *testing.T) {
	data := encode(t, sampleResult(), sampleResult())
	runRecord := bytes.IndexByte(data, '\n')
	for n := runRecord; n < len(data); n++ {
		f, err := Read(bytes.NewReader(data[:n]), "cut")
		if err != nil {
			t.Fatalf("cut at byte %d: %v", n, err)
		}
		whole := bytes.Count(data[:n], []byte("\n")) - 1 // results before the cut, if it is not on a line's end
		if got := len(f.Runs[0].Results); got != max(whole, 0) && got != whole+1 {
			t.Fatalf("cut at byte %d: %d results, %d whole lines", n, got, whole)
		}
	}
	if _, err := Read(bytes.NewReader(data[:runRecord/2]), "cut"); !errors.Is(err, ErrFormat) {
		t.Errorf("a file without a whole run record: %v", err)
	}
}

func TestConcatenatedFiles(t *testing.T) {
	f, err := Read(bytes.NewReader(append(encode(t, sampleResult()), encode(t, sampleResult(), sampleResult())...)), "two")
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Runs) != 2 || len(f.Results()) != 3 {
		t.Errorf("%d runs and %d results, want 2 and 3", len(f.Runs), len(f.Results()))
	}
}

func TestReaderRefuses(t *testing.T) {
	run := strings.SplitN(string(encode(t)), "\n", 2)[0] + "\n"
	result := func(fields string) string {
		return run + `{"result":{"scenario":"s","repetition":1,"seed":1,"start":"2026-01-01T00:00:00Z","duration_ms":1,` + fields + "}}\n"
	}
	tests := []struct{ name, data, want string }{
		{"empty file", "", "no run record"},
		{"not JSON", "hello\n", "f:1:"},
		{"a scenario file", "id: x\ntitle: y\n", "f:1:"},
		{"other version", `{"run":{"format":"ds4bench/9"}}` + "\n", `"ds4bench/9"`},
		{"no version", `{"run":{}}` + "\n", `""`},
		{"empty record", run + "{}\n", "f:2: a record holds one of"},
		{"two in one", run + `{"end":{"results":0},"run":{"format":"ds4bench/1"}}` + "\n", "a record holds one of"},
		{"unknown field", run + `{"result":{"scenari":"x"}}` + "\n", `unknown field "scenari"`},
		{"result first", `{"result":{"scenario":"s","repetition":1,"verdict":"pass"}}` + "\n", "before the run record"},
		{"after the end", string(encode(t)) + `{"end":{"results":0}}` + "\n", "after the end"},
		{"end counts wrong", run + `{"end":{"results":3}}` + "\n", "counts 3 results"},
		{"tail in a line", run + "{} {}\n", "something follows"},
		{"no scenario", run + `{"result":{"repetition":1,"verdict":"pass"}}` + "\n", "scenario is empty"},
		{"repetition 0", run + `{"result":{"scenario":"s","verdict":"pass"}}` + "\n", "repetition is 0"},
		{"unknown verdict", result(`"verdict":"ok"`), `verdict is "ok"`},
		{"passed with failures", result(`"verdict":"pass","failures":["x"]`), "pass with 1 failures"},
		{"negative time", run + `{"result":{"scenario":"s","repetition":1,"verdict":"pass","duration_ms":-1}}` + "\n", "duration_ms is -1"},
		{"huge number", result(`"verdict":"pass","metrics":{"a_ms":{"unit":"ms","samples":[1e999]}}`), "1e999"},
		{"frontiers shrink", result(`"verdict":"pass","frontiers":[{"context_tokens":2},{"context_tokens":1}]`), "they grow"},
		{"unknown side", result(`"verdict":"pass","side":"c"`), `side is "c"`},
		{"load of nobody", result(`"verdict":"pass","load":{"workload":"x"}`), "concurrency is 0"},
		{"load without a name", result(`"verdict":"pass","load":{"concurrency":1}`), "workload is empty"},
		{"more good than sent", result(`"verdict":"pass","load":{"workload":"x","concurrency":1,"requests":1,"good":2}`), "1 requests"},
		{"negative count", result(`"verdict":"pass","load":{"workload":"x","concurrency":1,"failed":-1}`), "failed is -1"},
		{"negative machine", result(`"verdict":"pass","machine":{"read_bps":-1}`), "machine: -1"},
		{"shard 3 of 2", `{"run":{"format":"ds4bench/1","shard":{"index":3,"count":2}}}` + "\n", "shard 3 of 2"},
		{"too many shards", `{"run":{"format":"ds4bench/1","shard":{"index":1,"count":99999}}}` + "\n", "shard 1 of 99999"},
		{"wrong type", result(`"verdict":3`), "verdict"},
		{"long line", run + strings.Repeat(" ", MaxLineBytes+1), "longer than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Read(strings.NewReader(tt.data), "f")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLarge) {
				t.Errorf("error %v is neither ErrFormat nor ErrTooLarge", err)
			}
		})
	}
}

func TestReadFailsWithItsSource(t *testing.T) {
	broken := errors.New("disk gone")
	_, err := Read(io.MultiReader(bytes.NewReader(encode(t)), failing{broken}), "f")
	if !errors.Is(err, broken) {
		t.Errorf("error %v hides the reader's", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestWriterRefusesWhatNoReaderTakes(t *testing.T) {
	var buf bytes.Buffer
	w, err := NewWriter(&buf, sampleRun())
	if err != nil {
		t.Fatal(err)
	}
	bad := sampleResult()
	bad.Metrics = map[string]Metric{"x": {Samples: []float64{math.NaN()}}}
	if err := w.Result(&bad); !errors.Is(err, ErrFormat) {
		t.Errorf("NaN: %v", err)
	}
	huge := sampleResult()
	huge.Title = strings.Repeat("x", MaxLineBytes)
	if err := w.Result(&huge); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a title of %d bytes: %v", MaxLineBytes, err)
	}
	good := sampleResult()
	if err := w.Result(&good); err != nil {
		t.Fatal(err)
	}
	if f, err := Read(&buf, "f"); err != nil || len(f.Results()) != 1 {
		t.Errorf("after refusals the file is %+v, %v", f, err)
	}
}

func TestWriterShortens(t *testing.T) {
	r := Result{Scenario: "s", Repetition: 1}
	for range 3 * maxTexts {
		r.AddFailure("%s\xff", strings.Repeat("é", MaxTextBytes))
	}
	for range MaxEvents + 10 {
		r.AddEvent(0, EventStep, "")
	}
	r.Failures = r.Failures[:maxTexts+5]
	f, err := Read(bytes.NewReader(encode(t, r)), "f")
	if err != nil {
		t.Fatal(err)
	}
	got := f.Results()[0]
	if n := len(got.Failures); n != maxTexts+1 || got.Failures[n-1] != "and 5 more" {
		t.Errorf("%d failures, the last %q", n, got.Failures[n-1])
	}
	if n := len(got.Failures[0]); n > MaxTextBytes || !strings.HasSuffix(got.Failures[0], "[shortened]") {
		t.Errorf("a text of %d bytes came through", n)
	}
	if len(got.Timeline) != MaxEvents {
		t.Errorf("%d events", len(got.Timeline))
	}
	if len(r.Failures) != maxTexts+5 || len(r.Timeline) != MaxEvents+10 {
		t.Error("Result changed the caller's value")
	}
}

// After a failed write the file may end in half a line; nothing follows it.
func TestWriterStaysFailed(t *testing.T) {
	full := errors.New("no space left on device")
	if _, err := NewWriter(failing{full}, sampleRun()); !errors.Is(err, full) {
		t.Fatalf("error %v", err)
	}
	var buf bytes.Buffer
	out := &brittle{w: &buf, err: full}
	w, err := NewWriter(out, sampleRun())
	if err != nil {
		t.Fatal(err)
	}
	out.broken = true
	r := sampleResult()
	if err := w.Result(&r); !errors.Is(err, full) {
		t.Fatalf("error %v", err)
	}
	out.broken = false
	before := buf.Len()
	if err := w.Result(&r); !errors.Is(err, full) || buf.Len() != before {
		t.Errorf("after a failure: %v, %d bytes more", err, buf.Len()-before)
	}
}

// brittle passes writes on until it is broken.
type brittle struct {
	w      io.Writer
	broken bool
	err    error
}

func (b *brittle) Write(p []byte) (int, error) {
	if b.broken {
		return 0, b.err
	}
	return b.w.Write(p)
}

func TestWriterConcurrently(t *testing.T) {
	var buf bytes.Buffer
	w, err := NewWriter(&buf, sampleRun())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			r := sampleResult()
			r.Scenario = fmt.Sprintf("s%d", i)
			for range 20 {
				if err := w.Result(&r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := w.End(End{}); err != nil {
		t.Fatal(err)
	}
	f, err := Read(&buf, "f")
	if err != nil || len(f.Results()) != 160 {
		t.Fatalf("%v, %v", f, err)
	}
}

func TestVerdictOfAGroup(t *testing.T) {
	results := func(vs ...Verdict) (rs []Result) {
		for _, v := range vs {
			rs = append(rs, Result{Scenario: "s", Verdict: v})
		}
		return rs
	}
	tests := []struct {
		rs   []Result
		want Verdict
	}{
		{nil, Skipped},
		{results(Skipped, Skipped), Skipped},
		{results(Skipped, Pass), Pass},
		{results(Pass, Inconclusive, Pass), Inconclusive},
		{results(Inconclusive, Fail, Pass), Fail},
	}
	for _, tt := range tests {
		if got := Worst(tt.rs); got != tt.want {
			t.Errorf("%v together are %s, want %s", Count(tt.rs), got, tt.want)
		}
	}
}

func TestUnits(t *testing.T) {
	for name, want := range map[string]string{
		"prefill_tps": "tokens/s", "ttft_ms": "ms", "retries": "count", "restored_tokens": "tokens", "kv_bytes": "bytes", "": "count",
	} {
		if got := Unit(name); got != want {
			t.Errorf("unit of %q is %q, want %q", name, got, want)
		}
	}
}

func TestThisHost(t *testing.T) {
	h := ThisHost()
	if h.OS == "" || h.Arch == "" || h.Cores < 1 {
		t.Errorf("host %+v", h)
	}
	if got := kibibytes("16 kB"); got != 16<<10 {
		t.Errorf("16 kB is %d", got)
	}
	for _, s := range []string{"", "x kB", "12 MB", "99999999999999999999999 kB"} {
		if got := kibibytes(s); got != 0 {
			t.Errorf("%q is %d", s, got)
		}
	}
}

// FuzzRead: no input crashes the reader, and what it accepts survives being
// written and read again.
func FuzzRead(f *testing.F) {
	f.Add(encode(f, sampleResult()))
	f.Add([]byte(`{"run":{"format":"ds4bench/1"}}` + "\n" + `{"result":{"scenario":"s","repetition":1,"verdict":"fail","failures":["a"]}}`))
	f.Add([]byte(`{"run":{"format":"ds4bench/1"}}` + "\n" + `{"end":{"results":0}}` + "\n\n{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Read(bytes.NewReader(data), "fuzz")
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("an error without a kind: %v", err)
			}
			return
		}
		for _, log := range file.Runs {
			var buf bytes.Buffer
			w, err := NewWriter(&buf, log.Run)
			if err != nil {
				t.Fatal(err)
			}
			for i := range log.Results {
				if err := w.Result(&log.Results[i]); err != nil {
					t.Fatalf("cannot write what was read: %v", err)
				}
			}
			again, err := Read(&buf, "again")
			if err != nil {
				t.Fatalf("cannot read what was written: %v", err)
			}
			if got, want := len(again.Results()), len(log.Results); got != want {
				t.Fatalf("%d results became %d", want, got)
			}
		}
	})
}
