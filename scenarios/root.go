package scenarios

import (
	"cmp"
	"fmt"
	"slices"

	"ds4/faults/root"
)

// MemoryCap bounds the memory of the running server, until it ends.
type MemoryCap struct {
	More Bytes `json:"more" jsonschema:"bytes beyond what it has taken now, such as 8MiB"`
}

// FileSystem is what the disk of the server has on it, in lane root.
func (s *Server) FileSystem() root.FS { return root.FS(cmp.Or(s.FS, string(root.Ext4))) }

// fileSystems are their names.
func fileSystems() (names []string) {
	for _, fs := range root.FileSystems() {
		names = append(names, string(fs))
	}
	return names
}

// checkRootDisk checks the server's disk in lane root.
func (s *Scenario) checkRootDisk() error {
	kind := s.Server.FileSystem()
	if !slices.Contains(root.FileSystems(), kind) {
		return fmt.Errorf("%w: server: fs %q (known: %v)", ErrInvalid, s.Server.FS, root.FileSystems())
	}
	if size := int64(s.Server.Disk); size < kind.MinBytes() || size > root.MaxBytes {
		return fmt.Errorf("%w: server: disk of %d bytes with %s: want %d to %d", ErrInvalid, size, kind, kind.MinBytes(), int64(root.MaxBytes))
	}
	return nil
}

// rootStep checks the steps that need lane root.
func (c *checker) rootStep(st *Step, fail func(string, ...any) error) error {
	switch {
	case c.lane != LaneRoot:
		return fail("needs lane %s", LaneRoot)
	case st.PowerCut != nil && c.disk == 0:
		return fail("the server has no disk of its own: give server a disk")
	case st.Memory != nil && st.Memory.More == 0:
		return fail("want more than 0 bytes")
	}
	return nil
}

// NeedsRoot lists what a scenario of lane root needs.
func (s *Scenario) NeedsRoot() []root.Ability {
	var list []root.Ability
	if s.Server.Disk > 0 {
		list = append(list, root.PowerOf(s.Server.FileSystem()))
	}
	var visit func([]Step)
	visit = func(steps []Step) {
		for i := range steps {
			if steps[i].Memory != nil {
				list = append(list, root.Memory)
			}
			visit(steps[i].Parallel)
			if steps[i].Sweep != nil {
				visit(steps[i].Sweep.Steps)
			}
			if steps[i].Repeat != nil {
				visit(steps[i].Repeat.Steps)
			}
		}
	}
	visit(s.Steps)
	slices.Sort(list)
	return slices.Compact(list)
}
