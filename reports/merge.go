package reports

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

var (
	// ErrMerge means that results do not belong together: of different versions or
	// runs, or one of them twice.
	ErrMerge = errors.New("results that do not belong together")
	// ErrIncomplete means that parts of a run are missing, or were killed.
	ErrIncomplete = errors.New("the run is not complete")
)

// Part is one results file of several that shall be joined.
type Part struct {
	Name string // of the file, for errors
	File *File
}

// Merge joins results files into one that holds all their runs, shards in their
// order. Each run keeps its own record: where it ran stays known.
//
// It wraps ErrMerge, and returns no file, if versions differ, if shards are of
// different runs, or if something is there twice. It wraps ErrIncomplete, and
// returns what there is, if a shard is missing or was killed.
func Merge(parts []Part) (*File, error) {
	type run struct {
		*Log
		name string
	}
	var runs []run
	for _, p := range parts {
		for i := range p.File.Runs {
			runs = append(runs, run{&p.File.Runs[i], p.Name})
		}
	}
	if len(runs) == 0 {
		return nil, fmt.Errorf("reports: nothing to join: %w", ErrMerge)
	}
	first := runs[0]
	for _, r := range runs[1:] {
		if why := differ(first.Run, r.Run); why != "" {
			return nil, fmt.Errorf("reports: %s and %s: %s: %w", first.name, r.name, why, ErrMerge)
		}
	}
	seen := make(map[resultKey]string)
	for _, r := range runs {
		for i := range r.Results {
			key := keyOf(&r.Results[i])
			if other, ok := seen[key]; ok {
				return nil, fmt.Errorf("reports: %s is in %s and in %s: %w", key, other, r.name, ErrMerge)
			}
			seen[key] = r.name
		}
	}
	slices.SortStableFunc(runs, func(a, b run) int { return shardIndex(a.Run) - shardIndex(b.Run) })
	out := &File{}
	var missing []string
	for _, r := range runs {
		if why := r.Log.Unfinished(); why != "" {
			missing = append(missing, r.name+" "+why)
		}
		out.Runs = append(out.Runs, *r.Log)
	}
	absent, err := absentShards(out.Runs)
	if err != nil {
		return nil, err
	}
	if missing = append(absent, missing...); len(missing) > 0 {
		return out, fmt.Errorf("reports: %s: %w", strings.Join(missing, "; "), ErrIncomplete)
	}
	return out, nil
}

// differ says in what two runs differ that must be equal, or "".
func differ(a, b Run) string {
	plan := func(r Run) string {
		if r.Shard == nil {
			return "no shard"
		}
		return fmt.Sprintf("plan %s in %d shards of %d repetitions", r.Shard.Plan, r.Shard.Count, r.Shard.Total)
	}
	for _, v := range []struct{ what, a, b string }{
		{"commands", a.Command, b.Command},
		{"versions of ds4bench", version(a.Build), version(b.Build)},
		{"versions of the server", a.Server.Version + a.Server.Commit, b.Server.Version + b.Server.Commit},
		{"models", a.Server.Model + " " + a.Server.Identity, b.Server.Model + " " + b.Server.Identity},
		{"plans", plan(a), plan(b)},
	} {
		if v.a != v.b {
			return fmt.Sprintf("%s %q and %q", v.what, v.a, v.b)
		}
	}
	// Verdicts may come from anywhere, speeds from one machine.
	if a.Command != "run" && a.Host.Name != b.Host.Name {
		return fmt.Sprintf("hosts %q and %q, and this is about speed", a.Host.Name, b.Host.Name)
	}
	return ""
}

func version(b Build) string {
	text := b.Version + "+" + b.Commit
	if b.Dirty {
		text += "-dirty"
	}
	return text
}

// resultKey tells results apart.
type resultKey struct {
	scenario, side, workload string
	repetition, concurrency  int
	seed                     uint64
}

func keyOf(r *Result) resultKey {
	k := resultKey{scenario: r.Scenario, side: r.Side, repetition: r.Repetition, seed: r.Seed}
	if r.Load != nil {
		k.workload, k.concurrency = r.Load.Workload, r.Load.Concurrency
	}
	return k
}

func (k resultKey) String() string {
	text := fmt.Sprintf("%s #%d, seed %d", k.scenario, k.repetition, k.seed)
	if k.side != "" {
		text += ", side " + k.side
	}
	if k.workload != "" {
		text += fmt.Sprintf(", %s with %d in flight", k.workload, k.concurrency)
	}
	return text
}

func shardIndex(r Run) int {
	if r.Shard == nil {
		return 0
	}
	return r.Shard.Index
}

// Unfinished says what a run lacks, or "". What a run has not come to is not proven.
func (l *Log) Unfinished() string {
	switch {
	case l.End == nil:
		return fmt.Sprintf("was killed after %d results", len(l.Results))
	case l.End.Interrupted:
		return fmt.Sprintf("was interrupted after %d results", len(l.Results))
	case l.Run.Shard != nil && len(l.Results) != l.Run.Shard.Units:
		return fmt.Sprintf("has %d of %d results", len(l.Results), l.Run.Shard.Units)
	}
	return ""
}

// absentShards lists the shards that no run is.
func absentShards(runs []Log) ([]string, error) {
	if runs[0].Run.Shard == nil {
		return nil, nil
	}
	count := runs[0].Run.Shard.Count
	have := make(map[int]bool)
	for _, r := range runs {
		index := r.Run.Shard.Index
		if have[index] {
			return nil, fmt.Errorf("reports: shard %d of %d is there twice: %w", index, count, ErrMerge)
		}
		have[index] = true
	}
	var absent []string
	for i := 1; i <= count; i++ {
		if !have[i] {
			absent = append(absent, fmt.Sprintf("shard %d of %d is missing", i, count))
		}
	}
	return absent, nil
}
