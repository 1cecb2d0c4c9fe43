package table

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"ds4/reports"
	"ds4/reports/reportstest"
)

func TestResultsGolden(t *testing.T) {
	f := reportstest.Read(t, "results.jsonl")
	for style, name := range map[Style]string{Text: "results.txt", Markdown: "results.md"} {
		var buf bytes.Buffer
		if err := Results(&buf, style, f.Results()); err != nil {
			t.Fatal(err)
		}
		reportstest.Golden(t, name, buf.Bytes())
	}
	var buf bytes.Buffer
	if err := Details(&buf, f.Results()); err != nil {
		t.Fatal(err)
	}
	reportstest.Golden(t, "details.txt", buf.Bytes())
}

func TestAbout(t *testing.T) {
	full := reportstest.Read(t, "results.jsonl").Runs[0].Run
	tests := []struct {
		run  reports.Run
		want string
	}{
		{full, "ds4 0.1.0 with ds4-tiny on scalar; linux/amd64, Example CPU 2.0GHz, 2 cores, avx avx2 fma; seed 7\n\n"},
		{reports.Run{Host: reports.Host{OS: "linux", Arch: "arm64", Cores: 1}, Server: reports.Server{Target: "http://x\x1b"}},
			"server at http://x\ufffd; linux/arm64, 1 core; seed 0\n\n"},
	}
	for _, tt := range tests {
		var buf bytes.Buffer
		if err := About(&buf, tt.run); err != nil || buf.String() != tt.want {
			t.Errorf("%q, %v, want %q", buf.String(), err, tt.want)
		}
	}
}

func TestSpeedGolden(t *testing.T) {
	f := reportstest.Read(t, "speed.jsonl")
	for style, name := range map[Style]string{Text: "speed.txt", Markdown: "speed.md"} {
		var buf bytes.Buffer
		if err := Speed(&buf, style, f.Results()); err != nil {
			t.Fatal(err)
		}
		reportstest.Golden(t, name, buf.Bytes())
	}
}

// servedResults are repetitions of serve-speed: one workload with enough samples for
// a p95, one without, one request without an answer.
func servedResults() []reports.Result {
	var out []reports.Result
	for i := range 6 {
		for _, l := range []reports.Load{
			{Workload: "independent", Concurrency: 4, Requests: 10, Good: 10, DurationMS: 1000},
			{Workload: "multi-turn", Concurrency: 1, Requests: 3, Failed: 1, Good: 1, DurationMS: 500},
		} {
			l.Objective = reports.Objective{TTFTMS: 500, ITLMS: 50}
			r := reports.Result{Scenario: "serve-speed", Repetition: i + 1, Verdict: reports.Pass, Load: &l}
			for j := range l.Requests - l.Failed {
				ms := float64(100*(i+1) + j)
				r.AddMetric(reports.MetricTTFT, ms)
				r.AddMetric(reports.MetricInterToken, ms/10, ms/9)
				r.AddMetric(reports.MetricEndToEnd, 2*ms)
			}
			r.AddMetric(reports.MetricRequestRate, 10+float64(i))
			r.AddMetric(reports.MetricGoodput, 9+float64(i))
			r.AddMetric(reports.MetricOutputTPS, 320+float64(i))
			if l.Workload == "multi-turn" {
				r.AddMetric(reports.MetricCachedPercent, 66)
			}
			out = append(out, r)
		}
	}
	return out
}

func TestServeSpeedGolden(t *testing.T) {
	for style, name := range map[Style]string{Text: "serve.txt", Markdown: "serve.md"} {
		var buf bytes.Buffer
		if err := ServeSpeed(&buf, style, servedResults()); err != nil {
			t.Fatal(err)
		}
		reportstest.Golden(t, name, buf.Bytes())
	}
}

func TestComparisonGolden(t *testing.T) {
	c := &reports.Comparison{
		A: reports.Subject{Name: "./ds4-a", Server: reports.Server{Version: "0.1.0", Model: "ds4-tiny"}}, B: reports.Subject{Name: "./b\x1b[2J"},
		Paired: true, Confidence: 0.95, MarginPercent: 5, MaxRegressionPercent: 3, Warnings: []string{"A: noisy"},
		Rows: []reports.ComparisonRow{
			{Scenario: "speed", FrontierTokens: 512, Metric: "prefill_tps", Unit: "tokens/s", A: reports.Estimate{Samples: make([]float64, 12), Median: 5000},
				B: reports.Estimate{Samples: make([]float64, 12), Median: 4500}, ChangePercent: -10, ChangeLoPercent: -11, ChangeHiPercent: -9.04,
				HasInterval: true, P: 0.0004, HasP: true, Verdict: reports.Slower, Regression: reports.ProvenRegression},
			{Scenario: "serve-speed", Workload: "multi-turn", Concurrency: 8, Metric: "ttft_ms", Unit: "ms", A: reports.Estimate{Samples: make([]float64, 3), Median: 31.5},
				Verdict: reports.CannotTell, Regression: reports.PossibleRegression, Warnings: []string{"B has no sample"}},
			{Scenario: "run", Metric: "retries", Unit: "count", Verdict: reports.Same},
			{Scenario: "run", Metric: "kv_bytes", Unit: "bytes", A: reports.Estimate{Samples: []float64{100}, Median: 100}, B: reports.Estimate{Samples: []float64{101}, Median: 101},
				ChangePercent: 1, Verdict: reports.Different, Regression: reports.ProvenRegression},
		},
	}
	for style, name := range map[Style]string{Text: "comparison.txt", Markdown: "comparison.md"} {
		var buf bytes.Buffer
		if err := Comparison(&buf, style, c); err != nil {
			t.Fatal(err)
		}
		reportstest.Golden(t, name, buf.Bytes())
	}
	if err := Comparison(&reportstest.Full{N: 100}, Text, c); !errors.Is(err, reportstest.ErrFull) {
		t.Errorf("a comparison on a full disk: %v", err)
	}
	if err := ServeSpeed(&reportstest.Full{N: 100}, Text, servedResults()); !errors.Is(err, reportstest.ErrFull) {
		t.Errorf("serve-speed on a full disk: %v", err)
	}
}

