package stat

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"ds4/reports"
)

// Frontier summarises what every round measured at one frontier.
type Frontier struct {
	FrontierTokens int     // as it was asked for
	ContextTokens  int     // as it was reached, median of the rounds
	FromTokens     int     // where the measured interval began
	Prefill        Summary // tokens per second over the interval
	Decode         Summary // tokens per second of the probe
	HasDecode      bool
	// Ceiling is decode in percent of what the memory allows: bytes that a token has
	// to read times tokens per second, of the read bandwidth measured beside it.
	Ceiling    Summary
	HasCeiling bool
}

// Frontiers summarises speed rounds by frontier, in growing order, and fits the
// growth of prefill cost through their medians. The fit is absent (nil) with
// fewer than three frontiers. Warnings name their frontiers; those of the rounds
// themselves are not repeated.
func Frontiers(results []reports.Result) (rows []Frontier, fit *Growth, warnings []string, err error) {
	byFrontier := make(map[int][]reports.Frontier)
	ceilings := make(map[int][]float64)
	for _, r := range results {
		for _, f := range r.Frontiers {
			byFrontier[f.FrontierTokens] = append(byFrontier[f.FrontierTokens], f)
			if r.Machine != nil && r.Machine.ReadBPS > 0 && f.DecodeReadBytes > 0 {
				ceilings[f.FrontierTokens] = append(ceilings[f.FrontierTokens], 100*f.DecodeReadBytes*f.DecodeTPS/r.Machine.ReadBPS)
			}
		}
	}
	var intervals []Interval
	var doubts warningList
	for _, tokens := range sortedKeys(byFrontier) {
		row, err := frontier(tokens, byFrontier[tokens])
		if err != nil {
			return nil, nil, nil, fmt.Errorf("frontier %d: %w", tokens, err)
		}
		row.Ceiling, row.HasCeiling = summary(ceilings[tokens])
		doubts.add(fmt.Sprintf("prefill at %d", tokens), row.Prefill.Warnings)
		doubts.add(fmt.Sprintf("decode at %d", tokens), row.Decode.Warnings)
		rows = append(rows, row)
		if row.Prefill.Median > 0 && row.ContextTokens > row.FromTokens {
			v := Interval{FromTokens: row.FromTokens, ToTokens: row.ContextTokens, MSPerToken: 1000 / row.Prefill.Median}
			if row.Prefill.HasInterval && row.Prefill.Lo > 0 {
				v.LoMS, v.HiMS = 1000/row.Prefill.Hi, 1000/row.Prefill.Lo
			}
			intervals = append(intervals, v)
		}
	}
	warnings = doubts.lines()
	if g, err := FitGrowth(intervals); err == nil {
		fit = &g
		warnings = append(warnings, g.Warnings...)
	}
	return rows, fit, warnings, nil
}

// warningList collects equal warnings of several places into one line each.
type warningList struct {
	texts  []string // in the order of appearance
	places map[string][]string
}

func (l *warningList) add(place string, texts []string) {
	for _, text := range texts {
		if l.places == nil {
			l.places = make(map[string][]string)
		}
		if l.places[text] == nil {
			l.texts = append(l.texts, text)
		}
		l.places[text] = append(l.places[text], place)
	}
}

func (l *warningList) lines() []string {
	var out []string
	for _, text := range l.texts {
		out = append(out, strings.Join(l.places[text], ", ")+": "+text)
	}
	return out
}

// frontier summarises the samples of one frontier.
func frontier(tokens int, samples []reports.Frontier) (Frontier, error) {
	var contexts, froms, prefill, decode []float64
	for _, f := range samples {
		contexts = append(contexts, float64(f.ContextTokens))
		froms = append(froms, float64(f.ContextTokens-f.EvaluatedTokens))
		prefill = append(prefill, f.PrefillTPS)
		if f.DecodeTPS > 0 {
			decode = append(decode, f.DecodeTPS)
		}
	}
	row := Frontier{FrontierTokens: tokens, HasDecode: len(decode) > 0}
	for _, part := range []struct {
		samples []float64
		into    *Summary
	}{{prefill, &row.Prefill}, {decode, &row.Decode}} {
		if len(part.samples) == 0 {
			continue
		}
		s, err := Summarize(part.samples)
		if err != nil {
			return row, err
		}
		*part.into = s
	}
	context, err := Summarize(contexts)
	if err != nil {
		return row, err
	}
	from, err := Summarize(froms)
	if err != nil {
		return row, err
	}
	row.ContextTokens, row.FromTokens = int(context.Median), int(from.Median)
	return row, nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
