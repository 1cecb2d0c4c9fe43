// Package reportstest is what the tests of the writers share: golden files, recorded
// results, and a disk that is full.
package reportstest

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ds4/reports"
)

var update = flag.Bool("update", false, "rewrite the files of testdata")

// Golden compares got with a file of testdata; -update writes the file.
func Golden(t *testing.T, name string, got []byte) {
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

// ErrFull is what a Full writer says.
var ErrFull = errors.New("no space left on device")

// Full is a file on a disk that has room for N bytes.
type Full struct{ N int }

// Write fails where there is no room.
func (f *Full) Write(p []byte) (int, error) {
	if len(p) > f.N {
		return 0, ErrFull
	}
	f.N -= len(p)
	return len(p), nil
}

// Read reads a results file of the package reports.
func Read(t testing.TB, name string) *reports.File {
	t.Helper()
	f, err := reports.ReadFile(filepath.Join("..", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TwoSides is a run that measured two servers in turns.
func TwoSides() []reports.Log {
	log := reports.Log{Run: reports.Run{Format: reports.Format, Command: "compare"}}
	for i, side := range []string{reports.SideA, reports.SideB} {
		speed := 100 * float64(i+1)
		log.Results = append(log.Results, reports.Result{Scenario: "speed", Side: side, Repetition: 1, Verdict: reports.Pass,
			Frontiers: []reports.Frontier{{FrontierTokens: 512, ContextTokens: 512, EvaluatedTokens: 512, PrefillTPS: speed, DecodeTPS: speed}}})
	}
	return []reports.Log{log}
}
