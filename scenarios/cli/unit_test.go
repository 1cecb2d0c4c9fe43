package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"ds4/reports"
	"ds4/scenarios"
	"ds4/scenarios/run"
)

func result(v reports.Verdict) reports.Result {
	return reports.Result{Scenario: "s", Repetition: 1, Verdict: v}
}

func TestVerdictExit(t *testing.T) {
	tests := []struct {
		rs   []reports.Result
		want int
	}{
		{nil, ExitInconclusive}, // nothing ran, nothing was proven
		{[]reports.Result{result(reports.Skipped)}, ExitInconclusive},
		{[]reports.Result{result(reports.Pass), result(reports.Skipped)}, ExitPass},
		{[]reports.Result{result(reports.Pass), result(reports.Inconclusive)}, ExitInconclusive},
		{[]reports.Result{result(reports.Inconclusive), result(reports.Fail), result(reports.Pass)}, ExitFail},
	}
	for _, tt := range tests {
		var buf bytes.Buffer
		if got := report(&buf, verdictExit(tt.rs)); got != tt.want {
			t.Errorf("%s: exit %d, want %d", counts(tt.rs), got, tt.want)
		}
		if buf.Len() > 0 {
			t.Errorf("a verdict printed %q besides the report", buf.String())
		}
	}
}

func TestReportPrintsOnce(t *testing.T) {
	cmd := &cobra.Command{Use: "x"}
	cause := errors.New("cause")
	tests := []struct {
		err       error
		code      int
		want, not string
	}{
		{usage(cmd, cause), ExitUsage, "cause\nsee x --help\n", ""},
		{badFile(cause), ExitUsage, "ds4bench: cause\n", "--help"},
		{infrastructure(fmt.Errorf("more: %w", cause)), ExitInconclusive, "more: cause", "--help"},
		{cause, ExitInconclusive, "cause", "--help"},
		{nil, ExitPass, "", "ds4bench"},
	}
	for _, tt := range tests {
		var buf bytes.Buffer
		code := report(&buf, tt.err)
		text := buf.String()
		if code != tt.code || !strings.Contains(text, tt.want) || tt.not != "" && strings.Contains(text, tt.not) {
			t.Errorf("%v: exit %d, printed %q", tt.err, code, text)
		}
		if n := strings.Count(text, "cause"); tt.err != nil && n != 1 {
			t.Errorf("%v was printed %d times", tt.err, n)
		}
	}
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"/opt/ds4": "/opt/ds4", "a b": "'a b'", "": "''", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "*": "'*'", "http://127.0.0.1:8000": "http://127.0.0.1:8000",
		"~x": "'~x'", "a\nb": "'a\nb'",
	} {
		if got := shellWord(in); got != want {
			t.Errorf("%q became %s, want %s", in, got, want)
		}
	}
}

