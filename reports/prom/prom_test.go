package prom

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"ds4/reports"
	"ds4/reports/reportstest"
)

// The text is what it was, and what Prometheus's own parser and linter take.
func TestGolden(t *testing.T) {
	for _, name := range []string{"results", "speed", "report"} {
		f, err := reports.ReadFile(filepath.Join("..", "testdata", name+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		if err := Write(&buf, f.Runs); err != nil {
			t.Fatal(err)
		}
		reportstest.Golden(t, name+".prom", buf.Bytes())
		parse(t, buf.Bytes())
		problems, err := promlint.New(&buf).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("%s: %v %+v", name, err, problems)
		}
	}
}

func parse(t *testing.T, text []byte) {
	t.Helper()
	p := expfmt.NewTextParser(model.UTF8Validation)
	if _, err := p.TextToMetricFamilies(bytes.NewReader(text)); err != nil {
		t.Errorf("Prometheus cannot read it: %v\n%s", err, text)
	}
}

func TestHostileText(t *testing.T) {
	evil := "a\"b\\c\nd{}\xff\x00é"
	r := reports.Result{Scenario: evil, Lane: evil, Repetition: 1, Verdict: reports.Fail, Checks: []reports.Check{{Name: evil}}}
	r.AddMetric(evil+"_ms", 1)
	run := reports.Run{Command: evil, Server: reports.Server{Model: evil}}
	var buf bytes.Buffer
	if err := Write(&buf, []reports.Log{{Run: run, Results: []reports.Result{r}}, {Run: run, Results: []reports.Result{r}}}); err != nil {
		t.Fatal(err)
	}
	parse(t, buf.Bytes())
}

func TestSeriesAreBounded(t *testing.T) {
	var results []reports.Result
	for i := range maxSeries {
		results = append(results, reports.Result{Scenario: fmt.Sprint(i), Repetition: 1, Verdict: reports.Pass})
	}
	if err := Write(&bytes.Buffer{}, []reports.Log{{Results: results}}); !errors.Is(err, reports.ErrTooLarge) {
		t.Errorf("%d scenarios: %v", len(results), err)
	}
}

func TestWriteErrorsSurface(t *testing.T) {
	if err := Write(&reportstest.Full{}, []reports.Log{{}}); !errors.Is(err, reportstest.ErrFull) {
		t.Errorf("on a full disk: %v", err)
	}
}

// One gauge cannot be two servers.
func TestSidesAreNotMixed(t *testing.T) {
	var buf bytes.Buffer
	if err := Write(&buf, reportstest.TwoSides()); err != nil {
		t.Fatal(err)
	}
	if text := buf.String(); strings.Contains(text, "tokens_per_second") || !strings.Contains(text, `ds4bench_run_info{command="compare"`) {
		t.Errorf("wrote\n%s", text)
	}
}
