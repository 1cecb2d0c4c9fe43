package html

import (
	"bytes"
	"os"
	"testing"

	"ds4/reports"
)

func TestTry(t *testing.T) {
	var runs []reports.Log
	for _, p := range []string{"/tmp/h/a.jsonl", "../testdata/results.jsonl", "../testdata/speed.jsonl"} {
		f, err := reports.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, f.Runs...)
	}
	var b bytes.Buffer
	if err := Write(&b, runs, Options{}); err != nil {
		t.Fatal(err)
	}
	os.WriteFile("/tmp/h/p.html", b.Bytes(), 0o644)
}