func TestRerunLine(t *testing.T) {
	const line = "ds4bench run kill --seed 7 --repeat 1"
	for path, want := range map[string]string{
		"":                   line,
		"./my dir/kill.yaml": "ds4bench run './my dir/kill.yaml' --seed 7 --repeat 1",
	} {
		if got := rerunLine(line, "kill", path); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := dashed([]string{"--threads", "2 3"}); got != " -- --threads '2 3'" {
		t.Errorf("%q", got)
	}
}

func TestProgressOffATerminal(t *testing.T) {
	var buf bytes.Buffer
	p := newProgress(&buf)
	p.at(run.Progress{Scenario: "s", Repetition: 1, Total: 2, Step: "chat", Elapsed: time.Second})
	if buf.Len() > 0 {
		t.Errorf("a progress line went to a file at once: %q", buf.String())
	}
	p.last = time.Now().Add(-heartbeat)
	p.at(run.Progress{Scenario: "s", Repetition: 1, Total: 2, Step: "chat", Elapsed: time.Second})
	if got, want := buf.String(), "[1/2] s #1  chat  1.0 s\n"; got != want {
		t.Errorf("heartbeat %q, want %q", got, want)
	}
	buf.Reset()
	r := result(reports.Fail)
	r.Failures = []string{"got \x1b[31mred"}
	r.Outcome, r.DurationMS = "wrong", 1500
	p.finished(&r)
	if got, want := buf.String(), "fail         s #1  wrong  got \ufffd[31mred  1.5 s\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestProgressOnATerminal(t *testing.T) {
	var buf bytes.Buffer
	p := &progress{w: &buf, width: 30}
	p.at(run.Progress{Scenario: "a-scenario-with-a-long-name", Repetition: 1, Total: 2, Step: "chat cold", PrefillTPS: 431})
	line := strings.TrimPrefix(buf.String(), "\r\x1b[K")
	if n := len([]rune(line)); n >= 30 {
		t.Errorf("a line of %d columns on a terminal of 30: %q", n, line)
	}
	buf.Reset()
	p.at(run.Progress{Scenario: "b"}) // too soon to be read
	if buf.Len() > 0 {
		t.Errorf("redrawn at once: %q", buf.String())
	}
	r := result(reports.Pass)
	p.finished(&r)
	if got, want := buf.String(), "\r\x1b[Kpass         s #1\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCreateResults(t *testing.T) {
	t.Chdir(t.TempDir())
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	first, err := createResults("", now)
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	if want := filepath.Join("results", "20260304T050607Z.jsonl"); first.Name() != want {
		t.Errorf("default name %s, want %s", first.Name(), want)
	}
	second, err := createResults("", now) // the same second: neither file may win
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	defer os.Remove(second.Name())
	if second.Name() == first.Name() {
		t.Error("two runs share a file")
	}
}

func TestOutIsReplacedOnlyIfItHoldsResults(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "r.jsonl")
	for range 2 { // the second time over the first
		r, err := openResults(out, reports.Run{Command: "run"})
		if err != nil {
			t.Fatal(err)
		}
		res := result(reports.Pass)
		if err := r.add(&res); err != nil {
			t.Fatal(err)
		}
		csvFile, junitFile := filepath.Join(dir, "r.csv"), filepath.Join(dir, "r.xml")
		if err := r.close(outputFlags{csv: csvFile, junit: junitFile}, false); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{csvFile, junitFile} {
			if info, err := os.Stat(name); err != nil || info.Size() == 0 {
				t.Errorf("%s: %v, %v", name, info, err)
			}
		}
	}
	f, err := reports.ReadFile(out)
	if err != nil || len(f.Results()) != 1 || f.Runs[0].End == nil {
		t.Errorf("results file %+v, %v", f, err)
	}
	for name, content := range map[string]string{"notes": "dear diary", "short": "x", "other": `{"run":{"format":"other/1"}}`} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := createResults(path, time.Now())
		var exit *exitError
		if !errors.As(err, &exit) || exit.code != ExitUsage {
			t.Errorf("%s: %v", name, err)
		}
		if got, _ := os.ReadFile(path); string(got) != content {
			t.Errorf("%s was overwritten: %q", name, got)
		}
	}
	if _, err := createResults(dir, time.Now()); err == nil {
		t.Error("a directory was taken for a file")
	}
}

