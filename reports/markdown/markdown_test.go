package markdown

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"ds4/reports"
	"ds4/reports/reportstest"
)

func TestGolden(t *testing.T) {
	for _, name := range []string{"results", "speed", "report"} {
		f, err := reports.ReadFile(filepath.Join("..", "testdata", name+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		if err := Write(&buf, f.Runs, nil); err != nil {
			t.Fatal(err)
		}
		reportstest.Golden(t, name+".md", buf.Bytes())
	}
}

// Whatever a server or a file says, the text around it stays as it is.
func TestHostileText(t *testing.T) {
	evil := "a | b\n# title\n```\n<script>alert(1)</script> [x](y) *b* $z$ \x1b[31m\u202e"
	r := reports.Result{
		Scenario: evil, Repetition: 1, Verdict: reports.Fail, Outcome: evil, Reason: evil, Failures: []string{evil, strings.Repeat("`", 9) + "\n" + evil},
		Faults: []reports.Fault{{Rule: evil, Armed: 1}}, Warnings: []string{evil}, Rerun: evil,
	}
	skipped := reports.Result{Scenario: evil, Repetition: 1, Verdict: reports.Skipped, Reason: evil}
	var buf bytes.Buffer
	if err := Write(&buf, []reports.Log{{Run: reports.Run{Server: reports.Server{Model: "m"}}, Results: []reports.Result{r, skipped}}}, nil); err != nil {
		t.Fatal(err)
	}
	fence := ""
	for line := range strings.Lines(buf.String()) {
		line = strings.TrimRight(line, "\n")
		marks := line[:len(line)-len(strings.TrimLeft(line, "`"))]
		switch {
		case fence == "" && len(marks) >= 3:
			fence = marks
		case fence != "" && line == fence:
			fence = ""
		case fence != "":
			if len(marks) >= len(fence) {
				t.Errorf("%q closes a fence of %d marks", line, len(fence))
			}
		case strings.Contains(line, "<script") || strings.Contains(strings.ReplaceAll(line, `\[`, ""), "["):
			t.Errorf("markup outside of a fence: %q", line)
		case strings.HasPrefix(line, "# title"):
			t.Errorf("a heading of the server's: %q", line)
		}
		if strings.ContainsAny(line, "\x1b\u202e") {
			t.Errorf("control characters in %q", line)
		}
	}
	if fence != "" {
		t.Error("a fence stays open")
	}
}

func TestBounded(t *testing.T) {
	var results []reports.Result
	for range 3000 {
		results = append(results, reports.Result{Scenario: "s", Repetition: 1, Verdict: reports.Fail, Failures: []string{strings.Repeat("é", 9000)}})
	}
	var buf bytes.Buffer
	if err := Write(&buf, []reports.Log{{Results: results}}, nil); err != nil {
		t.Fatal(err)
	}
	if buf.Len() > maxBytes || !strings.Contains(buf.String(), "2950 more that did not pass are in the results file") {
		t.Errorf("%d bytes, which end in %q", buf.Len(), buf.String()[buf.Len()-100:])
	}
}

func TestWriteErrorsSurface(t *testing.T) {
	if err := Write(&reportstest.Full{}, nil, nil); !errors.Is(err, reportstest.ErrFull) {
		t.Errorf("on a full disk: %v", err)
	}
}
