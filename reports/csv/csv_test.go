package csv

import (
	"bytes"
	"encoding/csv"
	"errors"
	"path/filepath"
	"testing"

	"ds4/reports"
	"ds4/reports/reportstest"
)

func TestGolden(t *testing.T) {
	for _, name := range []string{"results", "speed"} {
		var buf bytes.Buffer
		if err := Write(&buf, read(t, name+".jsonl").Results()); err != nil {
			t.Fatal(err)
		}
		reportstest.Golden(t, name+".csv", buf.Bytes())
		rows, err := csv.NewReader(&buf).ReadAll() // the reader wants equal columns everywhere
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) < 2 {
			t.Errorf("%s: %d lines", name, len(rows))
		}
	}
}

func TestAwkwardTextSurvives(t *testing.T) {
	want := "a,\"b\"\nc"
	var buf bytes.Buffer
	if err := Write(&buf, []reports.Result{{Scenario: want, Repetition: 1, Verdict: reports.Skipped}}); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&buf).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if rows[1][0] != want {
		t.Errorf("%q became %q", want, rows[1][0])
	}
}

func TestWriteErrorsSurface(t *testing.T) {
	if err := Write(&full{}, read(t, "results.jsonl").Results()); !errors.Is(err, errFull) {
		t.Errorf("on a full disk: %v", err)
	}
}

func read(t *testing.T, name string) *reports.File {
	t.Helper()
	f, err := reports.ReadFile(filepath.Join("..", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var errFull = errors.New("no space left on device")

// full is a writer that fails after n bytes.
type full struct{ n int }

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.n {
		return 0, errFull
	}
	f.n -= len(p)
	return len(p), nil
}