func TestCheckout(t *testing.T) {
	root := t.TempDir()
	mkdir := func(parts ...string) string {
		dir := filepath.Join(append([]string{root}, parts...)...)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	module := func(dir, name string) {
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+name+"\n\ngo 1.26\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	module(mkdir("ds4"), "ds4")
	mkdir("ds4", "cmd", "ds4")
	if got, ok := checkout(mkdir("ds4", "scenarios", "library")); !ok || got != filepath.Join(root, "ds4") {
		t.Errorf("inside the checkout: %s, %v", got, ok)
	}
	module(mkdir("other"), "example.com/other")
	mkdir("other", "cmd", "ds4")
	if got, ok := checkout(mkdir("other", "sub")); ok {
		t.Errorf("another module was taken for ours: %s", got)
	}
	module(mkdir("half"), "ds4")
	if got, ok := checkout(mkdir("half")); ok {
		t.Errorf("a tree without cmd/ds4: %s", got)
	}
}

func TestBuildReportsTheCompiler(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "cmd", "ds4")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"go.mod": "module ds4\n\ngo 1.26\n", "cmd/ds4/main.go": "package main\nfunc main() { undefinedName() }\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	_, err := build(context.Background(), root, &log)
	var exit *exitError
	if !errors.As(err, &exit) || exit.code != ExitInconclusive || !strings.Contains(err.Error(), "undefinedName") {
		t.Errorf("error %v", err)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "go build ./cmd/ds4") {
		t.Errorf("announced as %q", log.String())
	}
}

func TestFacts(t *testing.T) {
	for text, want := range map[string][2]string{
		"ds4 0.1.0+2f6c1d0e8a11-dirty go1.26.8 linux/amd64\n": {"0.1.0+2f6c1d0e8a11-dirty", "2f6c1d0e8a11"},
		"ds4 0.1.0 go1.26.8 linux/amd64\n":                    {"0.1.0", ""},
		"ds4\n":                                               {},
		"llama-server 1.2\n":                                  {},
		"":                                                    {},
	} {
		if version, commit := parseVersion([]byte(text)); version != want[0] || commit != want[1] {
			t.Errorf("%q: version %q, commit %q", text, version, commit)
		}
	}
	var rec reports.Server
	parseModel([]byte(`{"id":"ds4-tiny","identity":"00ff","backend":"cpu/avx2","layers":8}`), &rec)
	if rec.Model != "ds4-tiny" || rec.Identity != "00ff" || rec.KernelSet != "cpu/avx2" {
		t.Errorf("%+v", rec)
	}
	before := rec
	if parseModel([]byte("no json"), &rec); !reflect.DeepEqual(rec, before) {
		t.Errorf("%+v", rec)
	}
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "ds4_build_info{backend=\"cpu/avx512\",model=\"tiny\",version=\"0.1.0+2f6c1d0e8a11-dirty\"} 1\n")
	}))
	defer page.Close()
	for _, s := range []*subject{{target: page.URL}, {target: "http://127.0.0.1:1"}} {
		want := reports.Server{Target: s.target}
		if s.target == page.URL {
			want.Version, want.Commit, want.Model, want.KernelSet = "0.1.0+2f6c1d0e8a11-dirty", "2f6c1d0e8a11", "tiny", "cpu/avx512"
		}
		if got := s.record(t.Context(), 0); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	m := modelLine.FindStringSubmatch("0101 00:00:00 ds4-server: model ds4-tiny (embedded, 27 MB) backend=cpu/avx2 numerics=production")
	if len(m) != 3 || m[1] != "ds4-tiny" || m[2] != "cpu/avx2" {
		t.Errorf("%q", m)
	}
	var b limitedBuffer
	for range 3 {
		if n, err := b.Write(make([]byte, maxFactBytes/2+1)); n != maxFactBytes/2+1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if b.buf.Len() != maxFactBytes {
		t.Errorf("%d bytes kept", b.buf.Len())
	}
}

// Without names every lane is run: what a host does not allow is skipped with the
// reason, and not left out without a word.
func TestSelectionHasEveryLane(t *testing.T) {
	list, err := new(selection).load(newRun(nil))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[scenarios.Lane]bool{}
	for _, c := range list {
		seen[c.scenario.Lane] = true
		if slices.Contains(c.scenario.Tags, tagSoak) {
			t.Errorf("%s takes its time and was not asked for", c.scenario.ID)
		}
	}
	for _, l := range scenarios.Lanes() {
		if !seen[l] {
			t.Errorf("no scenario of lane %s", l)
		}
	}
}
