package cli

import (
	"math"
	"testing"
	"testing/fstest"
)

func TestReadAvailable(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	const meminfo = "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    4096 kB\n"
	for _, c := range []struct {
		name   string
		root   fstest.MapFS
		want   uint64
		source string
	}{
		{"nothing", fstest.MapFS{}, math.MaxUint64, "unknown"},
		{"meminfo", fstest.MapFS{"proc/meminfo": file(meminfo)}, 4 << 20, "MemAvailable"},
		{"no limit", fstest.MapFS{
			"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/a\n"),
			"sys/fs/cgroup/a/memory.max": file("max\n"), "sys/fs/cgroup/a/memory.current": file("100\n"),
		}, 4 << 20, "MemAvailable"},
		{"own group", fstest.MapFS{
			"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/a/b\n"),
			"sys/fs/cgroup/a/b/memory.max": file("1000000\n"), "sys/fs/cgroup/a/b/memory.current": file("700000\n"),
		}, 300000, "control group"},
		{"outer group binds", fstest.MapFS{
			"proc/self/cgroup":             file("0::/a/b\n"),
			"sys/fs/cgroup/a/b/memory.max": file("1000000\n"), "sys/fs/cgroup/a/b/memory.current": file("0\n"),
			"sys/fs/cgroup/a/memory.max": file("500000\n"), "sys/fs/cgroup/a/memory.current": file("400000\n"),
		}, 100000, "control group"},
		{"file cache can go", fstest.MapFS{
			"proc/self/cgroup":           file("0::/a\n"),
			"sys/fs/cgroup/a/memory.max": file("1000\n"), "sys/fs/cgroup/a/memory.current": file("900\n"),
			"sys/fs/cgroup/a/memory.stat": file("anon 300\ninactive_file 600\n"),
		}, 700, "control group"},
		{"over the limit", fstest.MapFS{
			"proc/self/cgroup":           file("0::/a\n"),
			"sys/fs/cgroup/a/memory.max": file("1000\n"), "sys/fs/cgroup/a/memory.current": file("2000\n"),
		}, 0, "control group"},
		{"version 1", fstest.MapFS{
			"proc/self/cgroup": file("5:cpu,memory:/x\n1:name=systemd:/y\n"),
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": file("5000\n"), "sys/fs/cgroup/memory/x/memory.usage_in_bytes": file("1000\n"),
		}, 4000, "control group"},
		{"garbage", fstest.MapFS{
			"proc/meminfo": file("MemAvailable: lots\n"), "proc/self/cgroup": file("\n::\nx\n"),
		}, math.MaxUint64, "unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, source := readAvailable(c.root); got != c.want || source != c.source {
				t.Errorf("%d from %s, want %d from %s", got, source, c.want, c.source)
			}
		})
	}
}
