package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ds4/scenarios"
)

// selection is which scenarios a command line asks for.
type selection struct {
	args     []string // paths and ids; none means the library
	lanes    []string
	tags     []string
	everyTag bool // do not leave out what takes its time
}

// chosen is a scenario and where it came from.
type chosen struct {
	scenario *scenarios.Scenario
	path     string // "" if it is built in
}

// maxFiles bounds the scenario files of one directory.
const maxFiles = 10_000

func (s *selection) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&s.lanes, "lane", nil, "only scenarios of these `lanes`: "+laneNames())
	cmd.Flags().StringSliceVar(&s.tags, "tag", nil, "only scenarios with one of these `tags`")
}

func laneNames() string {
	var names []string
	for _, l := range scenarios.Lanes() {
		names = append(names, string(l))
	}
	return strings.Join(names, ", ")
}

// tagSoak marks scenarios that take their time: they run when they are asked for,
// by name or tag.
const tagSoak = "soak"

func (s *selection) inTime(sc *scenarios.Scenario) bool {
	return s.everyTag || slices.Contains(s.tags, tagSoak) || !slices.Contains(sc.Tags, tagSoak)
}

// explicit says that scenarios were asked for, and not just all that there are.
func (s *selection) explicit() bool { return len(s.args)+len(s.lanes) > 0 }

// load returns the scenarios that were asked for. With names, exactly those,
// whatever their tags; without, the library. Where a host does not allow what a
// scenario needs, the run says so.
func (s *selection) load(cmd *cobra.Command) ([]chosen, error) {
	for _, l := range s.lanes {
		if !slices.Contains(scenarios.Lanes(), scenarios.Lane(l)) {
			return nil, usagef(cmd, "--lane %q is not one of: %s", l, laneNames())
		}
	}
	library, err := scenarios.Library()
	if err != nil {
		return nil, infrastructure(err)
	}
	var all []chosen
	for _, sc := range library {
		if len(s.args) == 0 && s.inTime(sc) {
			all = append(all, chosen{scenario: sc})
		}
	}
	for _, arg := range s.args {
		found, err := resolve(arg, library)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	all = slices.DeleteFunc(all, func(c chosen) bool { return !s.wants(c.scenario) })
	if len(all) == 0 {
		return nil, usagef(cmd, "no scenario matches; ds4bench list shows all")
	}
	return all, unique(all)
}

// wants applies the filters.
func (s *selection) wants(sc *scenarios.Scenario) bool {
	if len(s.lanes) > 0 && !slices.Contains(s.lanes, string(sc.Lane)) {
		return false
	}
	return len(s.tags) == 0 || slices.ContainsFunc(s.tags, func(t string) bool { return slices.Contains(sc.Tags, t) })
}

// resolve turns one argument into scenarios: a file, a directory of files, or an
// id of the library. What looks like a path is never taken for an id.
func resolve(arg string, library []*scenarios.Scenario) ([]chosen, error) {
	looksLikePath := strings.ContainsRune(arg, filepath.Separator) || strings.HasSuffix(arg, ".yaml") || strings.HasSuffix(arg, ".yml")
	if !looksLikePath {
		sc, err := scenarios.Find(library, arg)
		if err == nil {
			return []chosen{{scenario: sc}}, nil
		}
		if _, statErr := os.Stat(arg); statErr != nil {
			return nil, err
		}
	}
	info, err := os.Stat(arg)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, badFile(fmt.Errorf("%s: no such file", arg))
	case err != nil:
		return nil, badFile(err)
	case info.IsDir():
		return loadDir(arg)
	case !info.Mode().IsRegular():
		return nil, badFile(fmt.Errorf("%s: not a file and not a directory", arg))
	}
	sc, err := scenarios.LoadFile(arg)
	if err != nil {
		return nil, badFile(err)
	}
	return []chosen{{sc, arg}}, nil
}

// loadDir loads every scenario file of a directory, not those below it. One bad
// file fails the whole: a suite that silently shrinks proves less each day.
func loadDir(dir string) ([]chosen, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, badFile(err)
	}
	var all []chosen
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); e.IsDir() || ext != ".yaml" && ext != ".yml" {
			continue
		}
		if len(all) == maxFiles {
			return nil, badFile(fmt.Errorf("%s: more than %d scenario files", dir, maxFiles))
		}
		path := filepath.Join(dir, e.Name())
		sc, err := scenarios.LoadFile(path)
		if err != nil {
			return nil, badFile(err)
		}
		all = append(all, chosen{sc, path})
	}
	if len(all) == 0 {
		return nil, badFile(fmt.Errorf("%s: no .yaml file in this directory", dir))
	}
	return all, nil
}

// unique refuses two different scenarios with one id: their results could not be
// told apart.
func unique(all []chosen) error {
	from := make(map[string]string)
	for _, c := range all {
		where := c.path
		if where == "" {
			where = "the library"
		}
		if before, ok := from[c.scenario.ID]; ok {
			return badFile(fmt.Errorf("scenario %s is asked for twice: %s and %s", c.scenario.ID, before, where))
		}
		from[c.scenario.ID] = where
	}
	return nil
}
