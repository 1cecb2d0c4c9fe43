package benchfmt

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/perf/benchfmt"

	"ds4/reports"
	"ds4/reports/reportstest"
)

func TestGolden(t *testing.T) {
	for name, want := range map[string]int{"results": 6, "speed": 18, "report": 1180} {
		f, err := reports.ReadFile(filepath.Join("..", "testdata", name+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		if err := Write(&buf, f.Runs); err != nil {
			t.Fatal(err)
		}
		reportstest.Golden(t, name+".bench", buf.Bytes())
		if n := count(t, buf.Bytes()); n != want {
			t.Errorf("%s: benchstat reads %d results, want %d", name, n, want)
		}
	}
}

// The reader that benchstat uses finds every sample under its unit.
func TestReadable(t *testing.T) {
	f, err := reports.ReadFile(filepath.Join("..", "testdata", "speed.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := Write(&buf, f.Runs); err != nil {
		t.Fatal(err)
	}
	r := benchfmt.NewReader(&buf, "speed")
	var got []float64
	for r.Scan() {
		res, ok := r.Result().(*benchfmt.Result)
		if !ok || string(res.Name) != "Speed/context=512" {
			continue
		}
		v, ok := res.Value(reports.MetricPrefillTPS)
		if !ok || res.GetConfig("cpu") == "" {
			t.Fatalf("%s: %+v", res.Name, res)
		}
		got = append(got, v)
	}
	if len(got) != 6 || got[0] != 449.167 {
		t.Errorf("samples %v", got)
	}
	if better := r.Units().GetBetter(reports.MetricPrefillTPS); better != 1 {
		t.Errorf("higher throughput is better, not %d", better)
	}
}

func count(t *testing.T, text []byte) int {
	t.Helper()
	n, r := 0, benchfmt.NewReader(bytes.NewReader(text), "t")
	for r.Scan() {
		switch rec := r.Result().(type) {
		case *benchfmt.SyntaxError:
			t.Errorf("benchstat cannot read it: %v\n%s", rec, text)
		case *benchfmt.Result:
			n++
		}
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	return n
}

func TestHostileText(t *testing.T) {
	evil := "a b\nBenchmarkEvil 1 2 x\r\n\u2028Unit y better=lower \xff"
	r := reports.Result{Scenario: evil, Repetition: 1, Verdict: reports.Pass}
	r.AddMetric(evil+" z_ms", 1, 2)
	r.AddMetric("", 3)
	failed := r
	failed.Verdict = reports.Fail
	run := reports.Run{Host: reports.Host{Name: evil, CPU: evil}, Server: reports.Server{Model: evil}}
	var buf bytes.Buffer
	if err := Write(&buf, []reports.Log{{Run: run, Results: []reports.Result{r, failed}}}); err != nil {
		t.Fatal(err)
	}
	if n := count(t, buf.Bytes()); n != 2 {
		t.Errorf("%d results, want one for each sample:\n%s", n, buf.Bytes())
	}
}

func TestWriteErrorsSurface(t *testing.T) {
	r := reports.Result{Scenario: "s", Repetition: 1, Verdict: reports.Pass}
	r.AddMetric("x_ms", 1)
	if err := Write(&reportstest.Full{}, []reports.Log{{Results: []reports.Result{r}}}); !errors.Is(err, reportstest.ErrFull) {
		t.Errorf("on a full disk: %v", err)
	}
}

func TestSidesAreApart(t *testing.T) {
	var buf bytes.Buffer
	if err := Write(&buf, reportstest.TwoSides()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"BenchmarkSpeed/context=512/side=a 1 100 prefill_tps", "BenchmarkSpeed/context=512/side=b 1 200 prefill_tps"} {
		if !strings.Contains(buf.String(), want) {
			t.Errorf("no %q in\n%s", want, buf.String())
		}
	}
}
