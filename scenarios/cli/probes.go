package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ds4/faults/disk"
	"ds4/faults/root"
	"ds4/faults/syscalls"
	"ds4/reports"
	"ds4/scenarios"
	"ds4/scenarios/run"
	"ds4/scenarios/selftest"
)

// minFreeBytes is what a run of the whole library takes at most, with room.
const minFreeBytes = 2 << 30

// probes lists what doctor tries. A lane adds what it needs here.
func (f *doctorFlags) probes(cmd *cobra.Command, foreign *scenarios.Foreign) []probe {
	list := []probe{
		{laneHost, "processor", probeProcessor},
		{laneHost, "clock", probeClock},
		{laneHost, "a free port", probePort},
		{laneHost, "space for working directories", probeSpace},
		{string(scenarios.LaneMemory), "crash points of the store", probeMemory},
		{string(scenarios.LaneProcess), "start, ask and stop the server", func(ctx context.Context) (string, error) {
			return f.probeServer(ctx, cmd, foreign)
		}},
	}
	for _, a := range disk.Abilities() {
		list = append(list, probe{string(scenarios.LaneLimits), a.About(), func(ctx context.Context) (string, error) {
			return "", reason(disk.Probe(ctx, a), a.About())
		}})
	}
	for _, a := range syscalls.Abilities() {
		list = append(list, probe{string(scenarios.LaneSyscalls), a.About(), func(ctx context.Context) (string, error) {
			return "", reason(syscalls.Probe(ctx, a), a.About())
		}})
	}
	for _, a := range root.Abilities() {
		list = append(list, probe{string(scenarios.LaneRoot), a.About(), func(ctx context.Context) (string, error) {
			return "", reason(root.Probe(ctx, a), a.About())
		}})
	}
	return list
}

// reason is the last part of what a probe says: the rest repeats what was tried.
func reason(err error, about string) error {
	if err == nil {
		return nil
	}
	_, why, found := strings.Cut(err.Error(), ": "+about+": ")
	if !found {
		return err
	}
	return errors.New(why)
}

func probeProcessor(context.Context) (string, error) {
	h := reports.ThisHost()
	const gib = 1 << 30
	return fmt.Sprintf("%s, %d cores, %.1f GiB, %s", h.CPU, h.Cores, float64(h.MemoryBytes)/gib, strings.Join(h.CPUFeatures, " ")), nil
}

// probeClock compares the clock on the wall with the one that measures.
func probeClock(ctx context.Context) (string, error) {
	const pause, tolerance = 200 * time.Millisecond, 50 * time.Millisecond
	year := time.Now().Year()
	const firstYear = 2025 // nobody has built this program before
	if year < firstYear {
		return "", fmt.Errorf("the clock says %d: certificates and times of files will be wrong", year)
	}
	wall, began := time.Now().UnixNano(), time.Now()
	select {
	case <-time.After(pause):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	drift := time.Duration(time.Now().UnixNano()-wall) - time.Since(began)
	if drift.Abs() > tolerance {
		return "", fmt.Errorf("the clock was set while it was looked at, by %s: times in results will not fit", drift)
	}
	return time.Now().UTC().Format(time.RFC3339), nil
}

func probePort(context.Context) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// probeSpace writes where repetitions work, and asks how much room there is.
func probeSpace(context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "ds4bench-probe-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	const sample = 1 << 20
	if err := os.WriteFile(filepath.Join(dir, "x"), make([]byte, sample), 0o600); err != nil {
		return "", err
	}
	free, err := freeBytes(dir)
	if err != nil {
		return "", err
	}
	const gib = 1 << 30
	text := fmt.Sprintf("%.1f GiB free in %s", float64(free)/gib, os.TempDir())
	if free < minFreeBytes {
		return "", fmt.Errorf("%s, want %d GiB; TMPDIR names another place", text, minFreeBytes/gib)
	}
	return text, nil
}

// probeMemory runs some crash points of the store.
func probeMemory(ctx context.Context) (string, error) {
	s := &scenarios.Scenario{ID: "doctor", Title: "doctor", Lane: scenarios.LaneMemory, Memory: &scenarios.Memory{Segments: 3, Crashes: 50}}
	if res := selftest.Memory(ctx, s, 1); res.Verdict != reports.Pass {
		return "", fmt.Errorf("%s: %s", res.Verdict, strings.Join(res.Failures, "; "))
	}
	return "50 of them", nil
}

// shortest is the least that a scenario does with a server.
const shortest = `id: doctor
title: The server does not start, answer, or end
lane: process
deadline: 90s
server: {args: {ctx: 2048, kv-disk-dir: $KV}}
steps:
  - start: {}
  - chat: {prompt: {text: Hello}, max_tokens: 4}
  - stop: {}
expect: [{outcome: [recovered, degraded]}]
`

// probeServer finds the server under test and does with it what every scenario
// does.
func (f *doctorFlags) probeServer(ctx context.Context, cmd *cobra.Command, foreign *scenarios.Foreign) (string, error) {
	srv := server{foreign: foreign, cleanup: func() {}}
	if foreign == nil {
		var err error
		if srv, err = f.server.resolve(ctx, cmd); err != nil {
			return "", err
		}
	}
	defer srv.cleanup()
	s, err := scenarios.Load([]byte(shortest), "doctor.yaml")
	if err != nil {
		return "", err
	}
	if srv.target != "" {
		s.Steps = s.Steps[1:2] // it runs already, and nobody stops it
	}
	began := time.Now()
	sum, err := run.Run(ctx, run.Options{Server: srv.path, Target: srv.target, Foreign: srv.foreign, API: f.foreign.api,
		Scenarios: []*scenarios.Scenario{s}, Seed: 1, Explicit: true})
	if err != nil {
		return "", err
	}
	if res := sum.Results[0]; res.Verdict != reports.Pass {
		return "", errors.New(strings.Join(append(res.Failures, res.Reason), " "))
	}
	rec := srv.record(ctx, "", nil)
	name := strings.TrimSpace(strings.Join([]string{rec.Path, rec.Target, rec.Version}, " "))
	if rec.Model != "" {
		name += " with " + rec.Model
	}
	return fmt.Sprintf("%s, %.1f s for everything", strings.Join(strings.Fields(name), " "), time.Since(began).Seconds()), nil
}
