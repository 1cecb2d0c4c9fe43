package run

import (
	"regexp"
	"strconv"
	"strings"

	"ds4/faults"
	"ds4/faults/proc"
	"ds4/reports"
)

// wantedRule is a rule that a start armed and that has to fire in its pass.
type wantedRule struct {
	text string // canonical
	log  int    // log position of the start
}

// firings collects what the log says about rules, in order of appearance.
func firings(log *proc.Log) []reports.Fault {
	if log == nil {
		return nil
	}
	var out []reports.Fault
	index := map[string]int{}
	for _, line := range log.Since(0) {
		f, ok := faults.ParseFiring(line.Text)
		if !ok {
			continue
		}
		i, known := index[f.Rule]
		if !known {
			i = len(out)
			index[f.Rule] = i
			out = append(out, reports.Fault{Rule: f.Rule})
		}
		if f.Fired {
			out[i].Fired++
		} else {
			out[i].Armed++
		}
	}
	return out
}

// countFired counts firings of the rules that match since a log position.
func countFired(log *proc.Log, from int, match func(rule string) bool) int64 {
	var n int64
	for _, line := range log.Since(from) {
		if f, ok := faults.ParseFiring(line.Text); ok && f.Fired && match(f.Rule) {
			n++
		}
	}
	return n
}

// ruleOf matches a rule by its point or operation, or by its whole text.
func ruleOf(name string) func(string) bool {
	return func(rule string) bool {
		point := rule // or the operation of a rule for system calls
		if end := strings.IndexAny(rule, "=(:"); end >= 0 {
			point = rule[:end]
		}
		return point == name || rule == name
	}
}

var ratePattern = regexp.MustCompile(`prefill chunk .* chunk=([0-9.]+) t/s`)

// lastRate is the prefill rate in the newest progress line of the log.
func lastRate(log *proc.Log) float64 {
	const look = 20
	lines := log.Since(max(log.Len()-look, 0))
	for i := len(lines) - 1; i >= 0; i-- {
		if m := ratePattern.FindStringSubmatch(lines[i].Text); m != nil {
			v, _ := strconv.ParseFloat(m[1], 64)
			return v
		}
	}
	return 0
}
