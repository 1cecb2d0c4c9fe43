package cli

import (
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
)

// availableMemory is what the kernel would give to new allocations without
// swapping, within the limits of the process's control groups.
func availableMemory() (uint64, string) { return readAvailable(os.DirFS("/")) }

// readAvailable looks at proc and sys below root.
func readAvailable(root fs.FS) (available uint64, source string) {
	available, source = math.MaxUint64, "unknown"
	if n, ok := memInfo(root); ok {
		available, source = n, "MemAvailable"
	}
	if n, ok := cgroupRoom(root); ok && n < available {
		available, source = n, "control group"
	}
	return available, source
}

// memInfo reads MemAvailable.
func memInfo(root fs.FS) (uint64, bool) {
	text, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == "MemAvailable:" {
			kib, err := strconv.ParseUint(f[1], 10, 54)
			return kib << 10, err == nil
		}
	}
	return 0, false
}

// cgroupRoom is the least room below a limit of the process's control groups. A
// limit of an outer group binds as well as the own one.
func cgroupRoom(root fs.FS) (room uint64, found bool) {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	room = math.MaxUint64
	note := func(dir, limit, usage, cache string) {
		l, ok := readNumber(root, path.Join(dir, limit))
		u, ok2 := readNumber(root, path.Join(dir, usage))
		if !ok || !ok2 {
			return
		}
		// Cached file pages count as used, and are given up first.
		u -= min(u, readStat(root, path.Join(dir, "memory.stat"), cache))
		room, found = min(room, l-min(l, u)), true
	}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		group := path.Clean("/" + parts[2])
		for {
			if parts[0] == "0" && parts[1] == "" {
				note(path.Join("sys/fs/cgroup", group), "memory.max", "memory.current", "inactive_file")
			} else if strings.Contains(","+parts[1]+",", ",memory,") {
				note(path.Join("sys/fs/cgroup/memory", group), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
			}
			if group == "/" {
				break
			}
			group = path.Dir(group)
		}
	}
	return room, found
}

// readNumber reads a file that holds one number; "max" is no limit.
func readNumber(root fs.FS, name string) (uint64, bool) {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}

// readStat reads one line of a statistics file, 0 if it has none.
func readStat(root fs.FS, name, key string) uint64 {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == key {
			n, _ := strconv.ParseUint(f[1], 10, 64)
			return n
		}
	}
	return 0
}
