package corrupt

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxFiles bounds a directory walk.
const maxFiles = 100_000

// File is a published file that a selection can name.
type File struct {
	Path     string
	Size     int64
	Modified time.Time
}

// Segments lists the published segment files under a cache directory, oldest
// first; files of one time are ordered by name.
func Segments(dir string) ([]File, error) { return walk(filepath.Join(dir, "segments"), ".kv") }

// Files lists every file under a directory, in the same order: what a server
// keeps whose format is not known.
func Files(dir string) ([]File, error) { return walk(dir, "") }

// Quarantined lists the files that the runtime has set aside.
func Quarantined(dir string) ([]File, error) { return walk(filepath.Join(dir, "quarantine"), ".kv") }

// Temps lists the files that are still being written, or were left behind.
func Temps(dir string) ([]File, error) { return walk(filepath.Join(dir, "tmp"), "") }

// Inflight lists the markers of restores in progress.
func Inflight(dir string) ([]File, error) { return walk(filepath.Join(dir, "inflight"), "") }

// DirBytes sums the sizes of all files under dir.
func DirBytes(dir string) (int64, error) {
	files, err := walk(dir, "")
	var n int64
	for _, f := range files {
		n += f.Size
	}
	return n, err
}

func walk(root, suffix string) ([]File, error) {
	var out []File
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) { // a live server renames and removes below us
				return nil
			}
			return err
		}
		if !d.Type().IsRegular() || !strings.HasSuffix(path, suffix) {
			return nil
		}
		st, err := d.Info()
		if err != nil {
			return nil
		}
		if len(out) == maxFiles {
			return fmt.Errorf("more than %d files under %s", maxFiles, root)
		}
		out = append(out, File{Path: path, Size: st.Size(), Modified: st.ModTime()})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("corrupt: %w", err)
	}
	slices.SortFunc(out, func(a, b File) int {
		if c := a.Modified.Compare(b.Modified); c != 0 {
			return c
		}
		return strings.Compare(a.Path, b.Path)
	})
	return out, nil
}

// CheckPick says whether a selection is well formed.
func CheckPick(sel string) error {
	switch sel {
	case "", "newest", "oldest", "largest", "smallest", "all":
		return nil
	}
	if n, ok := strings.CutPrefix(sel, "nth "); ok {
		if v, err := strconv.Atoi(n); err != nil || v < 1 {
			return fmt.Errorf("corrupt: selection %q: want \"nth N\" with N from 1", sel)
		}
		return nil
	}
	if g, ok := strings.CutPrefix(sel, "glob "); ok {
		if _, err := filepath.Match(g, "x"); err != nil || filepath.IsAbs(g) || strings.Contains(g, "..") {
			return fmt.Errorf("corrupt: selection %q: want a pattern below the cache directory", sel)
		}
		return nil
	}
	return fmt.Errorf("corrupt: unknown selection %q (known: newest, oldest, largest, smallest, all, nth N, glob PATTERN)", sel)
}

// Pick selects files of a cache directory:
//
//	newest, oldest      by modification time ("" is newest)
//	largest, smallest   by size, the newest of equals
//	nth N               N-th oldest, from 1
//	all                 every segment
//	glob PATTERN        files under dir, relative path (filepath.Match)
//
// Selecting nothing is ErrNoFile.
func Pick(dir, sel string) ([]File, error) { return pick(dir, sel, "segment", Segments) }

// PickAny is Pick among all files under dir, not only segments.
func PickAny(dir, sel string) ([]File, error) { return pick(dir, sel, "file", Files) }

func pick(dir, sel, what string, list func(string) ([]File, error)) ([]File, error) {
	if err := CheckPick(sel); err != nil {
		return nil, err
	}
	if g, ok := strings.CutPrefix(sel, "glob "); ok {
		return pickGlob(dir, g)
	}
	files, err := list(dir)
	if err != nil {
		return nil, err
	}
	n := len(files)
	if n == 0 {
		return nil, fmt.Errorf("%w: no %s under %s", ErrNoFile, what, dir)
	}
	bySize := func(a, b File) int { return int(min(max(a.Size-b.Size, -1), 1)) }
	switch sel {
	case "", "newest":
		return files[n-1:], nil
	case "oldest":
		return files[:1], nil
	case "all":
		return files, nil
	case "largest":
		slices.SortStableFunc(files, bySize)
		return files[n-1:], nil
	case "smallest":
		slices.Reverse(files)
		slices.SortStableFunc(files, bySize)
		return files[:1], nil
	}
	i, _ := strconv.Atoi(strings.TrimPrefix(sel, "nth "))
	if i > n {
		return nil, fmt.Errorf("%w: %q of %d %ss", ErrNoFile, sel, n, what)
	}
	return files[i-1 : i], nil
}

func pickGlob(dir, pattern string) ([]File, error) {
	all, err := walk(dir, "")
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(f File) bool {
		rel, err := filepath.Rel(dir, f.Path)
		if err != nil {
			return true
		}
		ok, _ := filepath.Match(pattern, rel)
		return !ok
	})
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: glob %q under %s", ErrNoFile, pattern, dir)
	}
	return all, nil
}
