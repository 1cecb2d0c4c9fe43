package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// The jobs of docs/ci.md are those that init writes.
func TestJobsOfTheDocs(t *testing.T) {
	const page, end = "../../docs/ci.md", "<!-- end -->\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	got := string(text)
	want := got
	for system, file := range map[string]string{
		ciGitHub: filepath.Join(".github", "workflows", "ds4bench.yml"),
		ciGitLab: "ds4bench.gitlab-ci.yml",
	} {
		files, err := (&initFlags{ci: system}).files(&cobra.Command{}, "ds4bench")
		if err != nil || len(files[file]) == 0 {
			t.Fatalf("%s: no %s in %d files: %v", system, file, len(files), err)
		}
		begin := "<!-- ds4bench init --ci " + system + " -->\n"
		before, rest, found := strings.Cut(want, begin)
		_, after, closed := strings.Cut(rest, end)
		if !found || !closed {
			t.Fatalf("%s has no place for the job of %s", page, system)
		}
		want = before + begin + "```yaml\n" + string(files[file]) + "```\n" + end + after
	}
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("the jobs of %s are not those of init; run: go test ./scenarios/cli -run TestJobsOfTheDocs -update", page)
	}
}
