package root

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Where control groups are.
const (
	groupsV2 = "/sys/fs/cgroup"
	groupsV1 = "/sys/fs/cgroup/memory"
)

// groupNumber tells the groups of this process apart.
var groupNumber atomic.Int64

// Group is a control group of its own for one server.
type Group struct {
	dir string
	v1  bool
}

// NewGroup makes an empty group without a limit. The caller must Close.
func NewGroup() (*Group, error) {
	name := fmt.Sprintf("ds4bench-%d-%d", os.Getpid(), groupNumber.Add(1))
	controllers, err := os.ReadFile(filepath.Join(groupsV2, "cgroup.controllers"))
	g := &Group{dir: filepath.Join(groupsV1, name), v1: true}
	if err == nil {
		g = &Group{dir: filepath.Join(groupsV2, name)}
		if !strings.Contains(" "+string(controllers)+" ", "memory") {
			return nil, unavailable(Memory, errors.New("the memory controller is not on"))
		}
		// Refused where the root is somebody else's; then the file below says so.
		_ = os.WriteFile(filepath.Join(groupsV2, "cgroup.subtree_control"), []byte("+memory"), 0)
	} else if _, err := os.Stat(filepath.Join(groupsV1, "memory.limit_in_bytes")); err != nil {
		return nil, unavailable(Memory, fmt.Errorf("no memory controller: %w", err))
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, unavailable(Memory, err)
	}
	if _, err := g.number(g.usageName()); err != nil {
		g.Close()
		return nil, unavailable(Memory, err)
	}
	return g, nil
}

func (g *Group) usageName() string {
	if g.v1 {
		return "memory.usage_in_bytes"
	}
	return "memory.current"
}

func (g *Group) limitName() string {
	if g.v1 {
		return "memory.limit_in_bytes"
	}
	return "memory.max"
}

func (g *Group) number(name string) (int64, error) {
	text, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

func (g *Group) set(name, value string) error {
	return os.WriteFile(filepath.Join(g.dir, name), []byte(value), 0)
}

// Add puts a process into the group. What it has in memory already does not count.
func (g *Group) Add(pid int) error {
	if err := g.set("cgroup.procs", strconv.Itoa(pid)); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	return nil
}

// Usage is what the processes of the group have taken since they were added.
func (g *Group) Usage() (int64, error) {
	n, err := g.number(g.usageName())
	if err != nil {
		return 0, fmt.Errorf("root: %w", err)
	}
	return n, nil
}

// Limit lets the group take so many bytes, without swap: then the kernel kills.
func (g *Group) Limit(bytes int64) error {
	if err := g.set(g.limitName(), strconv.FormatInt(bytes, 10)); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	swap, value := "memory.swap.max", "0"
	if g.v1 {
		swap, value = "memory.memsw.limit_in_bytes", strconv.FormatInt(bytes, 10)
	}
	if err := g.set(swap, value); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EACCES) {
		return fmt.Errorf("root: %w", err)
	}
	return nil
}

// Kills is how often the kernel has killed in the group for want of memory.
func (g *Group) Kills() (int64, error) {
	name := "memory.events"
	if g.v1 {
		name = "memory.oom_control"
	}
	text, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil {
		return 0, fmt.Errorf("root: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "oom_kill "); ok {
			return strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, fmt.Errorf("root: %s has no count of kills", name)
}

// Close removes the group. Its processes must have ended; the kernel may need a
// moment to notice.
func (g *Group) Close() {
	const patience = 10 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if err := os.Remove(g.dir); err == nil || errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
			return
		}
	}
}
