// Package benchfmt writes results in the Go benchmark format, so that benchstat
// and everything else that reads it can compare them.
//
// It promises lines that the reader of golang.org/x/perf takes without a
// complaint, every sample in a line of its own, and units that say whether more is
// better and whether values must be equal. Throughput at a frontier is the
// benchmark Speed/context=N, a load Load/workload=W/concurrency=N, what scenarios
// measure Scenario/NAME. Only passed repetitions have lines: figures of a failed one
// compare with nothing.
package benchfmt

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/perf/benchfmt"

	"ds4/reports"
)

// Write writes all runs, each under its own configuration.
func Write(w io.Writer, runs []reports.Log) error {
	out := benchfmt.NewWriter(w)
	for _, name := range units(runs) {
		for _, m := range metadata(name) {
			if err := out.Write(m); err != nil {
				return fmt.Errorf("benchfmt: %w", err)
			}
		}
	}
	for _, log := range runs {
		if _, err := io.WriteString(w, about(log.Run)); err != nil {
			return fmt.Errorf("benchfmt: %w", err)
		}
		config := configOf(log.Run)
		for _, r := range log.Results {
			if r.Verdict != reports.Pass {
				continue
			}
			for _, line := range lines(&r) {
				line.Config = config
				if err := out.Write(line); err != nil {
					return fmt.Errorf("benchfmt: %w", err)
				}
			}
		}
	}
	return nil
}

// about is a comment that says which server was measured. As configuration it would
// keep benchstat from comparing two of them.
func about(run reports.Run) string {
	s := run.Server
	return "# " + value(fmt.Sprintf("ds4bench %s, server %s %s %s", run.Command, s.Version, s.Commit, s.KernelSet)) + "\n"
}

// configOf is what has to be equal for a comparison: benchstat puts the rest into
// different tables. goos, goarch and cpu are names that it knows.
func configOf(run reports.Run) []benchfmt.Config {
	var list []benchfmt.Config
	for _, kv := range [][2]string{
		{"goos", run.Host.OS}, {"goarch", run.Host.Arch}, {"cpu", run.Host.CPU}, {"host", run.Host.Name}, {"model", run.Server.Model},
	} {
		if v := value(kv[1]); v != "" {
			list = append(list, benchfmt.Config{Key: kv[0], Value: []byte(v), File: true})
		}
	}
	return list
}

// value keeps a text on the line of its key.
func value(s string) string {
	const most = 200
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > most {
		s = string(r[:most])
	}
	return strings.TrimSpace(s)
}

// word makes one field of a line.
func word(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar {
			return '_'
		}
		return r
	}, value(s))
	if s == "" {
		return "_"
	}
	return s
}

// lines are the benchmark results of one repetition: as many as its metric with
// the most samples has.
func lines(r *reports.Result) []*benchfmt.Result {
	var out []*benchfmt.Result
	name := "Scenario/" + word(r.Scenario)
	if r.Load != nil {
		name = fmt.Sprintf("Load/workload=%s/concurrency=%d", word(r.Load.Workload), r.Load.Concurrency)
	}
	names := r.MetricNames()
	for i := 0; ; i++ {
		names = slices.DeleteFunc(names, func(name string) bool { return i >= len(r.Metrics[name].Samples) })
		var values []benchfmt.Value
		for _, name := range names {
			values = append(values, benchfmt.Value{Value: r.Metrics[name].Samples[i], Unit: word(name)})
		}
		if len(values) == 0 {
			break
		}
		out = append(out, &benchfmt.Result{Name: benchfmt.Name(name), Iters: 1, Values: values})
	}
	for _, f := range r.Frontiers {
		line := &benchfmt.Result{Name: benchfmt.Name(fmt.Sprintf("Speed/context=%d", f.FrontierTokens)), Iters: 1,
			Values: []benchfmt.Value{{Value: f.PrefillTPS, Unit: reports.MetricPrefillTPS}}}
		if f.DecodeTPS > 0 {
			line.Values = append(line.Values, benchfmt.Value{Value: f.DecodeTPS, Unit: reports.MetricDecodeTPS})
		}
		out = append(out, line)
	}
	return out
}

// units lists the units of all lines.
func units(runs []reports.Log) []string {
	seen := make(map[string]bool)
	var list []string
	add := func(name string) {
		if name = word(name); !seen[name] {
			seen[name] = true
			list = append(list, name)
		}
	}
	for _, log := range runs {
		for i := range log.Results {
			if log.Results[i].Verdict != reports.Pass {
				continue
			}
			for _, line := range lines(&log.Results[i]) {
				for _, v := range line.Values {
					add(v.Unit)
				}
			}
		}
	}
	slices.Sort(list)
	return list
}

// metadata says what is better, and what is no measurement but a count.
func metadata(name string) []*benchfmt.UnitMetadata {
	unit := reports.Unit(name)
	tell := func(key, value string) *benchfmt.UnitMetadata {
		return &benchfmt.UnitMetadata{UnitMetadataKey: benchfmt.UnitMetadataKey{Unit: name, Key: key}, OrigUnit: name, Value: value}
	}
	switch {
	case unit == "tokens/s":
		return []*benchfmt.UnitMetadata{tell("better", "higher")}
	case unit == "ms":
		return []*benchfmt.UnitMetadata{tell("better", "lower")}
	case reports.Exact(unit):
		return []*benchfmt.UnitMetadata{tell("assume", "exact")}
	}
	return nil
}
