package prom

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"ds4/reports"
)

var update = flag.Bool("update", false, "rewrite the files of testdata")

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
		golden(t, name+".prom", buf.Bytes())
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
	full := errors.New("no space left on device")
	if err := Write(failing{full}, []reports.Log{{}}); !errors.Is(err, full) {
		t.Errorf("on a full disk: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}
