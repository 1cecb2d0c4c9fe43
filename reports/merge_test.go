package reports

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// shard makes the results file of one part of a run: repetitions from..to-1.
func shard(index, count, from, to, total int) Part {
	f := &File{Runs: []Log{{
		Run: Run{Format: Format, Command: "run", Build: Build{Version: "1"}, Host: Host{Name: fmt.Sprint("box", index)},
			Shard: &Shard{Index: index, Count: count, Plan: "p", Units: to - from, Total: total}},
		End: &End{Results: to - from},
	}}}
	for i := from; i < to; i++ {
		f.Runs[0].Results = append(f.Runs[0].Results, Result{Scenario: "s", Repetition: i + 1, Verdict: Pass})
	}
	return Part{Name: fmt.Sprintf("%d.jsonl", index), File: f}
}

func TestMerge(t *testing.T) {
	f, err := Merge([]Part{shard(3, 3, 5, 7, 7), shard(1, 3, 0, 3, 7), shard(2, 3, 3, 5, 7)})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range f.Results() {
		if r.Repetition != i+1 {
			t.Fatalf("result %d is repetition %d", i, r.Repetition)
		}
	}
	if len(f.Results()) != 7 || f.Runs[2].Run.Host.Name != "box3" {
		t.Errorf("%d results, runs %+v", len(f.Results()), f.Runs)
	}
	again, err := Merge([]Part{{Name: "all", File: f}}) // what was joined may be joined again
	if err != nil || len(again.Results()) != 7 {
		t.Errorf("joined once more: %v", err)
	}
}

func TestMergeRefuses(t *testing.T) {
	change := func(f func(*Log)) []Part {
		parts := []Part{shard(1, 2, 0, 2, 4), shard(2, 2, 2, 4, 4)}
		f(&parts[1].File.Runs[0])
		return parts
	}
	tests := []struct {
		name  string
		parts []Part
		want  string
		is    error
	}{
		{"nothing", nil, "nothing to join", ErrMerge},
		{"missing", []Part{shard(1, 3, 0, 2, 4), shard(3, 3, 2, 4, 4)}, "shard 2 of 3 is missing", ErrIncomplete},
		{"killed", change(func(l *Log) { l.End = nil }), "2.jsonl was killed after 2 results", ErrIncomplete},
		{"interrupted", change(func(l *Log) { l.End.Interrupted = true }), "was interrupted", ErrIncomplete},
		{"short", change(func(l *Log) { l.Results = l.Results[:1] }), "2.jsonl has 1 of 2 results", ErrIncomplete},
		{"twice the same shard", []Part{shard(1, 2, 0, 2, 4), shard(1, 2, 2, 4, 4)}, "shard 1 of 2 is there twice", ErrMerge},
		{"the same file twice", []Part{shard(1, 2, 0, 2, 4), shard(1, 2, 0, 2, 4)}, "s #1, seed 0 is in 1.jsonl and in 1.jsonl", ErrMerge},
		{"overlap", []Part{shard(1, 2, 0, 3, 4), shard(2, 2, 2, 4, 4)}, "s #3, seed 0 is in 1.jsonl and in 2.jsonl", ErrMerge},
		{"other count", []Part{shard(1, 2, 0, 2, 4), shard(2, 3, 2, 4, 4)}, "plans", ErrMerge},
		{"other plan", change(func(l *Log) { l.Run.Shard.Plan = "q" }), "plans", ErrMerge},
		{"no shard", change(func(l *Log) { l.Run.Shard = nil }), `"no shard"`, ErrMerge},
		{"other version", change(func(l *Log) { l.Run.Build.Version = "2" }), `versions of ds4bench "1+" and "2+"`, ErrMerge},
		{"uncommitted", change(func(l *Log) { l.Run.Build.Dirty = true }), "versions of ds4bench", ErrMerge},
		{"other server", change(func(l *Log) { l.Run.Server.Version = "2" }), "versions of the server", ErrMerge},
		{"other model", change(func(l *Log) { l.Run.Server.Identity = "2" }), "models", ErrMerge},
		{"other command", change(func(l *Log) { l.Run.Command = "speed" }), "commands", ErrMerge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Merge(tt.parts)
			if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if (f != nil) != (tt.is == ErrIncomplete) {
				t.Errorf("file %v", f)
			}
		})
	}
	speeds := []Part{shard(1, 2, 0, 2, 4), shard(2, 2, 2, 4, 4)}
	for i := range speeds {
		speeds[i].File.Runs[0].Run.Command = "speed"
	}
	if _, err := Merge(speeds); !errors.Is(err, ErrMerge) || !strings.Contains(err.Error(), "hosts") {
		t.Errorf("speeds of two machines: %v", err)
	}
}

// Runs without shards join too: that is what two files of one machine are.
func TestMergeWithoutShards(t *testing.T) {
	a, b := shard(1, 1, 0, 2, 2), shard(1, 1, 2, 4, 4)
	a.File.Runs[0].Run.Shard, b.File.Runs[0].Run.Shard = nil, nil
	f, err := Merge([]Part{a, b})
	if err != nil || len(f.Results()) != 4 {
		t.Errorf("%v, %+v", err, f)
	}
}

// However a run is dealt out, its shards together are the whole, and each loss of
// one is noticed.
func TestMergeProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.IntRange(0, 40).Draw(t, "total")
		count := rapid.IntRange(1, 8).Draw(t, "count")
		var parts []Part
		for i := range count {
			parts = append(parts, shard(i+1, count, total*i/count, total*(i+1)/count, total))
		}
		parts = rapid.Permutation(parts).Draw(t, "order")
		f, err := Merge(parts)
		if err != nil || len(f.Results()) != total {
			t.Fatalf("%d of %d results, %v", len(f.Results()), total, err)
		}
		if count > 1 {
			if _, err := Merge(parts[1:]); !errors.Is(err, ErrIncomplete) {
				t.Fatalf("without %s: %v", parts[0].Name, err)
			}
		}
		if _, err := Merge(append(parts, parts[0])); !errors.Is(err, ErrMerge) {
			t.Fatalf("%s twice: %v", parts[0].Name, err)
		}
	})
}

// FuzzMerge: whatever two files hold, joining them does not crash, loses no result
// and makes none up.
func FuzzMerge(f *testing.F) {
	f.Add(encode(f, sampleResult()), encode(f, Result{Scenario: "b", Repetition: 1, Verdict: Pass}))
	f.Add([]byte(`{"run":{"format":"ds4bench/1","shard":{"index":1,"count":2}}}`), []byte(`{"run":{"format":"ds4bench/1","shard":{"index":2,"count":2}}}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		fa, errA := Read(bytes.NewReader(a), "a")
		fb, errB := Read(bytes.NewReader(b), "b")
		if errA != nil || errB != nil {
			return
		}
		joint, err := Merge([]Part{{"a", fa}, {"b", fb}})
		if joint == nil && err == nil {
			t.Fatal("neither a file nor an error")
		}
		if joint != nil && len(joint.Results()) != len(fa.Results())+len(fb.Results()) {
			t.Fatalf("%d results of %d and %d", len(joint.Results()), len(fa.Results()), len(fb.Results()))
		}
	})
}
