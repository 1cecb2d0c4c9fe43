package html

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ds4/reports"
	"ds4/reports/reportstest"
	"ds4/reports/stat"
)

func read(t testing.TB, name string) []reports.Log {
	t.Helper()
	f, err := reports.ReadFile(filepath.Join("..", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return f.Runs
}

// whole is a page with every part: verdicts, failures, timelines, curves, loads, a
// comparison, warnings.
func whole(t testing.TB) []byte {
	t.Helper()
	runs, old := read(t, "report.jsonl"), read(t, "baseline.jsonl")
	measured := func(name string, logs []reports.Log) stat.Measurement {
		m := stat.Measurement{Name: name, Run: logs[0].Run}
		for _, l := range logs {
			m.Results = append(m.Results, l.Results...)
		}
		return m
	}
	c, err := stat.Compare(measured("baseline.jsonl", old), measured("report.jsonl", runs),
		stat.CompareOptions{MarginPercent: stat.DefaultMarginPercent, MaxRegressionPercent: stat.DefaultMaxRegressionPercent})
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := Write(&buf, runs, Options{Baseline: old, Comparison: c}); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestGolden(t *testing.T) {
	got := whole(t)
	reportstest.Golden(t, "report.html", got)
	wellFormed(t, got)
	alone(t, got)
}

// alone: the page needs nothing from elsewhere and runs no script. The policy in
// the page makes the browser refuse both; this finds what would be refused.
func alone(t *testing.T, page []byte) {
	t.Helper()
	text := string(page)
	for _, bad := range []string{"<script", "javascript:", "<iframe", "<object", "<form", "<img", "@import", "url(", " onload=", " onclick=", "src="} {
		if strings.Contains(strings.ToLower(text), bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	for rest := text; ; {
		_, after, found := strings.Cut(rest, "href=\"")
		if !found {
			break
		}
		target, _, _ := strings.Cut(after, "\"")
		if !strings.HasPrefix(target, "#") && target != "data:," {
			t.Errorf("the page links to %q", target)
		}
		rest = after
	}
	if !strings.Contains(text, `content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"`) {
		t.Error("the policy is not in the page")
	}
}

// wellFormed parses the page as far as an XML parser can read HTML: every element
// that is opened is closed, in order, whatever texts are inside.
func wellFormed(t *testing.T, page []byte) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(page))
	d.Strict = false
	d.AutoClose = xml.HTMLAutoClose
	d.Entity = xml.HTMLEntity
	depth, elements := 0, 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("after %d elements: %v", elements, err)
		}
		switch token.(type) {
		case xml.StartElement:
			depth++
			elements++
		case xml.EndElement:
			depth--
		}
	}
	if depth != 0 || elements < 20 {
		t.Errorf("%d elements, %d of them open at the end", elements, depth)
	}
}

// evil is what a server or a forged results file could say.
const evil = "</style></title><script>alert(1)</script>\"'><img src=x onerror=alert(1)> {{.}} \x00\x1b[31m\u202e\xff & <!--"

// hostile is a result whose every text is evil.
func hostile() reports.Result {
	r := reports.Result{
		Scenario: evil, Title: evil, Origin: evil, Lane: evil, Tags: []string{evil}, Repetition: 1, DurationMS: 1e300,
		Verdict: reports.Fail, Outcome: evil, Reason: evil, Failures: []string{evil}, Warnings: []string{evil}, Rerun: evil, WorkDir: evil,
		Checks: []reports.Check{{Name: evil, Detail: evil}}, Faults: []reports.Fault{{Rule: evil, Armed: 1}},
	}
	for _, kind := range []string{evil, reports.EventStep, reports.EventStart, reports.EventReady, reports.EventRequest, reports.EventRetry,
		reports.EventFault, reports.EventFirstToken, reports.EventGoodToken, reports.EventStop, reports.EventDied, reports.EventEnd} {
		for _, at := range []float64{math.MaxFloat64, 0, 5, 1e-300} {
			r.Timeline = append(r.Timeline, reports.Event{AtMS: at, Kind: kind, Text: evil, DurationMS: math.MaxFloat64, Outcome: evil})
		}
	}
	return r
}

func TestHostileText(t *testing.T) {
	r := hostile()
	speed := r
	speed.Frontiers = []reports.Frontier{{FrontierTokens: 1, ContextTokens: 1, PrefillTPS: math.MaxFloat64, DecodeTPS: 1e-300},
		{FrontierTokens: math.MaxInt, ContextTokens: math.MaxInt, PrefillTPS: 1}}
	load := r
	load.Load = &reports.Load{Workload: evil, Concurrency: math.MaxInt}
	load.AddMetric(reports.MetricTTFT, math.MaxFloat64, -math.MaxFloat64)
	run := reports.Run{
		Command: evil, Args: []string{evil}, Build: reports.Build{Version: evil, Commit: evil, Go: evil},
		Host:   reports.Host{Name: evil, OS: evil, Arch: evil, Kernel: evil, CPU: evil, CPUFeatures: []string{evil}, MemoryBytes: math.MaxUint64},
		Server: reports.Server{Path: evil, Target: evil, Version: evil, Commit: evil, Model: evil, Identity: evil, KernelSet: evil, Args: []string{evil}},
	}
	c := &reports.Comparison{A: reports.Subject{Name: evil}, B: reports.Subject{Name: evil, Server: run.Server}, Warnings: []string{evil},
		MarginPercent: math.MaxFloat64, Rows: []reports.ComparisonRow{
			{Scenario: evil, Workload: evil, Metric: evil, Unit: evil, Verdict: evil, Warnings: []string{evil}, ChangePercent: math.NaN(), HasInterval: true,
				ChangeLoPercent: math.Inf(-1), ChangeHiPercent: math.MaxFloat64, A: reports.Estimate{Samples: []float64{1}}, B: reports.Estimate{Samples: []float64{math.Inf(1)}}}}}
	var buf bytes.Buffer
	if err := Write(&buf, []reports.Log{{Run: run, Results: []reports.Result{r, speed, load}}}, Options{Comparison: c}); err != nil {
		t.Fatal(err)
	}
	page := buf.String()
	wellFormed(t, buf.Bytes())
	for _, bad := range []string{"<script", "<img", "<!--", "\x1b", "\x00", "\u202e", "NaN", "Inf"} {
		if i := strings.Index(page, bad); i >= 0 {
			t.Errorf("the page contains %q: ...%s", bad, page[max(0, i-80):min(len(page), i+80)])
		}
	}
	if n := strings.Count(page, "</style>"); n != 1 {
		t.Errorf("%d ends of a style sheet", n)
	}
}

// A results file may be huge; the page is not, and says what is missing.
func TestBounded(t *testing.T) {
	long := strings.Repeat("ü", 40_000)
	var results []reports.Result
	for i := range 3000 {
		r := reports.Result{Scenario: fmt.Sprint("s", i), Repetition: 1, Verdict: reports.Fail, Failures: []string{long, long}, Warnings: []string{long}}
		for at := range 2000 {
			if i%10 == 0 {
				r.Timeline = append(r.Timeline, reports.Event{AtMS: float64(at), Kind: reports.EventFault, Text: long})
			}
		}
		results = append(results, r)
	}
	var buf bytes.Buffer
	if err := Write(&buf, []reports.Log{{Results: results}}, Options{}); err != nil {
		t.Fatal(err)
	}
	const most = 64 << 20
	if buf.Len() > most {
		t.Errorf("%d bytes", buf.Len())
	}
	for _, want := range []string{"1\u202f000 scenarios are left out", "2\u202f700 repetitions are left out", "2\u202f700 warnings are left out"} {
		if !strings.Contains(buf.String(), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

func TestNothing(t *testing.T) {
	for _, runs := range [][]reports.Log{nil, {{}}} {
		var buf bytes.Buffer
		if err := Write(&buf, runs, Options{}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(buf.String(), "<h1 class=\"verdict-skipped\">No results</h1>") {
			t.Errorf("no heading in %s", buf.Bytes())
		}
	}
}

func TestWriteErrorsSurface(t *testing.T) {
	if err := Write(&reportstest.Full{}, read(t, "results.jsonl"), Options{}); !errors.Is(err, reportstest.ErrFull) {
		t.Errorf("on a full disk: %v", err)
	}
}

// The lanes of a timeline say what happened: a recovery is from the kill to the
// first good token, requests at the same time are below each other.
func TestHistory(t *testing.T) {
	var r *reports.Result
	for _, log := range read(t, "report.jsonl") {
		for i := range log.Results {
			if log.Results[i].Scenario == "crash-after-restore" {
				r = &log.Results[i]
			}
		}
	}
	h := readHistory(r)
	if h.rows != 3 || len(h.requests) != 5 || h.requests[2].row != 2 || h.requests[3].row != 0 {
		t.Errorf("%d rows of requests: %+v", h.rows, h.requests)
	}
	if len(h.recoveries) != 1 || h.recoveries[0].from != 690 || h.recoveries[0].to != 1120 {
		t.Errorf("recoveries %+v, want one from the fault at 690 to the good token at 1120", h.recoveries)
	}
	var up []span
	for _, s := range h.server {
		if s.class == "up" {
			up = append(up, s)
		}
	}
	if len(up) != 2 || up[0].to != 700 || up[1].from != 1010 || up[1].to != 1205 {
		t.Errorf("the server was up %+v", up)
	}
}

func TestTexts(t *testing.T) {
	for ms, want := range map[float64]string{0: "0", 0.25: "0.3 ms", 31: "31 ms", 1234: "1.23 s", 99_990: "99.99 s", 3_661_000: "61 min 1 s", 1e300: "1e+300 ms"} {
		if got := duration(ms); got != want {
			t.Errorf("%v ms is %q, want %q", ms, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0", 6201: "6\u202f201", -1234567: "-1\u202f234\u202f567", 0.1234: "0.123", 12.34: "12.3", 1e20: "1e+20"} {
		if got := number(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
	}
	if got := size(8589934592); got != "8 GiB" {
		t.Error(got)
	}
	if got := clip("äöü", 2); got != "ä…" {
		t.Error(got)
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []scale{{from: 0, to: 1}, {from: 0, to: 8195}, {from: -14, to: 14}, {from: 300, to: 512}, {from: 0, to: 1e300}, {from: 5, to: 5}, {from: 0, to: math.Inf(1)}} {
		got := c.ticks(7)
		if len(got) > 8 {
			t.Errorf("%+v has %d ticks", c, len(got))
		}
		for _, v := range got {
			if v < c.from || v > c.to*1.001 {
				t.Errorf("%+v has a tick at %v", c, v)
			}
		}
	}
}

// FuzzPage: whatever results file the reader takes makes a well-formed page.
func FuzzPage(f *testing.F) {
	for _, name := range []string{"results.jsonl", "baseline.jsonl"} {
		text, err := os.ReadFile(filepath.Join("..", "testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := reports.Read(bytes.NewReader(data), "fuzz")
		if err != nil {
			return
		}
		var buf bytes.Buffer
		if err := Write(&buf, file.Runs, Options{}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(buf.String(), "<script") {
			t.Fatal("a script")
		}
		wellFormed(t, buf.Bytes())
	})
}
