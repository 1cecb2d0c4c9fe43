package reports

// Group is every repetition of one scenario, in the order in which they came.
type Group struct {
	Scenario string
	Results  []Result
}

// GroupByScenario collects results by scenario, in the order in which scenarios
// first appear.
func GroupByScenario(results []Result) []Group {
	var groups []Group
	at := make(map[string]int)
	for _, r := range results {
		i, ok := at[r.Scenario]
		if !ok {
			i = len(groups)
			at[r.Scenario] = i
			groups = append(groups, Group{Scenario: r.Scenario})
		}
		groups[i].Results = append(groups[i].Results, r)
	}
	return groups
}

// Verdict is the worst verdict of the group: a failure outweighs everything, an
// inconclusive repetition a pass, and a skipped one counts only among its kind.
func (g Group) Verdict() Verdict { return Worst(g.Results) }

// Worst is the verdict of several results together; nothing at all is skipped.
func Worst(results []Result) Verdict {
	rank := map[Verdict]int{Skipped: 0, Pass: 1, Inconclusive: 2, Fail: 3}
	worst := Skipped
	for _, r := range results {
		if rank[r.Verdict] > rank[worst] {
			worst = r.Verdict
		}
	}
	return worst
}

// Samples joins the samples of a metric over all repetitions.
func (g Group) Samples(metric string) []float64 {
	var all []float64
	for _, r := range g.Results {
		all = append(all, r.Metrics[metric].Samples...)
	}
	return all
}

// Count is how many results have each verdict.
func Count(results []Result) map[Verdict]int {
	counts := make(map[Verdict]int)
	for _, r := range results {
		counts[r.Verdict]++
	}
	return counts
}
