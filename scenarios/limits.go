package scenarios

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/goccy/go-yaml/ast"

	"ds4/faults/disk"
)

// FillDisk takes the space of the server's disk.
type FillDisk struct {
	Leave Bytes `json:"leave,omitzero" jsonschema:"bytes that stay free, 0 if absent"`
}

// Limit changes limits of the running server. They end with its process.
type Limit struct {
	FSize  Amount `json:"fsize,omitempty" jsonschema:"bytes beyond which no file may be written, such as 100KiB, or none; a variable is allowed"`
	NoFile Amount `json:"nofile,omitempty" jsonschema:"how many files more it may open than it has now, or none; a variable is allowed"`
}

// Access changes who may use the cache directory, until the end of the scenario
// or another such step.
type Access struct {
	Mode  Octal  `json:"mode,omitempty" jsonschema:"permissions of the cache directory and those in it, in octal and in quotes, such as '0500'"`
	Owner string `json:"owner,omitempty" jsonschema:"self, or other: a user whom the server does not know, and mode 0700"`
}

// RemoveDir takes the cache directory away while the server may be using it.
type RemoveDir struct {
	Move bool `json:"move,omitempty" jsonschema:"give it another name instead, so that open files stay"`
}

// Amount is a number, with or without a unit, a word, or a variable.
type Amount string

// UnmarshalYAML takes numbers and text alike, as they are written.
func (a *Amount) UnmarshalYAML(n ast.Node) error {
	if n.Type() != ast.StringType && n.Type() != ast.IntegerType {
		return badNode(n, "%q: want a number or a word", n.GetToken().Value)
	}
	*a = Amount(n.GetToken().Value)
	return nil
}

// Octal is a number in octal.
type Octal string

// UnmarshalYAML takes text only: a number would mean something else in YAML 1.2.
func (o *Octal) UnmarshalYAML(n ast.Node) error {
	if n.Type() != ast.StringType {
		return badNode(n, "mode %s: put it in quotes", n.GetToken().Value)
	}
	*o = Octal(n.GetToken().Value)
	return nil
}

// The words of limits and owners.
const (
	NoLimit    = "none"
	OwnerSelf  = "self"
	OwnerOther = "other"
)

// Limits of the steps of this lane.
const (
	maxMoreFiles = 100_000
	modeBits     = 9 // of permissions
)

// Lifted is the value of a limit that is taken away.
const Lifted = -1

// Values are the limits as numbers: nil where the file says nothing, Lifted for
// none.
func (l *Limit) Values() (fsize, nofile *int64, err error) {
	if l.FSize != "" {
		n := int64(Lifted)
		if l.FSize != NoLimit {
			b, err := ParseBytes(string(l.FSize))
			if err != nil {
				return nil, nil, fmt.Errorf("fsize: %w", err)
			}
			n = int64(b)
		}
		fsize = &n
	}
	if l.NoFile != "" {
		n := int64(Lifted)
		if l.NoFile != NoLimit {
			if n, err = strconv.ParseInt(string(l.NoFile), 10, 64); err != nil || n < 0 || n > maxMoreFiles {
				return nil, nil, fmt.Errorf("%w: nofile %q: want %s or 0 to %d", ErrInvalid, l.NoFile, NoLimit, maxMoreFiles)
			}
		}
		nofile = &n
	}
	return fsize, nofile, nil
}

// Permissions are the bits of Mode; ok is false where the file says nothing.
func (a *Access) Permissions() (mode uint32, ok bool, err error) {
	if a.Mode == "" {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(string(a.Mode), 8, modeBits)
	if err != nil {
		return 0, false, fmt.Errorf("%w: mode %q: want octal permissions, 0 to 0777", ErrInvalid, a.Mode)
	}
	return uint32(n), true, nil
}

// Needs lists what a scenario needs of the host, beyond what every host allows.
func (s *Scenario) Needs() []disk.Ability {
	var list []disk.Ability
	if s.Server.Disk > 0 {
		list = append(list, disk.Volumes)
	}
	var visit func(steps []Step)
	visit = func(steps []Step) {
		for i := range steps {
			st := &steps[i]
			switch {
			case st.Limit != nil:
				list = append(list, disk.Limits)
			case st.Access != nil && st.Access.Owner == OwnerOther:
				list = append(list, disk.Modes, disk.Strangers)
			case st.Access != nil:
				list = append(list, disk.Modes)
			}
			visit(st.Parallel)
			if st.Sweep != nil {
				visit(st.Sweep.Steps)
			}
			if st.Repeat != nil {
				visit(st.Repeat.Steps)
			}
		}
	}
	visit(s.Steps)
	slices.Sort(list)
	return slices.Compact(list)
}

// checkDisk checks the size of the server's disk.
func (s *Scenario) checkDisk() error {
	switch size := int64(s.Server.Disk); {
	case s.Server.FS != "" && (s.Lane != LaneRoot || size == 0):
		return fmt.Errorf("%w: server: fs goes with a disk in lane %s", ErrInvalid, LaneRoot)
	case size == 0:
		return nil
	case s.Lane == LaneRoot:
		return s.checkRootDisk()
	case s.Lane != LaneLimits:
		return fmt.Errorf("%w: server: a disk of its own needs lane %s or %s", ErrInvalid, LaneLimits, LaneRoot)
	case size < disk.MinVolumeBytes || size > disk.MaxVolumeBytes:
		return fmt.Errorf("%w: server: disk of %d bytes: want %d to %d", ErrInvalid, size, disk.MinVolumeBytes, int64(disk.MaxVolumeBytes))
	}
	return nil
}

// hostStep checks the steps that need lane limits.
func (c *checker) hostStep(st *Step, fail func(string, ...any) error) error {
	if c.lane != LaneLimits {
		return fail("needs lane %s", LaneLimits)
	}
	switch {
	case (st.FillDisk != nil || st.FreeDisk != nil) && c.disk == 0:
		return fail("the server has no disk of its own: give server a disk")
	case st.FillDisk != nil && st.FillDisk.Leave >= c.disk:
		return fail("leave %d: the whole disk has %d bytes", st.FillDisk.Leave, c.disk)
	case st.Limit != nil:
		fsize, nofile, err := st.Limit.Values()
		if err != nil {
			return fail("%w", err)
		}
		if fsize == nil && nofile == nil {
			return fail("want fsize or nofile")
		}
	case st.Access != nil:
		_, mode, err := st.Access.Permissions()
		if err != nil {
			return fail("%w", err)
		}
		if o := st.Access.Owner; o != "" && o != OwnerSelf && o != OwnerOther {
			return fail("owner %q (known: %s, %s)", o, OwnerSelf, OwnerOther)
		}
		if mode == (st.Access.Owner != "") {
			return fail("want either mode or owner")
		}
		if st.Access.Owner == OwnerOther && c.disk > 0 {
			return fail("a disk of its own has one user only: owner %s works on the host's", OwnerOther)
		}
	}
	return nil
}
