package scenarios

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const cataloguePage = "../docs/failure-modes.md"

// rows of the page: the identifier, and the column that names scenarios or says
// why there is none.
func catalogueRows(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(cataloguePage)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		id := strings.TrimSpace(cells[0])
		if !rowPattern.MatchString(id) {
			continue
		}
		if len(cells) != 4 || rows[id] != "" {
			t.Errorf("row %s: %d columns, want 4, and one row", id, len(cells))
		}
		rows[id] = strings.TrimSpace(cells[len(cells)-1])
	}
	return rows
}

// The page must have every row of the groups that are about the cache, every
// scenario that it names must exist, and every scenario must be named in the
// rows that it claims.
func TestCatalogueMatchesLibrary(t *testing.T) {
	rows := catalogueRows(t)
	for _, id := range strings.Fields(`A1 A2 A3 A4 A6 A7 A8 A10
		B1 B3 B4 B5 B7 B8 B9 B11 B12 B14 B16
		C1 C2 C3 C4 C5 C7 C8 C11 C12 C13
		D1 D3 D4 D5 D7 D8 D9 D10 D12 D13 D15 D17
		E1 E5 E6 E7 E8 E10 E11 E12
		F1 F2 F3 F4 F6 F7 F9 F10 F11 F12 F13
		G1 G2 G3 G4 G5 G6 G8 G10 G11 G13`) {
		if rows[id] == "" || rows[id] == "open" {
			t.Errorf("row %s is missing, or says neither scenario nor reason", id)
		}
	}
	list, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`([a-z0-9-]+)`")
	for id, cell := range rows {
		for _, m := range names.FindAllStringSubmatch(cell, -1) {
			if _, err := Find(list, m[1]); err != nil {
				t.Errorf("row %s: %v", id, err)
			}
		}
	}
	for _, s := range list {
		for _, id := range s.Catalogue {
			if !slices.ContainsFunc(names.FindAllStringSubmatch(rows[id], -1), func(m []string) bool { return m[1] == s.ID }) {
				t.Errorf("%s stands for row %s, which does not name it: %q", s.ID, id, rows[id])
			}
		}
	}
}
