package explore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ds4/faults/errfs"
)

// text is what a set of directories contains, one line each, sorted.
func text(t *testing.T, set *Set) []string {
	t.Helper()
	var list []string
	for _, s := range set.States {
		dir := filepath.Join(t.TempDir(), s.ID)
		if err := s.Write(dir); err != nil {
			t.Fatal(err)
		}
		var words []string
		err := walk(dir, func(name string, data []byte) error {
			if data != nil {
				name += "=" + strings.ReplaceAll(string(data), "\x00", "0")
			}
			words = append(words, name)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, strings.Join(words, " "))
	}
	slices.Sort(list)
	return list
}

// history begins with the file /f in the old version.
func history(t *testing.T, ops ...Op) *History {
	t.Helper()
	m := errfs.NewMem()
	for _, op := range []Op{{Kind: Create, Path: "/f"}, {Kind: Write, Path: "/f", Data: []byte("old")}, {Kind: SyncAll}} {
		if err := op.apply(m); err != nil {
			t.Fatal(err)
		}
	}
	return &History{Ops: ops, start: m}
}

func states(t *testing.T, h *History, opt Options) *Set {
	t.Helper()
	set, err := h.States(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// The directories of a few operations, all of them.
func TestAllStates(t *testing.T) {
	for _, c := range []struct {
		ops  []Op
		want []string
	}{
		{nil, []string{"/f=old"}},
		{[]Op{{Kind: Create, Path: "/g"}}, []string{"/f=old", "/f=old /g="}},
		{[]Op{{Kind: Create, Path: "/g"}, {Kind: Write, Path: "/g", Data: []byte("ab")}},
			[]string{"/f=old", "/f=old /g=", "/f=old /g=00", "/f=old /g=a0", "/f=old /g=ab"}},
		{[]Op{{Kind: Create, Path: "/g"}, {Kind: Write, Path: "/g", Data: []byte("ab")}, {Kind: Sync, Path: "/g"}},
			[]string{"/f=old", "/f=old /g=", "/f=old /g=00", "/f=old /g=a0", "/f=old /g=ab"}},
		{[]Op{{Kind: Write, Path: "/f", Offset: 1, Data: []byte("NEW")}}, []string{"/f=oNEW", "/f=oNd0", "/f=old"}},
		{[]Op{{Kind: Remove, Path: "/f"}}, []string{"", "/f=old"}},
		{[]Op{{Kind: Remove, Path: "/f"}, {Kind: SyncDir, Path: "/"}}, []string{"", "/f=old"}},
		{[]Op{{Kind: Rename, From: "/f", Path: "/g"}}, []string{"", "/f=old", "/f=old /g=old", "/g=old"}},
		{[]Op{{Kind: Link, From: "/f", Path: "/g"}}, []string{"/f=old", "/f=old /g=old"}},
		{[]Op{{Kind: Truncate, Path: "/f", Offset: 1}}, []string{"/f=o", "/f=old"}},
		{[]Op{{Kind: Mkdir, Path: "/d"}, {Kind: Create, Path: "/d/x"}, {Kind: SyncDir, Path: "/d"}}, []string{"/d /d/x= /f=old", "/d /f=old", "/f=old"}},
		{[]Op{{Kind: Grow, Path: "/f", Offset: 4}}, []string{"/f=old", "/f=old0"}},
	} {
		set := states(t, history(t, c.ops...), Options{})
		if got := text(t, set); !slices.Equal(got, c.want) {
			t.Errorf("%v leaves\n%q\nwant\n%q", c.ops, got, c.want)
		}
		if !set.Complete() {
			t.Errorf("%v: %d of %d moments, %d of %d states", c.ops, set.Exhausted, set.Moments, len(set.States), set.Found)
		}
	}
}

// saver writes a new version of /f in the way of some program.
func saver(how string) []Op {
	content := bytes.Repeat([]byte("new!"), 1000)
	steps := map[string]Op{
		"create": {Kind: Create, Path: "/f.tmp"},
		"write1": {Kind: Write, Path: "/f.tmp", Data: content[:1500]},
		"write2": {Kind: Write, Path: "/f.tmp", Offset: 1500, Data: content[1500:]},
		"fsync":  {Kind: Sync, Path: "/f.tmp"},
		"rename": {Kind: Rename, From: "/f.tmp", Path: "/f"},
		"dir":    {Kind: SyncDir, Path: "/"},
		"late":   {Kind: Write, Path: "/f", Offset: 1500, Data: content[1500:]},
		"latef":  {Kind: Sync, Path: "/f"},
	}
	var ops []Op
	for w := range strings.FieldsSeq(how) {
		ops = append(ops, steps[w])
	}
	return ops
}

// intact is the check of a program that reads /f.
func intact(_ context.Context, dir string, s *State) error {
	data, err := os.ReadFile(filepath.Join(dir, "f"))
	switch {
	case err != nil:
		return err
	case string(data) == "old" && s.Last:
		return errors.New("the new version was promised, and is lost")
	case string(data) != "old" && !bytes.Equal(data, bytes.Repeat([]byte("new!"), 1000)):
		return fmt.Errorf("torn: %d bytes", len(data))
	}
	return nil
}

// A program that syncs what it must is found to be good, whatever is lost; each
// step that it leaves out is found.
func TestSavers(t *testing.T) {
	for how, want := range map[string]string{
		"create write1 write2 fsync rename dir":       "",
		"create write1 write2 rename dir":             "torn",     // no fsync
		"create write1 write2 fsync rename":           "promised", // no fsync of the folder
		"create write1 fsync rename dir late latef":   "torn",     // the name before the contents
		"create write1 write2 rename latef dir":       "torn",
		"create write1 fsync write2 rename dir latef": "torn",
	} {
		set := states(t, history(t, saver(how)...), Options{Random: 10, Seed: 1})
		keep := t.TempDir()
		tried, err := Check(t.Context(), set, 2, t.TempDir(), keep, intact, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tried.States != len(set.States) {
			t.Errorf("%s: %d of %d states tried", how, tried.States, len(set.States))
		}
		if want == "" {
			for _, f := range tried.Findings {
				t.Errorf("%s: %s: %v %v", how, f.State, f.Err, f.State.Lost)
			}
			continue
		}
		found := slices.IndexFunc(tried.Findings, func(f Finding) bool { return strings.Contains(f.Err.Error(), want) })
		if found < 0 {
			t.Errorf("%s: nothing is %s among %d findings of %d states", how, want, len(tried.Findings), len(set.States))
			continue
		}
		f := tried.Findings[found]
		if err := intact(t.Context(), f.Dir, f.State); err == nil || err.Error() != f.Err.Error() {
			t.Errorf("%s: in the directory that was kept: %v, want %v", how, err, f.Err)
		}
		if len(f.State.Lost) == 0 && f.State.Point == len(saver(how)) {
			t.Errorf("%s: %s lost nothing", how, f.State)
		}
	}
}

// A disk that lies loses what a good program has synced.
func TestLyingDisk(t *testing.T) {
	set := states(t, history(t, saver("create write1 write2 fsync rename dir")...), Options{NoSync: true})
	tried, err := Check(t.Context(), set, 1, t.TempDir(), t.TempDir(), intact, nil)
	if err != nil || len(tried.Findings) == 0 {
		t.Errorf("%d findings in %d states, %v", len(tried.Findings), len(set.States), err)
	}
}

// The limit cuts what is least likely to matter, and says so.
func TestLimit(t *testing.T) {
	h := history(t, saver("create write1 write2 fsync rename")...)
	all := states(t, h, Options{Random: 5, Seed: 3})
	few := states(t, h, Options{Random: 5, Seed: 3, Max: 4})
	if len(few.States) != 4 || few.Found != len(all.States) || few.Complete() || all.Complete() {
		t.Errorf("%d of %d states, complete %t, %t", len(few.States), few.Found, few.Complete(), all.Complete())
	}
	if first := few.States[0]; !first.Last || len(first.Lost) != 0 {
		t.Errorf("the first state is %s %v, want the whole one at the end", first, first.Lost)
	}
	if second := few.States[1]; !second.Last || len(second.Lost) == 0 {
		t.Errorf("the second state is %s %v, want a loss at the end", second, second.Lost)
	}
	ids := map[string]bool{}
	for i, s := range all.States {
		if ids[s.ID] || i < 4 && s.ID != few.States[i].ID {
			t.Errorf("state %d, %s, is there twice or in another place", i, s)
		}
		ids[s.ID] = true
	}
}

// The end of the context ends the checks, and is no finding.
func TestCheckStops(t *testing.T) {
	set := states(t, history(t, saver("create write1 write2 fsync rename")...), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	work := t.TempDir()
	n := 0
	tried, err := Check(ctx, set, 1, work, t.TempDir(), func(ctx context.Context, _ string, _ *State) error {
		if n++; n == 3 {
			cancel()
		}
		return ctx.Err()
	}, nil)
	if err != nil || tried.States != 2 || len(tried.Findings) != 0 {
		t.Errorf("%+v %v", tried, err)
	}
	if left, _ := os.ReadDir(work); len(left) != 0 {
		t.Errorf("%d directories are left", len(left))
	}
}
