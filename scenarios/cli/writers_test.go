package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A report that cannot be written leaves the one before it, and nothing else.
func TestWriteFileKeepsTheOldOne(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "report.html")
	write := func(text string, err error) error {
		return writeFile(path, func(w io.Writer) error {
			_, _ = io.WriteString(w, text)
			return err
		})
	}
	if err := write("old", nil); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if err := write("half of", broken); !errors.Is(err, broken) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "old" {
		t.Errorf("%q %v", text, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if err := write("new", nil); err != nil {
		t.Fatal(err)
	}
	if text, _ = os.ReadFile(path); string(text) != "new" {
		t.Errorf("%q", text)
	}
}

func TestReportFiles(t *testing.T) {
	for values, want := range map[string]string{
		"html": "not FORMAT=FILE", "html=": "not FORMAT=FILE", "pdf=x": `"pdf" is not one of: text, markdown`, "csv=a junit=a": "twice", "=x": "is not one of",
	} {
		if _, err := reportFiles(strings.Fields(values)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", values, err, want)
		}
	}
	list, err := reportFiles([]string{"html=a=b.html", "table=/dev/stdout", "junit=c"})
	if err != nil || len(list) != 3 || list[0].path != "a=b.html" {
		t.Errorf("%v %v", list, err)
	}
}
