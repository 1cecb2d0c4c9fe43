package html

import (
	"fmt"
	"html/template"
	"slices"
	"strings"

	"ds4/reports"
	"ds4/reports/stat"
)

// Limits of the part about speed.
const (
	maxSeries = 4   // curves of one chart, and a baseline
	maxPoints = 256 // frontiers of one curve
)

// speedView is the part about throughput.
type speedView struct {
	Series    []seriesView
	Prefill   template.HTML
	Decode    template.HTML
	Residuals template.HTML
	Rows      []speedRow
	Fits      []string
	Warnings  []string
}

// seriesView is an entry of the legend.
type seriesView struct{ Name, Style string }

type speedRow struct {
	Series, Context, New, Samples string
	Prefill, PrefillInterval      string
	Decode, DecodeInterval        string
}

// speedGroup is the rounds of one server on one host.
type speedGroup struct {
	name    string
	results []reports.Result
}

// speedGroups collects rounds by what they measured, in the order of appearance.
func speedGroups(runs []reports.Log) []speedGroup {
	var groups []speedGroup
	for _, log := range runs {
		for _, r := range log.Results {
			if len(r.Frontiers) == 0 {
				continue
			}
			name := speedName(log.Run, r.Side)
			i := slices.IndexFunc(groups, func(g speedGroup) bool { return g.name == name })
			if i < 0 {
				i = len(groups)
				groups = append(groups, speedGroup{name: name})
			}
			groups[i].results = append(groups[i].results, r)
		}
	}
	return groups
}

// speedName tells servers apart.
func speedName(run reports.Run, side string) string {
	s := run.Server
	if side == reports.SideB && run.ServerB != nil {
		s = *run.ServerB
	}
	if side != "" {
		side = strings.ToUpper(side) + ":"
	}
	return strings.Join(present(side, serverName(s), s.Model, s.KernelSet, run.Host.Name), " ")
}

func newSpeed(runs []reports.Log, opt Options) (*speedView, error) {
	v := &speedView{}
	var prefill, decode, fitted []series
	add := func(g speedGroup, style string, baseline bool) error {
		rows, fit, warnings, err := stat.Frontiers(g.results)
		if err != nil {
			return err
		}
		if len(rows) > maxPoints {
			v.Warnings = append(v.Warnings, fmt.Sprintf("%s: only the first %d of %d frontiers are shown", cell(g.name), maxPoints, len(rows)))
			rows = rows[:maxPoints]
		}
		name := cell(g.name)
		if baseline {
			name = "baseline: " + name
		}
		v.Series = append(v.Series, seriesView{name, style})
		p := series{name: name, style: style, baseline: baseline, fit: fit}
		d := series{name: name, style: style, baseline: baseline}
		samples := samplesByFrontier(g.results)
		for _, r := range rows {
			at := samples[r.FrontierTokens]
			p.points = append(p.points, chartPoint{float64(r.ContextTokens), r.Prefill, at.prefill})
			if r.HasDecode {
				d.points = append(d.points, chartPoint{float64(r.ContextTokens), r.Decode, at.decode})
			}
			v.Rows = append(v.Rows, newSpeedRow(name, r))
		}
		prefill = append(prefill, p)
		if len(d.points) > 0 {
			decode = append(decode, d)
		}
		if fit != nil {
			fitted = append(fitted, p)
			v.Fits = append(v.Fits, fmt.Sprintf("%s: a prefilled token costs %.4f ms, and %+.4f ms for each 1000 tokens of context before it (R² %.3f)",
				name, fit.BaseMS, fit.SlopeMS, fit.R2))
			if k := fit.Knee; k != nil {
				v.Fits = append(v.Fits, fmt.Sprintf("%s: the growth changes at %s tokens, from %+.4f to %+.4f ms for each 1000 tokens",
					name, number(float64(k.ContextTokens)), k.SlopeBeforeMS, k.SlopeAfterMS))
			}
		}
		for _, text := range warnings[:min(len(warnings), maxWarnings)] {
			v.Warnings = append(v.Warnings, printable(clip(name+": "+text, maxBlock)))
		}
		return nil
	}
	if old := speedGroups(opt.Baseline); len(old) > 0 { // first, so that it is drawn below the others
		if err := add(old[0], "baseline", true); err != nil {
			return nil, err
		}
	}
	groups := speedGroups(runs)
	for i, g := range groups[:min(len(groups), maxSeries)] {
		if err := add(g, fmt.Sprintf("s%d", i), false); err != nil {
			return nil, err
		}
	}
	if n := len(groups) - maxSeries; n > 0 {
		v.Warnings = append(v.Warnings, fmt.Sprintf("%s more are not shown", plural(n, "server")))
	}
	v.Prefill = drawCurves("prefill throughput against context", "context, tokens", "tokens/s", prefill)
	if len(decode) > 0 {
		v.Decode = drawCurves("decode throughput against context", "context, tokens", "tokens/s", decode)
	}
	if len(fitted) > 0 {
		v.Residuals = drawResiduals(fitted)
	}
	return v, nil
}

func newSpeedRow(name string, r stat.Frontier) speedRow {
	row := speedRow{
		Series: name, Context: number(float64(r.ContextTokens)), New: number(float64(r.ContextTokens - r.FromTokens)), Samples: number(float64(r.Prefill.N)),
		Prefill: number(r.Prefill.Median), PrefillInterval: interval(r.Prefill), Decode: dash, DecodeInterval: dash,
	}
	if r.HasDecode {
		row.Decode, row.DecodeInterval = number(r.Decode.Median), interval(r.Decode)
	}
	return row
}

func interval(s stat.Summary) string {
	if !s.HasInterval {
		return dash
	}
	return number(s.Lo) + " – " + number(s.Hi)
}

// rates are the samples of one frontier.
type rates struct{ prefill, decode []float64 }

func samplesByFrontier(results []reports.Result) map[int]rates {
	out := make(map[int]rates)
	for _, r := range results {
		for _, f := range r.Frontiers {
			at := out[f.FrontierTokens]
			at.prefill = append(at.prefill, f.PrefillTPS)
			if f.DecodeTPS > 0 {
				at.decode = append(at.decode, f.DecodeTPS)
			}
			out[f.FrontierTokens] = at
		}
	}
	return out
}
