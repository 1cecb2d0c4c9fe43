package csv

import (
	"bytes"
	"encoding/csv"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ds4/reports"
)

var update = flag.Bool("update", false, "rewrite the files of testdata")

func TestGolden(t *testing.T) {
	for _, name := range []string{"results", "speed"} {
		var buf bytes.Buffer
		if err := Write(&buf, read(t, name+".jsonl").Results()); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".csv", buf.Bytes())
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

// golden compares got with a file of testdata; -update writes the file.
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
