package junit

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"ds4/reports"
	"ds4/reports/reportstest"
)

func TestGolden(t *testing.T) {
	for _, name := range []string{"results", "speed"} {
		var buf bytes.Buffer
		if err := Write(&buf, reportstest.Read(t, name+".jsonl").Runs); err != nil {
			t.Fatal(err)
		}
		reportstest.Golden(t, name+".xml", buf.Bytes())
	}
}

// Counts in the attributes are those of the elements, and the verdicts keep
// their weight.
func TestCounts(t *testing.T) {
	var buf bytes.Buffer
	if err := Write(&buf, reportstest.Read(t, "results.jsonl").Runs); err != nil {
		t.Fatal(err)
	}
	var got suites
	if err := xml.Unmarshal(buf.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, c := range got.Suites[0].Cases {
		switch {
		case c.Failure != nil:
			n["failure"]++
		case c.Error != nil:
			n["error"]++
		case c.Skipped != nil:
			n["skipped"]++
		}
	}
	if got.Tests != 6 || n["failure"] != got.Failures || n["error"] != got.Errors || n["skipped"] != got.Skipped ||
		got.Failures != 1 || got.Errors != 1 || got.Skipped != 1 {
		t.Errorf("attributes say %d tests, %d failures, %d errors, %d skipped; elements %v", got.Tests, got.Failures, got.Errors, got.Skipped, n)
	}
}

// Whatever a crashed server left in a message, the file stays well-formed XML.
func TestHostileText(t *testing.T) {
	for _, s := range []string{"\x00\x01\x1b[31m", "]]>", "<a b='&'>", "\xff\xfe", "\ufffe", "a\r\nb"} {
		r := reports.Result{Scenario: s, Repetition: 1, Verdict: reports.Fail, Failures: []string{s}, Rerun: s, Outcome: s}
		var buf bytes.Buffer
		if err := Write(&buf, []reports.Log{{Run: reports.Run{Command: s}, Results: []reports.Result{r}}}); err != nil {
			t.Fatal(err)
		}
		dec := xml.NewDecoder(strings.NewReader(buf.String()))
		for {
			if _, err := dec.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%q: %v in\n%s", s, err, buf.String())
			}
		}
	}
}

func TestWriteErrorsSurface(t *testing.T) {
	for n := 0; n < 500; n += 100 {
		if err := Write(&reportstest.Full{N: n}, reportstest.Read(t, "results.jsonl").Runs); !errors.Is(err, reportstest.ErrFull) {
			t.Errorf("on a full disk: %v", err)
		}
	}
}
