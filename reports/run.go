package reports

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/cpu"
)

// Run describes one invocation of the harness: everything that must be equal
// before two files may be compared, and everything needed to repeat it.
type Run struct {
	Format  string    `json:"format"`
	Command string    `json:"command"` // run, speed, serve-speed or compare
	Args    []string  `json:"args,omitempty"`
	Start   time.Time `json:"start"`
	Seed    uint64    `json:"seed"`
	Build   Build     `json:"build"` // of ds4bench
	Host    Host      `json:"host"`
	Server  Server    `json:"server"`
	ServerB *Server   `json:"server_b,omitempty"` // the other one, if two are measured in turns
	Shard   *Shard    `json:"shard,omitempty"`    // if this is a part of a run
}

// Shard is one part of a run whose repetitions were dealt out to several machines.
type Shard struct {
	Index int    `json:"index"` // from 1
	Count int    `json:"count"`
	Plan  string `json:"plan"`  // hash of all that the shards together do: equal in each
	Units int    `json:"units"` // repetitions of this shard
	Total int    `json:"total"` // repetitions of all shards
}

// MaxShards bounds the parts of one run.
const MaxShards = 4096

func (s *Shard) validate() error {
	switch {
	case s == nil:
		return nil
	case s.Count < 1 || s.Count > MaxShards || s.Index < 1 || s.Index > s.Count:
		return fmt.Errorf("shard %d of %d, they count from 1 to at most %d: %w", s.Index, s.Count, MaxShards, ErrFormat)
	case s.Units < 0 || s.Total < s.Units || s.Total > MaxRecords:
		return fmt.Errorf("a shard of %d repetitions of %d: %w", s.Units, s.Total, ErrFormat)
	}
	return nil
}

// Build says which source a program was made from.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Dirty   bool   `json:"dirty,omitempty"` // built from files that were not committed
	Go      string `json:"go,omitempty"`
}

// Host is the machine. CPUFeatures are those that kernels are chosen by.
type Host struct {
	Name        string   `json:"name,omitempty"`
	OS          string   `json:"os"`
	Arch        string   `json:"arch"`
	Kernel      string   `json:"kernel,omitempty"` // release of the operating system
	CPU         string   `json:"cpu,omitempty"`    // model name
	Cores       int      `json:"cores"`            // that this process may use
	MemoryBytes uint64   `json:"memory_bytes,omitempty"`
	CPUFeatures []string `json:"cpu_features,omitempty"`
}

// Server is the runtime under test, as it describes itself.
type Server struct {
	Path      string   `json:"path,omitempty"`   // the binary
	Target    string   `json:"target,omitempty"` // URL of one that already ran
	Version   string   `json:"version,omitempty"`
	Commit    string   `json:"commit,omitempty"`
	Model     string   `json:"model,omitempty"`    // name or path
	Identity  string   `json:"identity,omitempty"` // what KV segments are bound to
	KernelSet string   `json:"kernel_set,omitempty"`
	Args      []string `json:"args,omitempty"`
}

// End closes a run; a run without one was killed.
type End struct {
	Time        time.Time `json:"time"`
	DurationMS  float64   `json:"duration_ms"`
	Results     int       `json:"results"`               // results written before
	Interrupted bool      `json:"interrupted,omitempty"` // stopped on request
}

// ThisBuild describes the program that calls it, from what the Go toolchain
// stamped into it.
func ThisBuild(version string) Build {
	b := Build{Version: version, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Dirty = s.Value == "true"
		}
	}
	return b
}

// ThisHost describes the machine. What the system does not tell stays empty.
func ThisHost() Host {
	h := Host{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.GOMAXPROCS(0), CPUFeatures: cpuFeatures()}
	h.Name, _ = os.Hostname()
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		h.Kernel = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		h.CPU = fieldOf(string(b), "model name")
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		h.MemoryBytes = kibibytes(fieldOf(string(b), "MemTotal"))
	}
	return h
}

// fieldOf returns the value of the first "key : value" line.
func fieldOf(text, key string) string {
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// kibibytes reads "123 kB" as the kernel writes it; 0 if it is something else.
func kibibytes(s string) uint64 {
	digits, ok := strings.CutSuffix(s, " kB")
	if !ok {
		return 0
	}
	var n uint64
	for _, c := range digits {
		if c < '0' || c > '9' || n > 1<<50 {
			return 0
		}
		n = n*10 + uint64(c-'0')
	}
	return n << 10
}

// cpuFeatures names the instruction sets that matter for kernels, in a fixed order.
func cpuFeatures() []string {
	known := []struct {
		name string
		has  bool
	}{
		{"avx", cpu.X86.HasAVX}, {"avx2", cpu.X86.HasAVX2}, {"fma", cpu.X86.HasFMA},
		{"avx512f", cpu.X86.HasAVX512F}, {"avx512bw", cpu.X86.HasAVX512BW}, {"avx512vl", cpu.X86.HasAVX512VL},
		{"avx512vnni", cpu.X86.HasAVX512VNNI}, {"avxvnni", cpu.X86.HasAVXVNNI}, {"amx_int8", cpu.X86.HasAMXInt8},
		{"asimd", cpu.ARM64.HasASIMD}, {"asimddp", cpu.ARM64.HasASIMDDP}, {"sve", cpu.ARM64.HasSVE}, {"sve2", cpu.ARM64.HasSVE2},
	}
	var names []string
	for _, f := range known {
		if f.has {
			names = append(names, f.name)
		}
	}
	return names
}
