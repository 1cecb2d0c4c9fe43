package scenarios

import (
	"slices"
	"strings"
	"testing"

	"ds4/faults/root"
)

func TestRootChecks(t *testing.T) {
	const head = "id: x\ntitle: t\nexpect: [{outcome: recovered}]\n"
	for _, c := range []struct {
		text, says string
		needs      []root.Ability
	}{
		{"lane: root\nserver: {disk: 64MiB}\nsteps: [{power-cut: {}}]", "", []root.Ability{root.PowerExt4}},
		{"lane: root\nserver: {disk: 300MiB, fs: xfs}\nsteps: [{repeat: {times: 2, steps: [{memory: {more: 1MiB}}]}}]", "", []root.Ability{root.Memory, root.PowerXFS}},
		{"lane: root\nserver: {disk: 64MiB, fs: xfs}\nsteps: [{power-cut: {}}]", "want 314572800 to", nil},
		{"lane: root\nserver: {disk: 64MiB, fs: btrfs}\nsteps: [{power-cut: {}}]", "known: [ext4 xfs]", nil},
		{"lane: root\nserver: {fs: xfs}\nsteps: [{start: {}}]", "fs goes with a disk", nil},
		{"lane: limits\nserver: {disk: 64MiB, fs: ext4}\nsteps: [{start: {}}]", "fs goes with a disk in lane root", nil},
		{"lane: root\nsteps: [{power-cut: {}}]", "no disk of its own", nil},
		{"lane: root\nsteps: [{memory: {more: 0}}]", "more than 0", nil},
		{"lane: process\nsteps: [{memory: {more: 1MiB}}]", "needs lane root", nil},
		{"lane: process\nserver: {disk: 64MiB}\nsteps: [{start: {}}]", "needs lane limits or root", nil},
		{"lane: root\nsteps: [{fill-disk: {}}]", "needs lane limits", nil},
	} {
		s, err := Load([]byte(head+c.text+"\n"), "x.yaml")
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.text, err, c.says)
		}
		if err == nil && !slices.Equal(s.NeedsRoot(), c.needs) {
			t.Errorf("%s: needs %v, want %v", c.text, s.NeedsRoot(), c.needs)
		}
	}
}