// The ceiling has a column where it is known.
func TestSpeedShowsTheCeiling(t *testing.T) {
	results := reportstest.Read(t, "speed.jsonl").Results()
	for i := range results {
		results[i].Machine = &reports.Machine{ReadBPS: 2e10}
		f := results[i].Frontiers
		f[0].DecodeReadBytes = 1.5e10 / f[0].DecodeTPS
	}
	var buf bytes.Buffer
	if err := Speed(&buf, Text, results); err != nil {
		t.Fatal(err)
	}
	if text := buf.String(); !strings.Contains(text, "of read ceiling") || strings.Count(text, "75 %") != 1 {
		t.Errorf("printed\n%s", text)
	}
}

// Few samples: figures without an interval, and a warning that says so.
func TestSpeedWithOneSample(t *testing.T) {
	var buf bytes.Buffer
	if err := Speed(&buf, Text, reportstest.Read(t, "speed.jsonl").Results()[:1]); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(buf.String(), "prefill at 512, decode at 512, prefill at 2048, decode at 2048, prefill at 4096, decode at 4096: 1 samples, an interval of the median needs 6") {
		t.Errorf("no warning in\n%s", buf.String())
	}
}

func TestEmpty(t *testing.T) {
	for _, style := range []Style{Text, Markdown} {
		var buf bytes.Buffer
		if err := Results(&buf, style, nil); err != nil {
			t.Fatal(err)
		}
		if err := Speed(&buf, style, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// Hostile cells stay in their cell: one line per row, the same number of columns
// in Markdown, nothing a terminal acts on.
func TestHostileCells(t *testing.T) {
	hostile := []string{"a|b", "x\ny", "\x1b[2J", "\u202egnp.exe", "\xff\xfe", "`rm`", "<script>", `\`, strings.Repeat("é", 500), "", "  x  ", "Under_Score|"}
	for _, style := range []Style{Text, Markdown} {
		for _, h := range hostile {
			var buf bytes.Buffer
			if err := Write(&buf, style, []Column{{Name: h}, {Name: "n", Number: true}}, [][]string{{h, "1"}, {"plain", "2"}}); err != nil {
				t.Fatal(err)
			}
			out := buf.String()
			if n := strings.Count(out, "\n"); n != 4 {
				t.Errorf("style %d, cell %q: %d lines, want 4:\n%s", style, h, n, out)
			}
			if strings.ContainsAny(out, "\x1b\u202e") || !utf8.ValidString(out) {
				t.Errorf("style %d, cell %q reaches the terminal:\n%q", style, h, out)
			}
			if style == Markdown {
				for line := range strings.Lines(out) {
					unescaped := strings.ReplaceAll(strings.ReplaceAll(line, `\\`, ""), `\|`, "")
					if n := strings.Count(unescaped, "|"); n != 3 {
						t.Errorf("cell %q: a row with %d bars: %q", h, n, line)
					}
				}
			}
		}
	}
}

func TestHeadersAreKept(t *testing.T) {
	var buf bytes.Buffer
	if err := Write(&buf, Text, []Column{{Name: "kv_bytes"}, {Name: "p99.ttft"}}, [][]string{{"", ""}}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(buf.String(), "kv_bytes") || !strings.Contains(buf.String(), "p99.ttft") {
		t.Errorf("headers were rewritten:\n%s", buf.String())
	}
}

func TestRaggedRowIsRefused(t *testing.T) {
	if err := Write(&bytes.Buffer{}, Text, []Column{{Name: "a"}}, [][]string{{"1", "2"}}); err == nil {
		t.Error("a row with two cells under one column was written")
	}
}

func TestWriteErrorsSurface(t *testing.T) {
	results, speed := reportstest.Read(t, "results.jsonl").Results(), reportstest.Read(t, "speed.jsonl").Results()
	for n := range 40 {
		w := &reportstest.Full{N: n * 50}
		if err := Results(w, Text, results); err != nil && !errors.Is(err, reportstest.ErrFull) {
			t.Errorf("after %d bytes: %v", n*50, err)
		}
	}
	if err := Results(&reportstest.Full{}, Text, results); !errors.Is(err, reportstest.ErrFull) {
		t.Errorf("results on a full disk: %v", err)
	}
	if err := Speed(&reportstest.Full{}, Markdown, speed); !errors.Is(err, reportstest.ErrFull) {
		t.Errorf("speed on a full disk: %v", err)
	}
	if err := Details(&reportstest.Full{}, results); !errors.Is(err, reportstest.ErrFull) {
		t.Errorf("details on a full disk: %v", err)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 3: "3", -2: "-2", 431.26: "431", 43.126: "43.1", 4.3126: "4.31", 0.43126: "0.431", 6144: "6144", 123456.7: "123457", math.Pi: "3.14",
	} {
		if got := number(v); got != want {
			t.Errorf("%v is shown as %q, want %q", v, got, want)
		}
	}
}
