package cli

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the track record into the README")

// The track record of the README is what the library says.
func TestTrackRecordIsFresh(t *testing.T) {
	const readme, begin, end = "../../README.md", "<!-- ds4bench list --track-record -->\n", "<!-- end -->\n"
	var want, stderr bytes.Buffer
	if code := Main([]string{"list", "--track-record"}, &want, &stderr); code != ExitPass {
		t.Fatalf("exit %d: %s", code, stderr.String())
	}
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	got, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("the README has no place for the track record between %q and %q", begin, end)
	}
	if *update {
		if err := os.WriteFile(readme, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want.String() {
		t.Errorf("the track record of the README is not that of the library; run: go test ./scenarios/cli -run TestTrackRecord -update")
	}
	if n := strings.Count(got, "\n"); n < 12 {
		t.Errorf("%d lines", n)
	}
}
