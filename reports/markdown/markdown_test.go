package markdown

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ds4/reports"
)

var update = flag.Bool("update", false, "rewrite the files of testdata")

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
		golden(t, name+".md", buf.Bytes())
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
	full := errors.New("no space left on device")
	if err := Write(failing{full}, nil, nil); !errors.Is(err, full) {
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
