package csv

import (
	"bytes"
	"encoding/csv"
	"errors"
	"testing"

	"ds4/reports"
	"ds4/reports/reportstest"
)

func TestGolden(t *testing.T) {
	for _, name := range []string{"results", "speed"} {
		var buf bytes.Buffer
		if err := Write(&buf, reportstest.Read(t, name+".jsonl").Results()); err != nil {
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
	if err := Write(&reportstest.Full{}, reportstest.Read(t, "results.jsonl").Results()); !errors.Is(err, reportstest.ErrFull) {
		t.Errorf("on a full disk: %v", err)
	}
}
